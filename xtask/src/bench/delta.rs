//! What an update costs: pulled in full, by balenaEngine's delta, by ours; what it takes to make and to apply.
//!
//! A case is a pair of images, each a directory with an unpacked docker-save archive: manifest.json and plain layer tars.
//! The cases come from a directory that is given, else from `../shared/cases` (built once, into `target/`), else from
//! files of this machine, which is a smaller set. One run each, for bytes do not vary, but of the CPU of an update the
//! median of several.

use super::floor::{self, Floor};
use super::measure::{Cgroup, Disk, watch};
use super::table::{Goal, Row};
use super::{Subject, chart};
use crate::command::{Result, output, run, target_dir};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tests::daemon::{Daemon, Kind, Options};
use tests::image::{INDEX, Image, Layer, MANIFEST, SCHEMA2, Tar, sha256};
use tests::{ground, http};

const DISK: u64 = 4 << 30;
const REPOSITORY: &str = "bench";
/// What an update may write more than the changed files have, of which docs/deltas.md tells what counts: a tenth, and this.
const EXTRA: f64 = 2e6;
/// How often an update is done for its CPU, of which the median counts: some take no more than 20 ms.
const RUNS: usize = 5;

/// A case with its goals: how many times smaller than the gzip pull, and than the uncompressed layers.
struct Known {
    name: &'static str,
    wire: f64,
    raw: Option<f64>,
    /// Generation's CPU in times of `gzip -6`.
    cpu: f64,
    /// Only so many layers count, from the lowest.
    layers: usize,
    /// What it is, for people.
    about: &'static str,
}

const KNOWN: &[Known] = &[
    known(
        "apt-add",
        145.0,
        Some(385.0),
        4.0,
        "one package more in an apt-get list",
    ),
    known("ghost", 41.0, Some(220.0), 4.0, "Ghost 1.18.0 to 1.18.4"),
    known("node-base", 8.0, Some(36.0), 12.0, "Node 6 to 4 under one app"),
    // Its goal is of the distribution's layer; the case has the same app on it, built anew.
    Known {
        layers: 1,
        ..known("secupd", 90.0, None, 4.0, "Debian, 13 packages newer")
    },
    known("gobin", 2190.0, None, 4.0, "Go program, one function"),
    known("rsbin", 24.0, None, 4.0, "Rust program, one function"),
    known("pyapp", 445.0, None, 4.0, "Django and NumPy patch releases"),
];

const fn known(name: &'static str, wire: f64, raw: Option<f64>, cpu: f64, about: &'static str) -> Known {
    Known {
        name,
        wire,
        raw,
        cpu,
        layers: usize::MAX,
        about,
    }
}

/// A case's figures.
#[derive(Default)]
struct Figures {
    /// Bytes of the layers that the new image has and the old one has not.
    uncompressed: f64,
    full: f64,
    balena: f64,
    /// As the table of 2017 counted: uncompressed layers to the raw delta.
    balena_raw: f64,
    ours: f64,
    /// Bytes of the files that change, in blocks: their content, their header, or both.
    space: f64,
    gzip_cpu: f64,
    make_cpu: f64,
    make_memory: f64,
    apply: Update,
    pull: Update,
}

/// What an update did to a device.
#[derive(Default)]
struct Update {
    cpu: f64,
    /// Above what the daemon had before.
    memory: f64,
    written: f64,
    /// … of that to the file system's journal.
    journal: Option<f64>,
    added: f64,
    by_delta: bool,
    /// What making the same files costs anybody, for an update by delta.
    floor: Floor,
}

pub fn measure(binary: &Path, cases: &Cases) -> Result<Vec<Row>> {
    let directory = &cases.directory;
    let mut names: Vec<String> = fs::read_dir(directory)
        .map_err(|e| format!("list {}: {e}", directory.display()))?
        .flatten()
        .filter(|entry| entry.path().join("new/manifest.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let place = |name: &String| {
        KNOWN
            .iter()
            .position(|known| known.name == *name)
            .unwrap_or(KNOWN.len())
    };
    names.sort_by_key(|name| (place(name), name.clone()));
    if let Ok(only) = std::env::var("BALENA_DELTA_ONLY") {
        names.retain(|name| only.split(',').any(|wanted| wanted == name));
    }
    let (mut rows, mut bars, mut product, mut count) = (Vec::new(), Vec::new(), 1.0f64, 0);
    for name in &names {
        println!("{name}");
        let known = KNOWN.iter().find(|known| known.name == *name);
        let layers = known.map_or(usize::MAX, |known| known.layers);
        let figures = case(binary, &directory.join(name), layers)?;
        product *= figures.balena / figures.ours;
        count += 1;
        bars.push(chart::Bars {
            name: name.clone(),
            about: known.map_or("", |known| known.about),
            values: [figures.full, figures.balena, figures.ours],
        });
        let own = of_case(name, &figures, known);
        super::table::print(name, &own);
        rows.extend(own);
    }
    if count > 0 {
        let mean = product.powf(1.0 / f64::from(count));
        rows.push(Row::new(
            "balena's delta / ours, geometric mean",
            "x",
            mean,
            None,
            Goal::AtLeast(4.0),
        ));
    }
    // Only what is complete may become the picture of the README.
    if KNOWN.iter().all(|known| names.iter().any(|name| name == known.name)) {
        let path = Path::new("docs/delta-sizes.svg");
        fs::write(path, chart::svg(&bars)).map_err(|e| format!("write {}: {e}", path.display()))?;
        println!("drew {}", path.display());
    }
    Ok(rows)
}

fn of_case(name: &str, f: &Figures, known: Option<&Known>) -> Vec<Row> {
    let row = |what: &str, unit, value, goal| Row::new(&format!("{name}: {what}"), unit, value, None, goal);
    let at_least = |goal: Option<f64>| goal.map_or(Goal::None, Goal::AtLeast);
    let most = f.space * 1.1 + EXTRA;
    // To the hundredth, as it is shown.
    let mb = |goal: f64| Goal::AtMost((goal / 1e4).round() / 100.0);
    let mut rows = vec![
        row("full pull, gzip", "MB", f.full / 1e6, Goal::None),
        row("balena's delta, gzip", "kB", f.balena / 1e3, Goal::None),
        row("our delta", "kB", f.ours / 1e3, Goal::AtMost(f.balena / 1e3)),
        row("full pull / balena's", "x", f.full / f.balena, Goal::None),
        row(
            "full pull / ours",
            "x",
            f.full / f.ours,
            at_least(known.map(|known| known.wire)),
        ),
        row("uncompressed / raw delta, balena's", "x", f.balena_raw, Goal::None),
        row(
            "uncompressed / raw delta, ours",
            "x",
            f.uncompressed / f.ours,
            at_least(known.and_then(|known| known.raw)),
        ),
        row("to make it: CPU", "s", f.make_cpu, Goal::None),
        row(
            "to make it: CPU / gzip -6",
            "x",
            f.make_cpu / f.gzip_cpu,
            Goal::AtMost(known.map_or(4.0, |known| known.cpu)),
        ),
        row(
            "to make it: peak memory",
            "MB",
            f.make_memory / 1e6,
            Goal::AtMost(256.0),
        ),
    ];
    if !f.apply.by_delta {
        println!("skipped: to apply it: the daemon did not use the delta");
        return rows;
    }
    rows.extend([
        row("files that change", "MB", f.space / 1e6, Goal::None),
        row("to apply it: CPU", "s", f.apply.cpu, Goal::None),
        row(
            "to apply it: CPU / full pull",
            "x",
            f.apply.cpu / f.pull.cpu,
            Goal::AtMost(0.5),
        ),
        row(
            "floor: CPU to read, hash, link or write",
            "s",
            f.apply.floor.cpu,
            Goal::None,
        ),
        row(
            "to apply it: CPU / floor",
            "x",
            f.apply.cpu / f.apply.floor.cpu,
            Goal::None,
        ),
        row(
            "to apply it: peak memory above idle",
            "MB",
            f.apply.memory / 1e6,
            Goal::AtMost(24.0),
        ),
        row(
            "to apply it: written to the device",
            "MB",
            f.apply.written / 1e6,
            mb(most),
        ),
        row(
            "... of that ext4's journal",
            "MB",
            f.apply.journal.unwrap_or(0.0) / 1e6,
            Goal::None,
        ),
        row(
            "floor: written to the device",
            "MB",
            f.apply.floor.written / 1e6,
            Goal::None,
        ),
        row(
            "floor: of that ext4's journal",
            "MB",
            f.apply.floor.journal.unwrap_or(0.0) / 1e6,
            Goal::None,
        ),
        row(
            "floor: directories, a block each",
            "MB",
            f.apply.floor.directories * 4096.0 / 1e6,
            Goal::None,
        ),
        row("to apply it: disk space added", "MB", f.apply.added / 1e6, mb(most)),
        row(
            "full pull: written to the device",
            "MB",
            f.pull.written / 1e6,
            Goal::None,
        ),
        row("full pull: disk space added", "MB", f.pull.added / 1e6, Goal::None),
    ]);
    rows
}

fn case(binary: &Path, directory: &Path, layers: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut cache = BTreeMap::new();
    let old = image(&directory.join("old"), layers, &mut cache)?;
    let new = image(&directory.join("new"), layers, &mut cache)?;
    let there: BTreeSet<&str> = old.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let fresh: Vec<&Layer> = new
        .layers
        .iter()
        .filter(|layer| !there.contains(layer.diff_id.as_str()))
        .collect();
    figures.full = fresh.iter().map(|layer| layer.size as f64).sum();
    for layer in &fresh {
        let (_, bytes, cpu) = &cache[&layer.diff_id];
        figures.uncompressed += bytes;
        figures.gzip_cpu += cpu;
    }
    drop(cache);

    figures.pull = update(
        binary,
        &old,
        &new,
        |subject, _, reference| {
            let ran = subject.client().run(&["pull", "--delta", "off", reference]);
            match ran.code {
                0 => Ok(ran.out),
                // A daemon that knows no deltas pulls in full anyway.
                _ => subject.ok(&["pull", reference]),
            }
        },
        |_, _| Ok(()),
    )?;
    let (mut ours, mut balena) = (Default::default(), Default::default());
    figures.apply = update(
        binary,
        &old,
        &new,
        |subject, _, reference| subject.ok(&["pull", reference]),
        |subject, names| {
            ours = generate(binary, subject, names, &new)?;
            balena = by_balena(binary, subject, names)?;
            Ok(())
        },
    )?;
    (figures.make_cpu, figures.make_memory, figures.ours, figures.space) = ours;
    (figures.balena, figures.balena_raw) = balena;
    Ok(figures)
}

/// Pulls the old image, does what is to be done between, and measures how the new one comes.
fn update(
    binary: &Path,
    old: &Image,
    new: &Image,
    pull: impl Fn(&Subject, &[String; 2], &str) -> Result<String>,
    between: impl FnOnce(&Subject, &[String; 2]) -> Result<()>,
) -> Result<Update> {
    let disk = Disk::make(DISK)?;
    let subject = Subject::start(Kind::Ours, binary, old, Some(disk.at().join("root")), None)?;
    let second = inside(subject.daemon.pid(), || subject.registry.push(REPOSITORY, "2", new))?;
    let names = [subject.reference.clone(), second];
    subject.ok(&["pull", "-q", &names[0]])?;
    between(&subject, &names)?;
    disk.sync()?;
    let idle = super::measure::Memory::of_all(&subject.cgroup.processes()).resident;
    let (cpu, written, used) = (subject.cgroup.cpu()?, disk.written()?, used(&disk)?);
    let journaled = disk.journaled();
    let before = layers(&disk)?;
    let (said, peaks) = watch(&subject.cgroup, || 0.0, || pull(&subject, &names, &names[1]));
    let said = said?;
    disk.sync()?;
    let mut done = Update {
        cpu: 0.0,
        memory: (peaks.resident - idle).max(0.0),
        written: disk.written()? - written,
        journal: disk.journaled().zip(journaled).map(|(now, before)| now - before),
        added: self::used(&disk)? - used,
        by_delta: said.contains("Delta from"),
        floor: Floor::default(),
    };
    let mut all = vec![subject.cgroup.cpu()? - cpu];
    if done.by_delta {
        let new: Vec<PathBuf> = layers(&disk)?.difference(&before).cloned().collect();
        done.floor = floor::measure(&disk, &new)?;
    }
    while all.len() < RUNS {
        subject.ok(&["rmi", &names[1]])?;
        disk.sync()?;
        let cpu = subject.cgroup.cpu()?;
        pull(&subject, &names, &names[1])?;
        disk.sync()?;
        all.push(subject.cgroup.cpu()? - cpu);
    }
    done.cpu = super::median(all);
    Ok(done)
}

/// The directories of all layers' files.
fn layers(disk: &Disk) -> Result<BTreeSet<PathBuf>> {
    let place = disk.at().join("root/overlay2");
    let list = fs::read_dir(&place).map_err(|e| format!("list {}: {e}", place.display()))?;
    let all = list.flatten().map(|entry| entry.path().join("diff"));
    Ok(all.filter(|diff| diff.is_dir()).collect())
}

/// Bytes in use on a disk.
fn used(disk: &Disk) -> Result<f64> {
    let text = output(Command::new("df").args(["-B1", "--output=used"]).arg(disk.at()))?;
    let number = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    number.ok_or_else(|| format!("df said {text:?}"))
}

/// Does something in the network of a process.
fn inside<T: Send>(pid: u32, work: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
    let joined = || {
        ground::join_network(pid)?;
        work()
    };
    match std::thread::scope(|scope| scope.spawn(joined).join()) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Makes our delta from registry to registry: CPU, peak memory, its bytes, and what it says that it adds.
fn generate(binary: &Path, subject: &Subject, names: &[String; 2], new: &Image) -> Result<(f64, f64, f64, f64)> {
    let cgroup = Cgroup::make(None)?;
    let directory = TempDir::new().map_err(|e| format!("make a directory: {e}"))?;
    let mut command = cgroup.command();
    command.arg(binary);
    command
        .args(["image", "delta", "--registry", "--push", "--temp"])
        .arg(directory.path());
    command.args(names);
    let (made, peaks) = watch(&cgroup, || 0.0, || inside(subject.daemon.pid(), || command.output()));
    let made = made?;
    if !made.status.success() {
        return Err(format!("image delta: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let tag = new.digest().replace(':', "-");
    let index = manifest(subject, &tag)?;
    let said = &index["manifests"][0]["annotations"];
    let number = |key: &str| said[key].as_str().and_then(|text| text.parse::<f64>().ok());
    let (Some(size), Some(space)) = (number("io.balena.delta.size"), number("io.balena.delta.space")) else {
        return Err(format!("the registry lists no delta: {index}"));
    };
    Ok((cgroup.cpu()?, peaks.resident, size, space))
}

/// Makes balenaEngine's delta by a daemon of its own and pushes it: bytes on the wire, and the ratio that it prints.
fn by_balena(binary: &Path, subject: &Subject, names: &[String; 2]) -> Result<(f64, f64)> {
    let options = Options {
        binary: binary.to_owned(),
        ..Options::default()
    };
    let pid = subject.daemon.pid();
    let daemon = inside(pid, || Daemon::start(Kind::Ours, options))?;
    let client = daemon.cli();
    let ok = |arguments: &[&str]| {
        let ran = client.run(arguments);
        match ran.code {
            0 => Ok(ran.out),
            _ => Err(format!("{arguments:?}: {}", ran.err)),
        }
    };
    for name in names {
        ok(&["pull", "-q", name])?;
    }
    let delta = names[0].rsplit_once(':').map(|(name, _)| format!("{name}:delta"));
    let delta = delta.ok_or("a reference without a tag")?;
    let said = ok(&[
        "image", "delta", "--format", "balena", "-t", &delta, &names[0], &names[1],
    ])?;
    let ratio = said
        .split("Delta size: ")
        .nth(1)
        .and_then(|rest| rest.split(", ").nth(1));
    let ratio = ratio
        .and_then(|rest| rest.split('x').next())
        .and_then(|text| text.parse().ok());
    ok(&["push", "-q", &delta])?;
    let pushed = manifest(subject, "delta")?;
    // A common layer is an empty tar.
    let sizes = pushed["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|layer| layer["size"].as_f64());
    let bytes = sizes.filter(|size| *size > 64.0).sum();
    Ok((bytes, ratio.ok_or_else(|| format!("no ratio in {said}"))?))
}

fn manifest(subject: &Subject, tag: &str) -> Result<Value> {
    let accept = [MANIFEST, SCHEMA2, INDEX].join(", ");
    let target = format!("/v2/{REPOSITORY}/manifests/{tag}");
    let port = subject.registry.port;
    let answer = inside(subject.daemon.pid(), || {
        http::local(port, "GET", &target, &[("Accept", &accept)], b"")
    })?;
    serde_json::from_slice(&answer.body).map_err(|e| format!("{target}: {e}: {}", answer.text()))
}

/// Layers by diff ID, each with its tar's bytes and the CPU seconds that gzip took.
type Cache = BTreeMap<String, (Layer, f64, f64)>;

/// Reads an unpacked archive. Layers that were read before come from the cache.
fn image(directory: &Path, most: usize, cache: &mut Cache) -> Result<Image> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("read {}: {e}", path.display()));
    let manifest: Value = serde_json::from_slice(&read(&directory.join("manifest.json"))?)
        .map_err(|e| format!("read manifest of {}: {e}", directory.display()))?;
    let names = manifest[0]["Layers"].as_array().into_iter().flatten();
    let mut layers = Vec::new();
    for name in names.filter_map(Value::as_str).take(most) {
        let path = directory.join(name);
        let tar = read(&path)?;
        let diff = sha256(&tar);
        if !cache.contains_key(&diff) {
            let (layer, cpu) = gzip(&path, &diff)?;
            cache.insert(diff.clone(), (layer, tar.len() as f64, cpu));
        }
        layers.push(cache[&diff].0.clone());
    }
    match layers.is_empty() {
        true => Err(format!("{} is no image", directory.display())),
        false => Ok(Image::new(layers, serde_json::json!({"Cmd": ["true"]}))),
    }
}

/// A layer by the program gzip, which everybody's figures are by, and the CPU seconds that it took.
fn gzip(path: &Path, diff: &str) -> Result<(Layer, f64)> {
    let before = childrens_cpu();
    let made = Command::new("gzip").args(["-6", "-n", "-c"]).arg(path).output();
    let made = made.map_err(|e| format!("start gzip: {e}"))?;
    let cpu = childrens_cpu() - before;
    if !made.status.success() {
        return Err(format!("gzip {} failed", path.display()));
    }
    let layer = Layer {
        digest: sha256(&made.stdout),
        diff_id: diff.to_string(),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        size: made.stdout.len() as u64,
        annotations: Default::default(),
        blob: made.stdout,
    };
    Ok((layer, cpu))
}

/// CPU seconds of this process's children that have ended.
fn childrens_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    // By the hundredth, as Linux counts for programs on all its architectures.
    (ticks(13) + ticks(14)) / 100.0
}

/// Where the cases are, each with an old and a new image.
pub struct Cases {
    directory: PathBuf,
    /// Removed with this, if they were made for this once.
    _kept: Option<TempDir>,
}

impl Cases {
    /// Those of a directory, or of `../shared/cases`, built once, or a smaller set of this machine's files.
    pub fn at_hand(given: Option<&str>) -> Result<Cases> {
        if let Some(given) = given
            .map(str::to_string)
            .or_else(|| std::env::var("BALENA_DELTA_CASES").ok())
        {
            return Ok(Cases {
                directory: PathBuf::from(given),
                _kept: None,
            });
        }
        let script = Path::new("../shared/cases/build_cases.sh");
        if script.is_file() {
            let place = target_dir().join("delta-cases");
            let (out, work) = (place.join("out"), place.join("work"));
            fs::create_dir_all(&place).map_err(|e| format!("make {}: {e}", place.display()))?;
            if !out.join("pyapp/new/manifest.json").is_file() {
                println!("building the cases into {}: this takes a while, once", place.display());
                let mut build = Command::new("bash");
                build.arg(script).env("CASES_OUT", &out).env("CASES_WORK", &work);
                run(&mut build).map_err(|e| {
                    format!(
                        "{e}; why is in {}/*/log: try again, or give a directory",
                        work.display()
                    )
                })?;
            }
            return Ok(Cases {
                directory: out,
                _kept: None,
            });
        }
        println!("no ../shared/cases here: a smaller set is made from this machine's files");
        let directory = TempDir::new().map_err(|e| format!("make a directory: {e}"))?;
        small(directory.path())?;
        Ok(Cases {
            directory: directory.path().to_owned(),
            _kept: Some(directory),
        })
    }
}

/// A tree of documents and programs of this machine; in the new one some differ, one is new, all have another time.
fn small(directory: &Path) -> Result<()> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for place in ["/usr/bin", "/usr/share/perl", "/usr/share/common-licenses"] {
        gather(Path::new(place), &mut paths);
    }
    paths.sort();
    paths.truncate(1500);
    for (which, time) in [("old", 1_600_000_000), ("new", 1_700_000_000)] {
        let mut tar = Tar::default();
        for (number, path) in paths.iter().enumerate() {
            let Ok(mut content) = fs::read(path) else { continue };
            if which == "new" && number % 50 == 0 {
                let middle = content.len() / 2;
                content.splice(middle..middle, *b"changed here\n");
            }
            let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
            let mut entry = oci_entry(&name, content.len() as u64);
            entry.mtime.seconds = time;
            tar = tar.entry(&entry, &content);
        }
        let bytes = tar.bytes();
        let place = directory.join("small").join(which);
        fs::create_dir_all(&place).map_err(|e| format!("make {}: {e}", place.display()))?;
        for (name, bytes) in [
            ("layer.tar", &bytes[..]),
            ("manifest.json", br#"[{"Layers":["layer.tar"]}]"#),
        ] {
            fs::write(place.join(name), bytes).map_err(|e| format!("write {name}: {e}"))?;
        }
    }
    Ok(())
}

fn oci_entry(name: &str, size: u64) -> oci::tar::Entry {
    let mut entry = oci::tar::Entry::new(oci::tar::Kind::Regular, name);
    (entry.mode, entry.size) = (0o644, size);
    entry
}

fn gather(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            gather(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}
