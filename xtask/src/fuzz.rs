//! `cargo xtask fuzz [--seconds N] [TARGET…]`: coverage-guided fuzzing of every door that untrusted bytes come through.
//!
//! The targets are in `fuzz/`, one program for all, under libFuzzer; the compiler's own coverage is all it takes, so the
//! stable one does. N seconds are shared out to all targets, or each target that is named has them. Inputs that led
//! somewhere new are kept in `target/fuzz/corpus` for the next time. What fails is in `target/fuzz/failures`, and is to
//! become a test.

use crate::apt;
use crate::command::{Result, checkout, output, run, target_dir};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A minute for all, as in CI.
const SECONDS: u64 = 60;
/// Memory that one input may cost, in MiB; and what one allocation may.
const MEMORY: u64 = 512;
const ALLOCATION: u64 = 32;
/// Longest input.
const LENGTH: u64 = 65_536;

/// Places that the counters of coverage are put in; the rest are libFuzzer's hooks.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
];

pub fn main(arguments: &[String]) -> Result<()> {
    let (mut seconds, mut names) = (SECONDS, Vec::new());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument.split_once('=').unwrap_or((argument, "")) {
            ("--seconds", value) => {
                let value = if value.is_empty() {
                    rest.next().unwrap_or("")
                } else {
                    value
                };
                seconds = value
                    .parse()
                    .map_err(|_| format!("fuzz: --seconds wants a number, not {value:?}"))?;
            }
            (flag, _) if flag.starts_with('-') => return Err(format!("fuzz: unknown flag {flag}")),
            (name, _) => names.push(name.to_owned()),
        }
    }
    apt::ensure(apt::FUZZ)?;
    let program = build()?;
    let place = target_dir().join("fuzz");
    let seeds = place.join("seeds");
    run(Command::new(&program).env("BALENA_FUZZ", "seeds").arg(&seeds))?;
    let all = listed(&seeds)?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        return Err(format!("fuzz: no target {unknown}; there are {}", all.join(", ")));
    }
    let each = match names.is_empty() {
        true => (seconds / all.len().max(1) as u64).max(1),
        false => seconds,
    };
    let chosen = if names.is_empty() { all } else { names };
    let mut failed = Vec::new();
    println!(
        "{:<12} {:>10} {:>10} {:>8} {:>8}",
        "target", "inputs", "per second", "places", "kept"
    );
    for name in &chosen {
        let done = one(&program, &place, name, each)?;
        println!(
            "{name:<12} {:>10} {:>10} {:>8} {:>8}{}",
            done.inputs,
            done.inputs / each.max(1),
            done.places,
            done.kept,
            if done.failed { "  FAILED" } else { "" }
        );
        if done.failed {
            failed.push(name.as_str());
        }
    }
    println!(
        "fuzz: {} targets, {each} s each, {} failures",
        chosen.len(),
        failed.len()
    );
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} failed: inputs and reports are in {}",
            failed.join(", "),
            place.join("failures").display()
        )),
    }
}

fn build() -> Result<PathBuf> {
    let directory = target_dir().join("fuzz/build");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = output(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc -vV tells no host")?.to_owned();
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_"));
    // For a target that is named, the flags are not those of build scripts and macros.
    run(Command::new(cargo)
        .current_dir(checkout().join("fuzz"))
        .args(["build", "--release", "--locked", "--quiet", "--target", &host])
        .env("CARGO_TARGET_DIR", &directory)
        .env(flags, COVERAGE.join(" ")))?;
    Ok(directory.join(host).join("release/fuzz"))
}

fn listed(seeds: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(seeds).map_err(|e| format!("list {}: {e}", seeds.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

struct Done {
    inputs: u64,
    /// Edges of the program that were seen.
    places: u64,
    /// Inputs that were the first to lead somewhere.
    kept: u64,
    failed: bool,
}

/// Runs one target in a mount namespace in which nothing but its own directories can be written to: some of them make
/// files as root.
fn one(program: &Path, place: &Path, name: &str, seconds: u64) -> Result<Done> {
    let (corpus, failures) = (place.join("corpus").join(name), place.join("failures").join(name));
    // Not over /tmp: the checkout may lie there.
    let passing = place.join("passing");
    for directory in [&corpus, &failures, &passing] {
        fs::create_dir_all(directory).map_err(|e| format!("make {}: {e}", directory.display()))?;
    }
    let script = "set -e
        for place in \"$1\" \"$2\"; do mount --bind \"$place\" \"$place\"; done
        mount -o remount,bind,ro / || true
        mount -t tmpfs tmpfs \"$3\"
        shift 3
        exec \"$@\"";
    let log = failures.join("log");
    let file = fs::File::create(&log).map_err(|e| format!("make {}: {e}", log.display()))?;
    let errors = file.try_clone().map_err(|e| format!("make {}: {e}", log.display()))?;
    let mut command = match apt::is_root()? {
        true => {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "sh", "-c", script, "sh"])
                .args([&corpus, &failures, &passing]);
            command.arg(program);
            command
        }
        false if name == "unpack" => {
            println!("skipped: unpack makes owners and devices, which takes root");
            return Ok(Done {
                inputs: 0,
                places: 0,
                kept: 0,
                failed: false,
            });
        }
        false => Command::new(program),
    };
    command
        .env("BALENA_FUZZ", name)
        .env("TMPDIR", &passing)
        .arg(&corpus)
        .arg(place.join("seeds").join(name))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-malloc_limit_mb={ALLOCATION}"),
            format!("-max_len={LENGTH}"),
            "-timeout=10".into(),
            "-print_final_stats=1".into(),
            "-verbosity=1".into(),
        ])
        .stdout(errors)
        .stderr(file);
    let status = command.status().map_err(|e| format!("start {name}: {e}"))?;
    let text = fs::read(&log).map_err(|e| format!("read {}: {e}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let stat = |name: &str| {
        let line = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok())
            .unwrap_or(0)
    };
    let places = text
        .lines()
        .rev()
        .find_map(|line| line.split_once(" cov: ")?.1.split_whitespace().next()?.parse().ok());
    let kept = fs::read_dir(&corpus).map_or(0, Iterator::count);
    Ok(Done {
        inputs: stat("number_of_executed_units"),
        places: places.unwrap_or(0),
        kept: kept as u64,
        failed: !status.success(),
    })
}
