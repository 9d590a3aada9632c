//! What a pull of a realistic image costs, each on a fresh disk of its own, and what it does to a file in use.

use super::measure::{Disk, bytes_below, watch};
use super::table::{Goal, Row};
use super::{Subject, median};
use crate::command::{Result, output, run};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::Kind;
use tests::image::{Image, Layer, Tar};

const ROUNDS: usize = 3;
const DISK: u64 = 4 << 30;
const WANTED_BYTES: u64 = 290 << 20;
const WANTED_FILES: usize = 24_500;
const HOT: u64 = 100 << 20;
const MEMORY: u64 = 256 << 20;
/// A fifth of 512 MB: what the kernel's defaults let a device of that size have dirty.
const DIRTY: u64 = 100 << 20;
/// Where our pulls keep what they would go on by.
const RECORDS: &str = "balena-pulls";

/// One pull's figures.
#[derive(Default)]
pub(super) struct Series(BTreeMap<&'static str, Vec<f64>>);

impl Series {
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    pub fn median(&self, name: &str) -> f64 {
        median(self.0.get(name).cloned().unwrap_or_default())
    }
}

pub fn measure(binary: &Path) -> Result<Vec<Row>> {
    let (image, files, bytes) = realistic()?;
    let compressed: u64 = image.layers.iter().map(|layer| layer.size).sum();
    println!(
        "image: {files} files, {:.0} MB, {:.0} MB compressed, {} layers",
        bytes as f64 / 1e6,
        compressed as f64 / 1e6,
        image.layers.len()
    );
    let mut series = [Series::default(), Series::default()];
    for round in 1..=ROUNDS {
        for (which, kind) in [Kind::Docker, Kind::Ours].into_iter().enumerate() {
            println!("round {round} of {ROUNDS}: {kind:?}");
            one(kind, binary, &image, false, &mut series[which])?;
        }
    }
    for (which, kind) in [Kind::Docker, Kind::Ours].into_iter().enumerate() {
        println!("as on a device with 512 MB of memory: {kind:?}");
        let mut small = Series::default();
        one(kind, binary, &image, true, &mut small)?;
        series[which].add("written small", small.median("written"));
        println!("hot file: {kind:?}");
        let resident = hot(kind, binary, &image)?;
        series[which].add("hot", resident);
    }
    println!("plain extraction");
    let mut tar = Series::default();
    for _ in 0..ROUNDS {
        tar.add("requests", plain(&image)?);
    }
    let plain = tar.median("requests");
    let [docker, ours] = &series;
    let row = |name: &str, unit, key, scale: f64, goal| {
        Row::new(
            name,
            unit,
            ours.median(key) / scale,
            Some(docker.median(key) / scale),
            goal,
        )
    };
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
            ours.median("requests") / plain,
            Some(docker.median("requests") / plain),
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
    run(Command::new("dd").arg(format!("of={}", file.display())).args([
        "oflag=nocache",
        "conv=notrunc,fdatasync",
        "count=0",
        "status=none",
    ]))?;
    let join: String = subject
        .cgroup
        .directories()
        .iter()
        .map(|directory| format!("echo $$ > {}/cgroup.procs && ", directory.display()))
        .collect();
    let read = format!(
        "{join} for i in 1 2 3 4; do cat {} > /dev/null || exit 1; done",
        file.display()
    );
    run(Command::new("sh").arg("-c").arg(read))?;
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

/// Bytes of the files below a directory that are in memory.
pub(super) fn cached_below(directory: &Path) -> Result<f64> {
    let line = "find \"$1\" -type f -size +0 -print0 | xargs -0 fincore --bytes --noheadings --output RES";
    let all = output(Command::new("sh").args(["-c", line, "sh"]).arg(directory))?;
    Ok(all.lines().filter_map(|line| line.trim().parse::<f64>().ok()).sum())
}

/// An image made of this machine's own files, in order of their names: three layers, with its files and bytes.
pub(super) fn realistic() -> Result<(Image, usize, u64)> {
    let mut all: Vec<(PathBuf, u64)> = Vec::new();
    for place in ["/usr/share", "/usr/lib", "/usr/bin", "/usr/include", "/usr/src"] {
        collect(Path::new(place), &mut all);
    }
    all.sort();
    // Small ones for their number, then whatever comes for the bytes.
    let mut chosen: Vec<(PathBuf, u64)> = Vec::new();
    let mut bytes = 0;
    for (path, size) in all.iter().filter(|(_, size)| *size < 16_384) {
        if chosen.len() >= WANTED_FILES - 500 {
            break;
        }
        bytes += size;
        chosen.push((path.clone(), *size));
    }
    for (path, size) in all.iter().filter(|(_, size)| (16_384..20_000_000).contains(size)) {
        if bytes >= WANTED_BYTES && chosen.len() >= WANTED_FILES {
            break;
        }
        if bytes < WANTED_BYTES || *size < 32_768 {
            bytes += size;
            chosen.push((path.clone(), *size));
        }
    }
    if bytes < WANTED_BYTES || chosen.len() < WANTED_FILES {
        return Err(format!(
            "only {} files with {bytes} bytes below /usr here: too few for a realistic image",
            chosen.len()
        ));
    }
    chosen.sort();
    let mut layers = Vec::new();
    // The second layer has most, as an application's does.
    let (first, rest) = chosen.split_at(chosen.len() / 4);
    let (second, third) = rest.split_at(rest.len() * 3 / 4);
    for part in [first, second, third] {
        let mut tar = Tar::default();
        let mut made: Vec<PathBuf> = Vec::new();
        for (path, _) in part {
            let inside = path.strip_prefix("/").unwrap_or(path);
            let parents: Vec<&Path> = inside
                .ancestors()
                .skip(1)
                .filter(|p| !p.as_os_str().is_empty())
                .collect();
            for parent in parents.into_iter().rev() {
                if !made.iter().any(|known| known == parent) {
                    tar = tar.dir(&parent.display().to_string(), 0o755);
                    made.push(parent.to_owned());
                }
            }
            let content = fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
            let mode = fs::metadata(path).map_or(0o644, |data| data.permissions().mode() & 0o755);
            tar = tar.file(&inside.display().to_string(), mode, &content);
        }
        layers.push(Layer::gzip(&tar.bytes()));
    }
    Ok((
        Image::new(layers, serde_json::json!({"Cmd": ["true"]})),
        chosen.len(),
        bytes,
    ))
}

fn collect(directory: &Path, into: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(data) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        if data.is_dir() {
            collect(&entry.path(), into);
        } else if data.is_file() && entry.path().to_str().is_some() {
            into.push((entry.path(), data.len()));
        }
    }
}
