//! How large the release is, and how many packages it is made of; capped by `bench/caps.json`.

use super::table::{Goal, Row};
use crate::build::{mega, size_of};
use crate::command::{Result, checkout, which};
use crate::target::Target;
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
    Ok(vec![
        Row::new(
            "release binary, static, stripped, everything in it",
            "MB",
            ours,
            docker,
            Goal::AtMost(6.0),
        ),
        Row::new(
            &format!("... cap for {triple}"),
            "MB",
            ours,
            None,
            Goal::AtMost(cap(triple)? / 1e6),
        ),
        Row::new(
            "locked packages, tests and tools included",
            "",
            packages,
            None,
            Goal::AtMost(cap("packages")?),
        ),
    ])
}
