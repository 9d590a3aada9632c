//! `cargo xtask test`: every test of the workspace, black box against the release binary, nothing left out silently.

use crate::apt;
use crate::binary;
use crate::command::{Result, checkout};
use crate::dist;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Installs, builds, and runs `cargo test`; arguments go on to it (`-p store`, `-- some_name`). With `--dist` first, the
/// binary of each architecture tests itself under emulation instead, or of those that `--target T` names.
pub fn main(arguments: &[String]) -> Result<()> {
    if let Some(("--dist", targets)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        let mut all = vec!["--test".to_owned()];
        all.extend_from_slice(targets);
        return dist::main(&all);
    }
    match apt::is_root()? {
        true => {
            apt::ensure(apt::DEMO)?;
            apt::ensure(apt::TEST)?;
        }
        false => println!("not root: tests that mount, make namespaces or run containers say `skipped`"),
    }
    let binary = binary::wanted()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(checkout())
        .env("BALENA_BINARY", &binary)
        .args(["test", "--locked", "--no-fail-fast"]);
    let (to_cargo, to_tests) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    if !to_cargo
        .iter()
        .any(|argument| argument == "-p" || argument.starts_with("--package"))
    {
        cargo.arg("--workspace");
    }
    // Passing tests must be heard too: they say what they skipped.
    cargo.args(to_cargo).args(["--", "--show-output"]).args(to_tests);
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("start cargo: {e}"))?;
    let mut report = Report::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            report.line(&line.map_err(|e| format!("read what cargo test says: {e}"))?);
        }
    }
    let status = child.wait().map_err(|e| format!("wait for cargo: {e}"))?;
    report.end();
    match status.success() {
        true => Ok(()),
        false => Err("tests failed: see above".into()),
    }
}

/// What of cargo's output is shown at once, and what is counted for the end.
#[derive(Default)]
struct Report {
    /// Between `successes:` and the next section: what passing tests wrote.
    hidden: bool,
    skipped: Vec<String>,
    results: Vec<String>,
}

impl Report {
    fn line(&mut self, line: &str) {
        match line.trim_end() {
            "successes:" => self.hidden = true,
            "failures:" => self.hidden = false,
            _ => {}
        }
        if line.starts_with("test result:") {
            self.hidden = false;
            self.results.push(line.to_owned());
        }
        if let Some(at) = line.find("skipped: ") {
            self.skipped.push(line[at..].to_owned());
        }
        if !self.hidden {
            println!("{line}");
        }
    }

    fn end(&self) {
        println!("\nskipped: {}", self.skipped.len());
        for line in &self.skipped {
            println!("  {line}");
        }
        let count = |word: &str| -> u32 {
            let numbers = self.results.iter().filter_map(|line| {
                let before = line.split(word).next()?;
                before
                    .rsplit([' ', ';'])
                    .find(|part| !part.is_empty())?
                    .parse::<u32>()
                    .ok()
            });
            numbers.sum()
        };
        println!(
            "passed: {}, failed: {}, ignored: {}",
            count(" passed"),
            count(" failed"),
            count(" ignored")
        );
        // Suites without a test say nothing.
        for line in self
            .results
            .iter()
            .filter(|line| !line.contains(". 0 passed; 0 failed;"))
        {
            println!("{line}");
        }
    }
}
