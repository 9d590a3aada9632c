//! What a pull of a realistic image costs, each on a fresh disk of its own, and what it does to a file in use.

use super::Subject;
use super::measure::{Disk, bytes_below, cached_below, uncache, watch};
use super::realistic::realistic;
use super::series::{Both, Series};
use super::table::{Goal, Row};
use crate::command::{Result, output, run};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::Kind;
use tests::image::Image;

const ROUNDS: usize = 3;
const DISK: u64 = 4 << 30;
const HOT: u64 = 100 << 20;
const MEMORY: u64 = 256 << 20;
/// A fifth of 512 MB: what the kernel's defaults let a device of that size have dirty.
const DIRTY: u64 = 100 << 20;
/// Where our pulls keep what they would go on by.
const RECORDS: &str = "balena-pulls";

pub fn measure(binary: &Path) -> Result<Vec<Row>> {
    let (image, _) = realistic()?;
    let mut both = Both::default();
    both.rounds(ROUNDS, |kind, series| one(kind, binary, &image, false, series))?;
    both.each("as on a device with 512 MB of memory", |kind, series| {
        let mut small = Series::default();
        one(kind, binary, &image, true, &mut small)?;
        series.add("written small", small.median("written"));
        Ok(())
    })?;
    both.each("hot file", |kind, series| {
        series.add("hot", hot(kind, binary, &image)?);
        Ok(())
    })?;
    println!("plain extraction");
    let mut tar = Series::default();
    for _ in 0..ROUNDS {
        tar.add("requests", plain(&image)?);
    }
    let plain = tar.median("requests");
    let row = |name: &str, unit, key, scale: f64, goal| both.row(name, unit, key, scale, goal);
    let mib = f64::from(1u32 << 20);
    Ok(vec![
        row(
            "pull, to the end of the final sync: wall",
            "s",
            "wall",
            1.0,
            Goal::Ratio(1.0),
        ),
        row("... CPU", "s", "cpu", 1.0, Goal::Ratio(0.45)),
        row(
            "... page cache growth, peak",
            "MiB",
            "cache peak",
            mib,
            Goal::AtMost(64.0),
        ),
        row(
            "... files' pages still cached at the end",
            "MiB",
            "cached files",
            mib,
            Goal::AtMost(8.0),
        ),
        row(
            "... with the file system's own blocks",
            "MiB",
            "cache end",
            mib,
            Goal::None,
        ),
        row("... peak resident memory", "MB", "resident", 1e6, Goal::AtMost(24.0)),
        row("... peak anonymous memory", "MB", "anonymous", 1e6, Goal::None),
        row("... written to the device", "MB", "written", 1e6, Goal::Ratio(0.95)),
        row(
            "... written, as on a device with 512 MB of memory",
            "MB",
            "written small",
            1e6,
            Goal::Ratio(0.95),
        ),
        row("... write requests", "", "requests", 1.0, Goal::None),
        Row::new(
            "... write requests, relative to plain extraction by tar",
            "",
            both.ours.median("requests") / plain,
            Some(both.docker.median("requests") / plain),
            Goal::AtMost(1.2),
        ),
        row(
            "... device flushes per 4 MiB written",
            "",
            "flushes",
            1.0,
            Goal::AtMost(1.0),
        ),
        row("... not yet on the device on return", "MB", "unsynced", 1e6, Goal::None),
        row(
            "... temporary files of compressed layers",
            "MB",
            "temporary",
            1e6,
            Goal::AtMost(0.0),
        ),
        row(
            "... records to go on by, left after it",
            "MB",
            "records",
            1e6,
            Goal::AtMost(0.0),
        ),
        row(
            "100 MB file in use, 256 MB cgroup: still resident",
            "%",
            "hot",
            1.0,
            Goal::AtLeast(99.0),
        ),
    ])
}

fn one(kind: Kind, binary: &Path, image: &Image, small: bool, series: &mut Series) -> Result<()> {
    let disk = Disk::make(DISK)?;
    if small && !disk.limit_dirty(DIRTY)? {
        println!("skipped: this kernel (before 6.2) cannot limit the dirty pages of one device");
        return Ok(());
    }
    let root = disk.at().join("root");
    let subject = Subject::start(kind, binary, image, Some(root.clone()), None)?;
    disk.sync()?;
    // What a pull would go on by after a cut is no compressed layer, and has a row of its own.
    let temporary = || bytes_below(&root, &["overlay2", "image", RECORDS]);
    let (cpu, cache, written) = (subject.cgroup.cpu()?, subject.cgroup.cache(), disk.written()?);
    let (requests, flushes) = (disk.requests()?, disk.flushes()?);
    let resting = temporary();
    let start = Instant::now();
    let (pulled, peaks) = watch(&subject.cgroup, temporary, || {
        subject.ok(&["pull", "-q", &subject.reference])
    });
    pulled?;
    let returned = disk.written()?;
    disk.sync()?;
    series.add("wall", start.elapsed().as_secs_f64());
    series.add("cpu", subject.cgroup.cpu()? - cpu);
    series.add("cache peak", peaks.cache - cache);
    series.add("cache end", subject.cgroup.cache() - cache);
    series.add("cached files", cached_below(&root)?);
    series.add("resident", peaks.resident);
    series.add("anonymous", peaks.anonymous);
    series.add("written", disk.written()? - written);
    series.add("requests", disk.requests()? - requests);
    let quarters = (disk.written()? - written) / f64::from(4 << 20);
    series.add("flushes", (disk.flushes()? - flushes) / quarters.max(1.0));
    series.add("unsynced", disk.written()? - returned);
    series.add("records", bytes_below(&root.join(RECORDS), &[]));
    // A record of some kilobytes is no compressed layer.
    let passing = peaks.temporary - resting;
    series.add("temporary", if passing < 65_536.0 { 0.0 } else { passing });
    drop(subject);
    Ok(())
}

/// Write requests of tar, which unpacks the same layers into one directory, with the sync at the end.
fn plain(image: &Image) -> Result<f64> {
    let disk = Disk::make(DISK)?;
    let passing = tempfile::tempdir().map_err(|e| format!("make a directory: {e}"))?;
    let before = disk.requests()?;
    for layer in &image.layers {
        let file = passing.path().join("layer");
        fs::write(&file, &layer.blob).map_err(|e| format!("write {}: {e}", file.display()))?;
        run(Command::new("tar").arg("-xpzf").arg(&file).arg("-C").arg(disk.at()))?;
    }
    disk.sync()?;
    Ok(disk.requests()? - before)
}

/// Percent of a file in use that is still in memory after a pull by a daemon that shares its limit.
fn hot(kind: Kind, binary: &Path, image: &Image) -> Result<f64> {
    let disk = Disk::make(DISK)?;
    let file = disk.at().join("hot");
    let subject = Subject::start(kind, binary, image, Some(disk.at().join("root")), Some(MEMORY))?;
    fs::write(&file, vec![7; usize::try_from(HOT).map_err(|e| e.to_string())?])
        .map_err(|e| format!("write {}: {e}", file.display()))?;
    disk.sync()?;
    // Out of this process's account, then into the daemon's, read often enough to count as in use.
    uncache(&file)?;
    let read = "for i in 1 2 3 4; do cat \"$1\" > /dev/null || exit 1; done";
    run(subject.cgroup.command().args(["sh", "-c", read, "sh"]).arg(&file))?;
    let before = resident(&file)?;
    if before < 99.0 {
        return Err(format!(
            "the file in use is not resident before the pull ({before:.0} %)"
        ));
    }
    subject.ok(&["pull", "-q", &subject.reference])?;
    std::thread::sleep(Duration::from_millis(500));
    resident(&file)
}

fn resident(file: &Path) -> Result<f64> {
    let bytes = output(
        Command::new("fincore")
            .args(["--bytes", "--noheadings", "--output", "RES"])
            .arg(file),
    )?;
    let bytes: f64 = bytes.trim().parse().map_err(|e| format!("fincore: {e}"))?;
    Ok(bytes / HOT as f64 * 100.0)
}
