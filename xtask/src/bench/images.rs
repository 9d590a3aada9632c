//! What it costs to load, save, push and verify a realistic image, each daemon on a fresh disk of its own.
//!
//! An image that was loaded is known to no registry, so its push has to send everything. The round trip is the way an
//! image takes without a registry: saved to a file, removed, loaded again.

use super::measure::{Disk, cached_below, watch};
use super::realistic::realistic;
use super::series::{Both, Series};
use super::table::{Goal, Row};
use super::{Subject, busybox};
use crate::command::{Result, run};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tests::Kind;

const ROUNDS: usize = 3;
const DISK: u64 = 4 << 30;
const NAME: &str = "bench/loaded:1";
/// What a fast SD card or a slow eMMC reads, in bytes a second.
const CARD: u64 = 90_000_000;

pub fn measure(binary: &Path) -> Result<Vec<Row>> {
    let (image, bytes) = realistic()?;
    let place = tempfile::tempdir().map_err(|e| format!("make a directory: {e}"))?;
    let archive = place.path().join("image.tar");
    std::fs::write(&archive, image.docker_archive(NAME)).map_err(|e| format!("write {}: {e}", archive.display()))?;
    let mut both = Both::default();
    both.rounds(ROUNDS, |kind, series| one(kind, binary, &archive, place.path(), series))?;
    println!("a disk as fast as a card");
    slow(binary, &archive, bytes, &mut both.ours)?;
    let row = |name: &str, unit, key, goal| both.row(name, unit, key, 1.0, goal);
    let alone = |name: &str, unit, key, scale: f64, goal| both.row_of_ours(name, unit, key, scale, goal);
    let mib = f64::from(1u32 << 20);
    Ok(vec![
        row(
            "load, to the end of the final sync: wall",
            "s",
            "load",
            Goal::Ratio(1.0),
        ),
        row("... CPU", "s", "load cpu", Goal::None),
        row("push of all layers: wall", "s", "push", Goal::Ratio(1.0)),
        row("... CPU", "s", "push cpu", Goal::None),
        row("save to a file: wall", "s", "save", Goal::Ratio(1.0)),
        row("... CPU", "s", "save cpu", Goal::None),
        row(
            "save | load, the layers being there: wall",
            "s",
            "pipe",
            Goal::Ratio(1.0),
        ),
        row(
            "save, rmi, load, to the end of the final sync: wall",
            "s",
            "trip",
            Goal::Ratio(1.0),
        ),
        alone(
            "verify --deep, a disk of 90 MB/s: of its sequential rate",
            "",
            "slow",
            1.0,
            Goal::AtLeast(0.8),
        ),
        alone("... this disk: rate", "MB/s", "rate", 1e6, Goal::None),
        alone(
            "... this disk, one file read sequentially",
            "MB/s",
            "sequential",
            1e6,
            Goal::None,
        ),
        alone(
            "... page cache growth, peak",
            "MiB",
            "cache peak",
            mib,
            Goal::AtMost(64.0),
        ),
        alone(
            "... files' pages still cached at the end",
            "MiB",
            "cached",
            mib,
            Goal::AtMost(8.0),
        ),
    ])
}

fn one(kind: Kind, binary: &Path, archive: &Path, place: &Path, series: &mut Series) -> Result<()> {
    let disk = Disk::make(DISK)?;
    let root = disk.at().join("root");
    let subject = Subject::start(kind, binary, &busybox()?, Some(root.clone()), None)?;
    disk.sync()?;
    let archive = archive.display().to_string();
    let timed = |series: &mut Series, name: &'static str, cpu_name: &'static str, work: &dyn Fn() -> Result<()>| {
        let (cpu, start) = (subject.cgroup.cpu()?, Instant::now());
        work()?;
        series.add(name, start.elapsed().as_secs_f64());
        series.add(cpu_name, subject.cgroup.cpu()? - cpu);
        Ok::<(), String>(())
    };
    timed(series, "load", "load cpu", &|| {
        subject.ok(&["load", "-q", "-i", &archive])?;
        disk.sync()
    })?;
    let name = subject.registry.name("loaded");
    subject.ok(&["tag", NAME, &name])?;
    timed(series, "push", "push cpu", &|| {
        subject.ok(&["push", "-q", &name]).map(drop)
    })?;
    let saved = place.join("saved.tar").display().to_string();
    timed(series, "save", "save cpu", &|| {
        subject.ok(&["save", "-o", &saved, NAME]).map(drop)
    })?;
    timed(series, "pipe", "pipe cpu", &|| {
        pipe(&subject)?;
        disk.sync()
    })?;
    timed(series, "trip", "trip cpu", &|| {
        subject.ok(&["save", "-o", &saved, NAME])?;
        subject.ok(&["rmi", NAME, &name])?;
        subject.ok(&["load", "-q", "-i", &saved])?;
        disk.sync()
    })?;
    if kind == Kind::Docker {
        return Ok(());
    }
    let content = subject.ok(&["image", "inspect", "-f", "{{.Size}}", NAME])?;
    let content: f64 = content.parse().map_err(|e| format!("size of {NAME}: {e}"))?;
    disk.forget()?;
    let cache = subject.cgroup.cache();
    let start = Instant::now();
    let (verified, peaks) = watch(
        &subject.cgroup,
        || 0.0,
        || subject.ok(&["image", "verify", "--deep", NAME]),
    );
    verified?;
    series.add("rate", content / start.elapsed().as_secs_f64());
    series.add("cache peak", peaks.cache - cache);
    series.add("cached", cached_below(&root)?);
    series.add("sequential", sequential(&subject, &disk, content)?);
    Ok(())
}

/// The rate at which one file of the same size is read from a disk, by a process of the daemon's cgroups.
fn sequential(subject: &Subject, disk: &Disk, bytes: f64) -> Result<f64> {
    let file = disk.at().join("sequential").display().to_string();
    let mebibytes = (bytes / f64::from(1u32 << 20)).ceil();
    run(Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "oflag=direct", "status=none"])
        .args([format!("count={mebibytes}"), format!("of={file}")]))?;
    disk.forget()?;
    let start = Instant::now();
    let dd = ["dd", "of=/dev/null", "bs=1M", "status=none"];
    run(subject.cgroup.command().args(dd).arg(format!("if={file}")))?;
    Ok(mebibytes * f64::from(1u32 << 20) / start.elapsed().as_secs_f64())
}

/// A deep check on a disk that reads no faster than a card, beside one file of the same size.
fn slow(binary: &Path, archive: &Path, bytes: u64, series: &mut Series) -> Result<()> {
    let disk = Disk::make(DISK)?;
    let subject = Subject::start(Kind::Ours, binary, &busybox()?, Some(disk.at().join("root")), None)?;
    subject.ok(&["load", "-q", "-i", &archive.display().to_string()])?;
    subject.cgroup.limit_reads(&disk, CARD)?;
    let rate = sequential(&subject, &disk, bytes as f64)?;
    // Other work on this machine that holds the reading up would make the check look fast.
    if rate < CARD as f64 * 0.8 {
        return Err(format!(
            "one file is read at {rate:.0} bytes a second from a disk of {CARD}: try again"
        ));
    }
    disk.forget()?;
    let (read, start) = (disk.read()?, Instant::now());
    subject.ok(&["image", "verify", "--deep", NAME])?;
    // Blocks that files do not fill, and inodes, are read, too.
    series.add("slow", (disk.read()? - read) / start.elapsed().as_secs_f64() / rate);
    Ok(())
}

fn pipe(subject: &Subject) -> Result<()> {
    let spawn = |command: &mut Command| command.spawn().map_err(|e| format!("start a client: {e}"));
    let client = subject.client();
    let mut save = spawn(client.command(&["save", NAME]).stdout(Stdio::piped()))?;
    let stream = save.stdout.take().ok_or("save has no output")?;
    let mut load = spawn(client.command(&["load", "-q"]).stdin(stream).stdout(Stdio::null()))?;
    for (name, client) in [("load", &mut load), ("save", &mut save)] {
        let ended = client.wait().map_err(|e| format!("wait for {name}: {e}"))?;
        if !ended.success() {
            return Err(format!("{name} ended with {ended}"));
        }
    }
    Ok(())
}
