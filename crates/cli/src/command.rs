//! The contract of a command: what it is called, what it takes, what it does, and how it may fail.

use crate::cli::Cli;
use crate::flags::{Flag, Parsed};

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Args {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// One command; `commands/mod.rs` has the table.
pub struct Command {
    /// Every way to call it, in the order in which help lists them: `container ls`, `container list`, `ps`.
    pub paths: &'static [&'static str],
    /// What stands behind the name in the line of usage.
    pub usage: &'static str,
    /// One sentence.
    pub about: &'static str,
    pub flags: &'static [&'static [Flag]],
    pub args: Args,
    /// Whether options end at the first argument.
    pub stop_at_args: bool,
    /// Lines of arguments, each an example that works.
    pub examples: &'static [&'static str],
    pub run: fn(&Cli, &Parsed) -> Result<(), Failure>,
}

impl Command {
    /// A command without flags; the rest is said in its file.
    pub const fn new(
        paths: &'static [&'static str],
        usage: &'static str,
        about: &'static str,
        args: Args,
        run: fn(&Cli, &Parsed) -> Result<(), Failure>,
    ) -> Command {
        Command {
            paths,
            usage,
            about,
            flags: &[],
            args,
            stop_at_args: false,
            examples: &[],
            run,
        }
    }

    pub const fn flags(mut self, flags: &'static [&'static [Flag]]) -> Command {
        self.flags = flags;
        self
    }

    pub const fn stop_at_args(mut self) -> Command {
        self.stop_at_args = true;
        self
    }

    pub const fn examples(mut self, examples: &'static [&'static str]) -> Command {
        self.examples = examples;
        self
    }
}

/// How a command ended when it did not end well.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub code: i32,
    /// What is written to standard error; nothing if empty.
    pub text: String,
}

impl Failure {
    /// An ordinary failure.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure {
            code: 1,
            text: text.into(),
        }
    }

    /// Only an exit code: the container's own, or everything has been said.
    pub fn quiet(code: i32) -> Failure {
        Failure {
            code,
            text: String::new(),
        }
    }
}

impl From<api::client::Error> for Failure {
    fn from(error: api::client::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        // Whoever read our output has gone: there is nobody to tell.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::quiet(141);
        }
        Failure::new(error.to_string())
    }
}

/// An error of the system in Go's words, which are lower case and without a number.
pub fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

/// Collects failures of several objects: each is told at once, the exit code is 1 if there was any.
#[derive(Default)]
pub struct Failures(Vec<String>);

impl Failures {
    pub fn add(&mut self, error: impl std::fmt::Display) {
        self.0.push(error.to_string());
    }

    /// All of them, one per line, as Docker joins them.
    pub fn finish(self) -> Result<(), Failure> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(self.0.join("\n")))
        }
    }
}
