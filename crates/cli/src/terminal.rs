//! The terminal the user sits at: what it is, its size, and its raw mode, which ends with the guard.

use rustix::stdio;
use rustix::termios::{self, OptionalActions, Termios};
use std::io;

/// Says whether standard input is a terminal.
pub fn is_input() -> bool {
    termios::isatty(stdio::stdin())
}

/// Says whether standard output is a terminal.
pub fn is_output() -> bool {
    termios::isatty(stdio::stdout())
}

/// Says whether standard error is a terminal.
pub fn is_error() -> bool {
    termios::isatty(stdio::stderr())
}

/// Height and width of the terminal that output goes to; `None` if it is none.
pub fn size() -> Option<[u32; 2]> {
    let size = termios::tcgetwinsize(stdio::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then(|| [u32::from(size.ws_row), u32::from(size.ws_col)])
}

/// A terminal in raw mode; dropping it restores what was.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Puts the terminal at standard input into raw mode; `None` if it is no terminal.
    pub fn enter() -> io::Result<Option<Raw>> {
        if !is_input() {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Raw { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Reads a line without showing it.
pub fn read_secret() -> io::Result<String> {
    let before = termios::tcgetattr(stdio::stdin()).ok();
    if let Some(before) = &before {
        let mut quiet = before.clone();
        quiet.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &quiet)?;
    }
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    if let Some(before) = &before {
        termios::tcsetattr(stdio::stdin(), OptionalActions::Now, before)?;
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}
