//! How large the release is on each architecture, what its code is made of, and how many packages that takes; capped by
//! `bench/caps.json`.

use super::by_crate;
use super::table::{Goal, Row};
use crate::build::{self, mega, size_of};
use crate::command::{Result, checkout, which};
use crate::target::{TARGETS, Target};
use serde_json::Value;
use std::path::Path;

/// What Docker's engine with its client consists of.
const DOCKERS: &[&str] = &[
    "dockerd",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "docker",
    "docker-init",
    "docker-proxy",
];

pub fn measure(binary: &Path) -> Result<Vec<Row>> {
    let file = checkout().join("bench/caps.json");
    let text = std::fs::read_to_string(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
    let caps: Value = serde_json::from_str(&text).map_err(|e| format!("read {}: {e}", file.display()))?;
    let cap = |name: &str| {
        let value = caps[name].as_f64();
        value.ok_or_else(|| format!("{} has no number called {name:?}", file.display()))
    };
    let triple = Target::here()?.triple;
    let lock = checkout().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(|e| format!("read {}: {e}", lock.display()))?;
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    let mut docker = 0;
    for name in DOCKERS {
        docker += which(name).and_then(|path| size_of(&path).ok()).unwrap_or(0);
    }
    let docker = (docker > 0).then_some(mega(docker));
    let ours = mega(size_of(binary)?);
    let packages = f64::from(u32::try_from(packages).map_err(|e| format!("count packages: {e}"))?);
    let mut rows = vec![
        Row::new(
            "release binary, static, stripped, everything in it",
            "MB",
            ours,
            docker,
            Goal::AtMost(6.0),
        ),
        Row::new(
            "locked packages, tests and tools included",
            "",
            packages,
            None,
            Goal::AtMost(cap("packages")?),
        ),
    ];
    for target in TARGETS {
        // This machine's own was just built; the others are as `cargo xtask dist` left them.
        let built = if target.triple == triple {
            binary.to_owned()
        } else {
            build::place_of(target)
        };
        let name = format!("... cap for {}", target.triple);
        match size_of(&built) {
            Ok(bytes) => {
                let limit = Goal::AtMost(cap(target.triple)? / 1e6);
                rows.push(Row::new(&name, "MB", mega(bytes), None, limit));
            }
            Err(_) => println!(
                "skipped: {} is not built here: `cargo xtask dist` makes it",
                target.triple
            ),
        }
    }
    print_crates(binary)?;
    Ok(rows)
}

/// The crates with the most code in them.
fn print_crates(binary: &Path) -> Result<()> {
    let map = build::map_of(binary);
    if !map.exists() {
        println!(
            "skipped: {} was not linked by `cargo xtask build`: no map of it",
            binary.display()
        );
        return Ok(());
    }
    println!("code by crate, kB:");
    for (name, bytes) in by_crate::of_map(&map)?.into_iter().take(20) {
        println!("  {:>6.0}  {name}", mega(bytes) * 1e3);
    }
    Ok(())
}
