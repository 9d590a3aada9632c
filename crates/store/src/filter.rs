//! Passes a stream through a program of the system: `xz` and `bzip2`, as Docker does with `xz`.
//!
//! Nothing that devices pull is compressed like that any more, and decoders of our own would cost every device their
//! bytes. The program holds no descriptor of ours but its two pipes, is fed by whoever reads, so that neither thread
//! nor file is needed, and ends with the reader.

use rustix::fs::OFlags;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use sys::wake::{Interest, wait};

const BUFFER: usize = 64 * 1024;

/// What `xz` may use for decoding: a dictionary of 64 MiB (`xz -9`) and what it needs beside it.
const XZ_MEMORY: &str = "--memlimit-decompress=80MiB";

/// A stream that goes through a program.
pub struct Filter<R> {
    source: R,
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    buffer: Vec<u8>,
    at: usize,
    /// The program's end was seen, and it was a good one.
    done: bool,
}

impl<R: Read> Filter<R> {
    /// Starts the program `name`, which takes `-d -c -q` as all of its kind do.
    pub fn start(name: &'static str, source: R) -> io::Result<Filter<R>> {
        let mut command = Command::new(name);
        command
            .args(["-d", "-c", "-q"])
            .env("XZ_OPT", XZ_MEMORY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => io::Error::new(
                ErrorKind::Unsupported,
                format!("exec: \"{name}\": executable file not found in $PATH"),
            ),
            _ => error,
        })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other(format!("start {name}: it has no pipes")));
        };
        let flags = rustix::fs::fcntl_getfl(&stdin)?;
        rustix::fs::fcntl_setfl(&stdin, flags | OFlags::NONBLOCK)?;
        Ok(Filter {
            source,
            name,
            child,
            stdin: Some(stdin),
            stdout,
            buffer: Vec::new(),
            at: 0,
            done: false,
        })
    }

    /// The stream that the program was fed from.
    pub fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// Gives the program what it takes now.
    fn feed(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        if self.at == self.buffer.len() {
            self.buffer.resize(BUFFER, 0);
            let n = self.source.read(&mut self.buffer)?;
            self.buffer.truncate(n);
            self.at = 0;
            if n == 0 {
                self.stdin = None;
                return Ok(());
            }
        }
        match stdin.write(&self.buffer[self.at..]) {
            Ok(n) => self.at += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // It has seen the end of its data, or an error that its exit code tells.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.stdin = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl<R: Read> Read for Filter<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.done || out.is_empty() {
            return Ok(0);
        }
        loop {
            let mut fds = vec![(self.stdout.as_fd(), Interest::Read)];
            if let Some(stdin) = &self.stdin {
                fds.push((stdin.as_fd(), Interest::Write));
            }
            let ready = wait(&fds, None)?;
            if ready[0].read || ready[0].closed {
                let n = self.stdout.read(out)?;
                if n > 0 {
                    return Ok(n);
                }
                self.stdin = None;
                let status = self.child.wait()?;
                if !status.success() {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        format!("{} cannot decompress it: {status}", self.name),
                    ));
                }
                self.done = true;
                return Ok(0);
            }
            if ready.get(1).is_some_and(|ready| ready.write || ready.closed) {
                self.feed()?;
            }
        }
    }
}

impl<R> Drop for Filter<R> {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
