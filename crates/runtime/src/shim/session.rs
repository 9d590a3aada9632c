//! The standard streams of one process (the container's, or an exec's) as the shim holds them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oci::runtime::ConsoleSize;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use crate::error::{Context, Result};

/// Our ends.
#[derive(Debug, Default)]
pub struct Session {
    /// `None` is the container's own process.
    pub exec: Option<String>,
    /// Its pid, once known.
    pub pid: i32,
    /// The terminal's master: in and out.
    pub terminal: Option<OwnedFd>,
    /// Its stdin pipe, while open.
    pub stdin: Option<OwnedFd>,
    /// Its stdout (1) and stderr (2), while open.
    pub sources: Vec<(u8, OwnedFd)>,
    /// Whether the end of a client's input ends its stdin.
    pub close_stdin: bool,
    /// When it ended.
    pub exit_code: Option<u32>,
}

/// The process' ends, handed to the runtime.
#[derive(Debug, Default)]
pub struct Stdio {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Session {
    /// Pipes for a process without a terminal.
    pub fn pipes(with_stdin: bool, outputs: [bool; 2]) -> Result<(Self, Stdio)> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
        let (mut session, mut stdio) = (Self::default(), Stdio::default());
        if with_stdin {
            let (read, write) = pipe()?;
            session.stdin = Some(nonblocking(write)?);
            stdio.stdin = Some(read);
        }
        for (stream, end) in [(1, &mut stdio.stdout), (2, &mut stdio.stderr)] {
            if outputs[usize::from(stream) - 1] {
                let (read, write) = pipe()?;
                session.sources.push((stream, nonblocking(read)?));
                *end = Some(write);
            }
        }
        Ok((session, stdio))
    }

    /// Takes the terminal that came over the console socket.
    pub fn set_terminal(&mut self, master: OwnedFd) -> Result<()> {
        let master = nonblocking(master)?;
        self.sources = vec![(1, master.try_clone().context("duplicate the terminal")?)];
        self.stdin = Some(master.try_clone().context("duplicate the terminal")?);
        self.terminal = Some(master);
        Ok(())
    }

    pub fn resize(&self, size: &ConsoleSize) -> Result<()> {
        match &self.terminal {
            Some(terminal) => crate::console::resize(terminal.as_fd(), size),
            None => Ok(()),
        }
    }

    /// A client's input is at its end.
    pub fn end_input(&mut self) {
        // A terminal's end of input is a character, which the client has sent itself.
        if self.close_stdin && self.terminal.is_none() {
            self.stdin = None;
        }
    }
}

/// Reads once; `None` would block, 0 is the end (for a terminal also EIO).
pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    match rustix::io::read(fd, buffer) {
        Ok(length) => Some(length),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Err(_) => Some(0),
    }
}

fn nonblocking(fd: OwnedFd) -> Result<OwnedFd> {
    let set = || -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
    };
    set().context("make a pipe non-blocking")?;
    Ok(fd)
}
