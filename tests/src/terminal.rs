//! A program on a terminal of its own: what it shows, what is typed.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A running program and its terminal.
pub struct Terminal {
    master: File,
    shown: Arc<Mutex<String>>,
    pub child: Child,
}

impl Terminal {
    /// Starts a program with a new terminal as its controlling one.
    pub fn start(program: &Command, columns: u16, rows: u16) -> Result<Terminal> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
            .open(name.to_str().map_err(Error::other)?)?;
        // setsid(1) from util-linux takes standard input as the controlling terminal, and hands on the exit code.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("TERM", "xterm");
        let master = File::from(master);
        let terminal = Terminal {
            shown: Arc::default(),
            child: command
                .stdin(slave.try_clone()?)
                .stdout(slave.try_clone()?)
                .stderr(slave)
                .spawn()?,
            master,
        };
        drop(command);
        terminal.resize(columns, rows)?;
        let (mut reader, shown) = (terminal.master.try_clone()?, terminal.shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end is EIO: the last holder of the other side is gone.
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                if let Ok(mut shown) = shown.lock() {
                    shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
                }
            }
        });
        Ok(terminal)
    }

    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes())
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        self.shown.lock().map(|shown| shown.clone()).unwrap_or_default()
    }

    /// Waits until this text is shown.
    pub fn shows(&self, text: &str) -> bool {
        crate::client::within(Duration::from_secs(15), || self.shown().contains(text))
    }

    /// Types the same once a second until this text is shown: for what becomes true a moment later.
    pub fn comes_to(&mut self, typed: &str, text: &str) -> bool {
        (0..15).any(|_| {
            let typed = self.type_in(typed).is_ok();
            typed && crate::client::within(Duration::from_secs(1), || self.shown().contains(text))
        })
    }

    /// The exit code, once the program has ended; none if it does not end in time.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        crate::client::within(Duration::from_secs(15), || match self.child.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            _ => false,
        });
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
