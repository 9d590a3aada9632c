//! `cargo xtask crash`: power fails at thousands of moments, and nothing that was acknowledged may be lost.
//!
//! The engine itself (`crash/` in the checkout links it) pulls, tags, creates, commits and removes on a device whose
//! writes and flushes are logged. Any moment of the log, under each model of what a device may have kept, is mounted
//! by the kernel, recovered by the engine and judged by it. Known-bad variants go through the same in every run, and
//! each must be caught, or the campaign proves nothing. docs/durability.md tells the rest.

mod device;
mod judge;
mod ledger;
mod life;
mod log;
mod plan;
mod replay;
mod tally;

use crate::apt;
use crate::command::{Result, checkout, output, run, target_dir};
use life::{Ground, locked};
use plan::Plan;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tally::Tally;

/// Set inside the namespaces.
const INSIDE: &str = "XTASK_CRASH_INSIDE";

pub fn main(arguments: &[String]) -> Result<()> {
    let mut plan = Plan::parse(arguments)?;
    if !apt::is_root()? {
        return Err("this mounts file systems: run it as root".into());
    }
    let inside = std::env::var_os(INSIDE).is_some();
    if !inside {
        apt::ensure(apt::CRASH)?;
    }
    plan.file_systems.retain(|file_system| match file_system.is_missing() {
        Some(why) if !inside => {
            println!("skipped: {}: {why}", file_system.name());
            false
        }
        why => why.is_none(),
    });
    if plan.file_systems.is_empty() {
        return Err("there is no file system to try".into());
    }
    if inside {
        let directory = target_dir().join("crash");
        std::fs::create_dir_all(&directory).map_err(|e| format!("make {}: {e}", directory.display()))?;
        mount_scratch(&mut plan, &directory)?;
        return campaign(&plan, &directory);
    }
    run(
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(checkout())
            .args([
                "build",
                "--quiet",
                "--locked",
                // Each byte of each layer is summed up several times for each point.
                "--config",
                "profile.dev.package.oci.opt-level=2",
                "--package",
                "crash",
                "--features",
                "known-bad",
            ]),
    )?;
    // A mount and a PID namespace: however this ends, mounts, loop devices, daemons and files end with it. A first
    // process of a PID namespace hears no Ctrl-C, so the death of this one is what ends it.
    let this = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
    run(Command::new("setpriv")
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
        .env(INSIDE, "1"))
}

/// Bytes that a life's files take at most, for each byte of an image: logs, what the device held before and holds now.
const FILES: u64 = 20;
/// Bytes that a driver takes in memory: images, their tars and deltas.
const MEMORY: u64 = 6;

/// Mounts where everything is put: in memory if half of what is free is enough, else a file system on the disk whose
/// copies of large images share their blocks. Its file has no name any more, so it goes with the mount.
fn mount_scratch(plan: &mut Plan, at: &Path) -> Result<()> {
    let memory = std::fs::read_to_string("/proc/meminfo").map_err(|e| format!("read /proc/meminfo: {e}"))?;
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let half = available.unwrap_or(1 << 20) << 9;
    let jobs = half / (plan.largest() * MEMORY);
    plan.jobs = plan.jobs.min(usize::try_from(jobs).unwrap_or(usize::MAX)).max(1);
    if plan.largest() * (FILES + MEMORY) * plan.jobs as u64 <= half {
        let mount = ["-t", "tmpfs", "-o", "size=80%", "crash"];
        return output(Command::new("mount").args(mount).arg(at)).map(drop);
    }
    let file = at.with_extension("scratch");
    println!("on the disk: {}", file.display());
    let room = (plan.largest() * FILES * plan.jobs as u64).max(1 << 30);
    log::Image::create(&file, room)?;
    output(
        Command::new("mkfs.xfs")
            .args(["-q", "-f", "-m", "reflink=1"])
            .arg(&file),
    )?;
    let mounted = output(Command::new("mount").args(["-o", "loop"]).args([&file, at]));
    let removed = std::fs::remove_file(&file);
    mounted?;
    removed.map_err(|e| format!("remove {}: {e}", file.display()))
}

fn campaign(plan: &Plan, directory: &Path) -> Result<()> {
    let began = Instant::now();
    let driver = target_dir().join("debug/crash");
    let shapes = plan.shapes();
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let (over, is_over) = channel::<()>();
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            let (shapes, next, tally, driver, over) = (&shapes, &next, &tally, &driver, over.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    let Some(shape) = shapes.get(number) else { break };
                    let directory = &directory.join(format!("life{number}"));
                    let ground = Ground { driver, directory };
                    if let Err(sentence) = ground.live(plan, shape, tally) {
                        println!("{}: {sentence}", shape.name());
                        locked(tally).errors.push(format!("{}: {sentence}", shape.name()));
                    }
                    // What cannot be removed goes with the namespace.
                    let _ = std::fs::remove_dir_all(directory);
                }
                drop(over);
            });
        }
        drop(over);
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(Duration::from_secs(10)) {
            println!("{}", locked(&tally).progress(plan.points, began));
        }
    });
    locked(&tally).report(began)
}
