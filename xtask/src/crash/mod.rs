//! `cargo xtask crash`: power fails at thousands of moments, and nothing that was acknowledged may be lost.
//!
//! The engine itself (`crash/` in the checkout links it) pulls, tags, creates, commits and removes on a device whose
//! writes and flushes are logged. Any moment of the log, under each model of what a device may have kept, is mounted
//! by the kernel, recovered by the engine and judged by it. Known-bad variants go through the same in every run, and
//! each must be caught, or the campaign proves nothing. docs/durability.md tells the rest.

mod device;
mod log;
mod replay;

use crate::apt;
use crate::command::{Result, attempt, checkout, output, run, target_dir};
use device::{FileSystem, Logged};
use log::{Image, Log};
use replay::{Point, Replay};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const USAGE: &str =
    "usage: cargo xtask crash [--points N] [--fs ext4,xfs,btrfs] [--size MB] [--seed N] [--jobs N] [--keep DIR]";

/// Faults that each run must catch.
const KNOWN_BAD: [&str; 4] = ["no-data-sync", "record-first", "rename-without-sync", "files-first"];

/// Set inside the namespaces.
const INSIDE: &str = "XTASK_CRASH_INSIDE";

struct Plan {
    points: usize,
    file_systems: Vec<FileSystem>,
    /// Bytes of an image.
    size: u64,
    seed: u64,
    jobs: usize,
    /// Where failing images are kept.
    keep: Option<PathBuf>,
}

pub fn main(arguments: &[String]) -> Result<()> {
    let plan = parse(arguments)?;
    if !apt::is_root()? {
        return Err("this mounts file systems: run it as root".into());
    }
    if std::env::var_os(INSIDE).is_none() {
        apt::ensure(apt::CRASH)?;
        run(
            Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .current_dir(checkout())
                .args([
                    "build",
                    "--quiet",
                    "--locked",
                    "--package",
                    "crash",
                    "--features",
                    "known-bad",
                ]),
        )?;
        // A mount and a PID namespace: however this ends, mounts, loop devices, daemons and files end with it. A first
        // process of a PID namespace hears no Ctrl-C, so the death of this one is what ends it.
        let this = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
        return run(Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .arg(this)
            .arg("crash")
            .args(arguments)
            .env(INSIDE, "1"));
    }
    let memory = target_dir().join("crash");
    std::fs::create_dir_all(&memory).map_err(|e| format!("make {}: {e}", memory.display()))?;
    output(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=80%", "crash"])
            .arg(&memory),
    )?;
    campaign(&plan, &memory)
}

fn parse(arguments: &[String]) -> Result<Plan> {
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut plan = Plan {
        points: 1000,
        file_systems: vec![FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs],
        size: 2 << 20,
        seed: 1,
        jobs,
        keep: None,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|_| USAGE.to_owned());
        match word.as_str() {
            "--points" => plan.points = usize::try_from(number()?).map_err(|_| USAGE)?,
            "--size" => plan.size = number()?.clamp(1, 500) << 20,
            "--seed" => plan.seed = number()?,
            "--jobs" => plan.jobs = usize::try_from(number()?).map_err(|_| USAGE)?.max(1),
            "--keep" => plan.keep = Some(value.into()),
            "--fs" => plan.file_systems = value.split(',').map(FileSystem::of_name).collect::<Result<_>>()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(plan)
}

/// One life on one device, and crashes in it.
#[derive(Clone, Debug)]
struct Run {
    file_system: FileSystem,
    fault: Option<&'static str>,
    seed: u64,
    /// How many; with a fault as many as it takes.
    points: usize,
}

impl Run {
    fn name(&self) -> String {
        let fault = self.fault.map(|fault| format!(", {fault}")).unwrap_or_default();
        format!("{}, seed {}{fault}", self.file_system.name(), self.seed)
    }
}

#[derive(Default)]
struct Tally {
    points: usize,
    failures: usize,
    /// Points after which a pull went on with what was there.
    resumed: usize,
    /// Per fault: points, and how many were caught.
    caught: BTreeMap<&'static str, (usize, usize)>,
    errors: Vec<String>,
}

/// Points of one life: enough of them that making it costs little.
const PER_RUN: usize = 100;

fn runs(plan: &Plan) -> Vec<Run> {
    let mut runs = Vec::new();
    // The first file system has all the faults: that the campaign can fail is shown once in a run.
    for fault in KNOWN_BAD {
        runs.push(Run {
            file_system: plan.file_systems[0],
            fault: Some(fault),
            seed: plan.seed,
            points: 0,
        });
    }
    let mut left = plan.points;
    for number in 0.. {
        if left == 0 {
            break;
        }
        let points = left.min(PER_RUN);
        left -= points;
        // Of four lives two are on the first file system, the one that devices have.
        let others = &plan.file_systems[1..];
        let file_system = match number % 2 {
            1 if !others.is_empty() => others[number / 2 % others.len()],
            _ => plan.file_systems[0],
        };
        runs.push(Run {
            file_system,
            fault: None,
            seed: plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64),
            points,
        });
    }
    runs
}

fn campaign(plan: &Plan, memory: &Path) -> Result<()> {
    let began = Instant::now();
    let driver = target_dir().join("debug/crash");
    let runs = runs(plan);
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for worker in 0..plan.jobs {
            let (runs, next, tally, driver) = (&runs, &next, &tally, &driver);
            scope.spawn(move || {
                let directory = memory.join(format!("worker{worker}"));
                while let Some(run) = runs.get(next.fetch_add(1, Relaxed)) {
                    if let Err(sentence) = live(plan, run, driver, &directory, tally) {
                        let mut tally = tally.lock().unwrap_or_else(|e| e.into_inner());
                        tally.errors.push(format!("{}: {sentence}", run.name()));
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(|e| e.into_inner());
    report(&tally, began)
}

fn report(tally: &Tally, began: Instant) -> Result<()> {
    for (fault, (points, caught)) in &tally.caught {
        println!("known bad: {fault}: caught at {caught} of {points} points");
    }
    println!("a pull was gone on with after {} points", tally.resumed);
    println!("{} seconds", began.elapsed().as_secs());
    println!("crash: {} points, {} failures", tally.points, tally.failures);
    let missed: Vec<_> = KNOWN_BAD
        .iter()
        .filter(|fault| tally.caught.get(*fault).is_none_or(|(_, caught)| *caught == 0))
        .collect();
    if let Some(error) = tally.errors.first() {
        return Err(error.clone());
    }
    if !missed.is_empty() {
        return Err(format!("not caught: {missed:?}: the campaign proves nothing"));
    }
    match tally.failures {
        0 => Ok(()),
        _ => Err("what was acknowledged was lost: see above".into()),
    }
}

/// Lets the engine live on a logged device, then crashes it at the run's points.
fn live(plan: &Plan, run: &Run, driver: &Path, directory: &Path, tally: &Mutex<Tally>) -> Result<()> {
    let _ = std::fs::remove_dir_all(directory);
    let at = directory.join("mounted");
    std::fs::create_dir_all(&at).map_err(|e| format!("make {}: {e}", at.display()))?;
    let (image, ledger) = (directory.join("image"), directory.join("ledger"));
    let size = run.file_system.device_size(plan.size);
    run.file_system.make(&image, size)?;
    let before = Image::read(&image)?;
    let logged = Logged::start(&image, directory)?;
    let mounted = run.file_system.mount(&logged.file, &at)?;
    let mut work = Command::new(driver);
    work.arg("work")
        .args([&at.join("root"), &ledger, &logged.log])
        .args([run.seed.to_string(), plan.size.to_string()])
        .args(run.fault);
    let worked = attempt(&mut work)?;
    mounted.unmount()?;
    let log = Log::read(&logged.finish()?)?;
    if !worked.status.success() {
        let said = String::from_utf8_lossy(&worked.stdout).into_owned();
        return Err(format!("the engine could not work: {}", said.trim()));
    }
    let passes = match run.fault {
        None => vec![replay::choose(&log, run.points, run.seed)],
        Some(_) => replay::around_flushes(&log),
    };
    for points in passes {
        let mut replay = Replay::start(&log, before.clone());
        for point in points {
            if run.fault.is_some_and(|fault| is_caught(tally, fault)) {
                return Ok(());
            }
            let (durable, above) = replay.at(point)?;
            durable.write(&above, &image, size)?;
            let position = log.requests.get(point.request).map_or(log.end, |(before, _)| *before);
            let verdict = judge(plan, run, driver, directory, position)?;
            record(plan, run, point, verdict, &image, tally, || {
                durable.write(&above, &image, size)
            })?;
        }
    }
    Ok(())
}

/// Three times are no accident.
fn is_caught(tally: &Mutex<Tally>, fault: &str) -> bool {
    let tally = tally.lock().unwrap_or_else(|e| e.into_inner());
    tally.caught.get(fault).is_some_and(|(_, caught)| *caught >= 3)
}

/// Mounts what the crash left and has the driver look at it; an error is what it found.
fn judge(plan: &Plan, run: &Run, driver: &Path, directory: &Path, position: u64) -> Result<Result<bool>> {
    let at = directory.join("mounted");
    let mounted = match run.file_system.mount(&directory.join("image"), &at) {
        Ok(mounted) => mounted,
        Err(sentence) => return Ok(Err(sentence)),
    };
    let output = Command::new(driver)
        .arg("check")
        .args([&at.join("root"), &directory.join("ledger")])
        .args([position, run.seed, plan.size].map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", driver.display()))?;
    mounted.unmount()?;
    let resumed = output.stdout.starts_with(b"resumes");
    Ok(match output.status.success() {
        true => Ok(resumed),
        false => Err([output.stdout, output.stderr]
            .map(|said| String::from_utf8_lossy(&said).trim().to_owned())
            .join(" ")),
    })
}

fn record(
    plan: &Plan,
    run: &Run,
    point: Point,
    verdict: Result<bool>,
    image: &Path,
    tally: &Mutex<Tally>,
    again: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut tally = tally.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(fault) = run.fault {
        let count = tally.caught.entry(fault).or_default();
        count.0 += 1;
        count.1 += usize::from(verdict.is_err());
        return Ok(());
    }
    tally.points += 1;
    let sentence = match verdict {
        Ok(resumed) => {
            tally.resumed += usize::from(resumed);
            return Ok(());
        }
        Err(sentence) => sentence,
    };
    tally.failures += 1;
    println!("{}: {point:?}: {sentence}", run.name());
    if let Some(keep) = &plan.keep {
        again()?;
        let name = format!("{}-{}-{}.img", run.file_system.name(), run.seed, point.request);
        output(
            Command::new("cp")
                .arg("--sparse=always")
                .arg(image)
                .arg(keep.join(name)),
        )?;
    }
    Ok(())
}
