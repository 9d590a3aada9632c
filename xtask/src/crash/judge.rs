//! The driver that judges what crashes of one life left: one process for all of them, so that what they are compared
//! with is made once. A process that ends in the middle is a failure of that point, and the next one gets a new one.

use super::plan::Shape;
use crate::command::Result;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What came of a point.
pub enum Verdict {
    /// All is well; says if a pull went on with what was there.
    Good {
        resumed: bool,
    },
    Bad(String),
}

pub struct Judge {
    command: Command,
    errors: PathBuf,
    process: Option<Process>,
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Judge {
    /// For the life of this shape, whose data root will be mounted at `at`.
    pub fn new(driver: &Path, at: &Path, ledger: &Path, shape: &Shape, errors: PathBuf) -> Judge {
        let mut command = Command::new(driver);
        command
            .arg("check")
            .args([&at.join("root"), ledger])
            .args([shape.seed.to_string(), shape.bytes.to_string()]);
        Judge {
            command,
            errors,
            process: None,
        }
    }

    /// Judges what is mounted, a crash at this length of the log.
    pub fn check(&mut self, position: u64) -> Result<Verdict> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(start(&mut self.command, &self.errors)?),
        };
        let mut said = String::new();
        let asked = writeln!(process.to, "{position}");
        if asked.and_then(|()| process.from.read_line(&mut said)).is_ok() && said.ends_with('\n') {
            return Ok(match said.trim_end() {
                "good" => Verdict::Good { resumed: false },
                "resumed" => Verdict::Good { resumed: true },
                other => Verdict::Bad(other.to_owned()),
            });
        }
        let ended = self.process.take().map(|mut process| process.child.wait());
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        Ok(Verdict::Bad(format!("the driver ended: {ended:?}: {said} {errors}")))
    }
}

fn start(command: &mut Command, errors: &Path) -> Result<Process> {
    let errors = File::create(errors).map_err(|e| format!("create {}: {e}", errors.display()))?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(errors));
    let mut child = command.spawn().map_err(|e| format!("start the driver: {e}"))?;
    let to = child.stdin.take().ok_or("the driver has no input")?;
    let from = child.stdout.take().ok_or("the driver has no output")?;
    Ok(Process {
        child,
        to,
        from: BufReader::new(from),
    })
}

impl Drop for Judge {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.to);
            let _ = process.child.wait();
        }
    }
}
