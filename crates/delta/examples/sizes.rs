//! Makes the deltas of cases and applies them: `cargo run --release --example sizes -- DIRECTORY [CASE …]`.
//!
//! `VERBOSE=1` shows what is in the streams, `RSYNC=1` the size of balenaEngine's delta.
//!
//! A case is a directory with `old` and `new`, each an unpacked docker-save archive: manifest.json and plain layer tars.

use delta::make::{self, Survey};
use delta::{Contents, Delta, FileId, Limits, Target, rsync};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

struct Tars<'a> {
    base: Vec<(File, &'a Survey)>,
    target: (File, &'a Survey),
}

impl Contents for Tars<'_> {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (tar, survey) = &self.base[file.layer as usize];
        let start = survey.offset(file.entry).ok_or(io::ErrorKind::NotFound)?;
        tar.read_exact_at(into, start + offset)
    }

    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (tar, survey) = &self.target;
        let start = survey.offset(entry).ok_or(io::ErrorKind::NotFound)?;
        tar.read_exact_at(into, start + offset)
    }
}

fn layers(image: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let manifest: serde_json::Value = serde_json::from_reader(File::open(image.join("manifest.json"))?)?;
    let names = manifest[0]["Layers"].as_array().ok_or("no layers")?;
    Ok(names
        .iter()
        .filter_map(|name| name.as_str())
        .map(|name| image.join(name))
        .collect())
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn memory_mb(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or("");
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse().ok())
        .unwrap_or(0u64)
        / 1024
}

fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Applies a delta in this process, checked to the digest, and prints CPU seconds and how much memory was added.
fn apply(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [delta, target, old @ ..] = arguments else {
        return Err("usage: --apply DELTA TARGET OLD …".into());
    };
    let opened = Delta::open(BufReader::new(File::open(delta)?), Limits { tar_bytes: 1 << 40 })?;
    let survey = |path: &String| -> Result<Survey, Box<dyn Error>> { Ok(Survey::read(File::open(path)?)?) };
    let base: Vec<(&String, Survey)> = old
        .iter()
        .map(|path| Ok((path, survey(path)?)))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let find = |id: &oci::digest::Digest| base.iter().find(|(_, survey)| survey.diff_id() == id);
    let wanted: Vec<&(&String, Survey)> = opened
        .header()
        .base
        .iter()
        .map(|layer| find(&layer.diff_id).ok_or("no such layer"))
        .collect::<Result<_, _>>()?;
    let layers = wanted
        .iter()
        .map(|(_, survey)| Arc::new(survey.layer().clone()))
        .collect();
    let target_survey = survey(target)?;
    let tars = Tars {
        base: wanted
            .iter()
            .map(|(path, survey)| Ok((File::open(path)?, survey)))
            .collect::<io::Result<_>>()?,
        target: (File::open(target)?, &target_survey),
    };
    let (start, before) = (cpu(), memory_mb("VmRSS"));
    reset_peak();
    let mut tar = Target::new(opened.pieces(layers)?, tars);
    io::copy(&mut tar, &mut io::sink())?;
    println!("{:8.2} {:8}", cpu() - start, memory_mb("VmHWM").saturating_sub(before));
    Ok(())
}

/// Bytes of the delta in balenaEngine's format, gzipped as a push would.
fn rsync_size(old: &[PathBuf], target: &Path) -> io::Result<u64> {
    let mut base: Box<dyn Read> = Box::new(io::empty());
    let mut bytes = 0;
    for path in old {
        let file = File::open(path)?;
        bytes += file.metadata()?.len();
        base = Box::new(base.chain(file));
    }
    let signature = rsync::Signature::read(&mut base, bytes)?;
    let mut packed = flate2::write::GzEncoder::new(Counter(0), flate2::Compression::new(6));
    rsync::write(&signature, &mut File::open(target)?, &mut packed)?;
    Ok(packed.finish()?.0)
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--apply") {
        return apply(&arguments[1..]);
    }
    let root = PathBuf::from(arguments.first().ok_or("usage: sizes DIRECTORY [CASE …]")?);
    let verbose = std::env::var_os("VERBOSE").is_some();
    println!(
        "case         layer      tar MB   gzip MB     delta   ratio  make s  peak MB  gzip s  apply s  peak MB    balena"
    );
    for case in &arguments[1..] {
        let old = layers(&root.join(case).join("old"))?;
        let new = layers(&root.join(case).join("new"))?;
        let (mut all_delta, mut all_gzip, mut all_tar) = (0, 0, 0);
        for path in &new {
            let name = path.file_name().ok_or("no name")?.to_string_lossy().into_owned();
            if old.iter().any(|old| old.file_name() == path.file_name()) {
                continue;
            }
            reset_peak();
            let start = cpu();
            let base: Vec<Survey> = old
                .iter()
                .map(|path| Survey::read(File::open(path).expect("a layer")))
                .collect::<Result<_, _>>()?;
            let target = Survey::read(File::open(path)?)?;
            let files = |base: &[&'_ Path]| -> io::Result<Vec<File>> { base.iter().map(File::open).collect() };
            let paths: Vec<&Path> = old.iter().map(PathBuf::as_path).collect();
            let mut tars = Tars {
                base: files(&paths)?.into_iter().zip(&base).collect(),
                target: (File::open(path)?, &target),
            };
            let out = std::env::temp_dir().join(format!("{}.delta", &name[..12]));
            let mut writer = BufWriter::new(File::create(&out)?);
            let references: Vec<&Survey> = base.iter().collect();
            let report = make::write(&references, &mut tars, &target, File::open(path)?, &mut writer)?;
            writer.flush()?;
            let (make_seconds, make_peak) = (cpu() - start, memory_mb("VmHWM"));

            let start = cpu();
            let mut packed = flate2::write::GzEncoder::new(io::sink(), flate2::Compression::new(6));
            io::copy(&mut File::open(path)?, &mut packed)?;
            packed.finish()?;
            let gzip_seconds = cpu() - start;
            let sizes: serde_json::Value =
                serde_json::from_reader(File::open(root.join(case).join("new/sizes.json"))?)?;
            let of_layer = |key: &str| {
                let layer = sizes.as_array()?.iter().find(|layer| {
                    layer["diff_id"]
                        .as_str()
                        .is_some_and(|id| name.starts_with(id.trim_start_matches("sha256:")))
                })?;
                layer[key].as_u64()
            };
            let gzip = of_layer("gzip6").ok_or("no size")?;

            // In a process of its own, which has nothing in memory but what a device would have.
            let mut child = Command::new(std::env::current_exe()?);
            child.arg("--apply").arg(&out).arg(path).args(&old);
            let applied = child.output()?;
            if !applied.status.success() {
                return Err(String::from_utf8_lossy(&applied.stderr).into_owned().into());
            }
            let applied = String::from_utf8(applied.stdout)?;
            let rsync = match std::env::var_os("RSYNC") {
                Some(_) => rsync_size(&old, path)?.to_string(),
                None => "-".into(),
            };
            println!(
                "{case:12} {:8} {:8.1} {:9.2} {:9} {:7.1} {make_seconds:7.2} {make_peak:8} {gzip_seconds:7.2} {} {rsync:>9}",
                &name[..8],
                target.tar_bytes() as f64 / 1e6,
                gzip as f64 / 1e6,
                report.bytes,
                gzip as f64 / report.bytes as f64,
                applied.trim_end(),
            );
            if verbose {
                for (stream, bytes, packed) in &report.streams {
                    println!("    {stream:11} {bytes:10} {packed:9}");
                }
                println!(
                    "    same, again, patched, new: {:?}",
                    report.ways.map(|way| (way.files, way.bytes))
                );
            }
            all_delta += report.bytes;
            all_gzip += gzip;
            all_tar += target.tar_bytes();
        }
        println!(
            "{case:12} all      {:8.1} {:9.2} {:9} {:7.1}  uncompressed / delta {:.1}",
            all_tar as f64 / 1e6,
            all_gzip as f64 / 1e6,
            all_delta,
            all_gzip as f64 / all_delta as f64,
            all_tar as f64 / all_delta as f64,
        );
    }
    Ok(())
}
