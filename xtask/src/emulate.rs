//! Running a target's binary on the oldest machine of its kind, under qemu's emulation of one program.
//!
//! A binary with an instruction too new for that machine dies here of SIGILL, and not in the field.

use crate::apt;
use crate::command::{Result, attempt, run};
use crate::target::Target;
use std::path::Path;
use std::process::Command;

/// What each binary must be able to do, and a word of its answer.
const ASKED: &[(&[&str], &str)] = &[
    (&["--version"], "version"),
    (&["--help"], "Usage"),
    (&["balena-engine-runc", "--version"], "runc version"),
    (
        &["balena-engine-containerd-ctr", "--address", "x", "version"],
        "Version",
    ),
    (&["daemon", "--help"], "Usage"),
];

/// Asks a binary for its version and help, then has it test itself.
pub fn selftest(target: &Target, binary: &Path) -> Result<()> {
    apt::ensure(apt::EMULATE)?;
    let program = || {
        let mut command = Command::new(target.emulator);
        command.args(["-cpu", target.cpu]).arg(binary);
        command
    };
    let mut failures = Vec::new();
    for (words, expected) in ASKED {
        let got = attempt(program().args(*words))?;
        let said = String::from_utf8_lossy(&got.stdout);
        if !got.status.success() || !said.contains(expected) {
            let stderr = String::from_utf8_lossy(&got.stderr);
            failures.push(format!("balena {}: {}: {}", words.join(" "), got.status, stderr.trim()));
        }
    }
    if let Err(why) = run(program().arg("self-test")) {
        failures.push(why);
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "on {} of {}: {}",
            target.cpu,
            target.emulator,
            failures.join("; ")
        )),
    }
}
