//! One client of the shim: a request line, then perhaps a stream or a subscription. Never blocks, never grows unbounded.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use json::Serialize;

/// Output a slow client may owe before its container's pipe is no longer read (bytes).
pub const MAX_OWED: usize = 64 * 1024;
/// Longest request (a process or resources as JSON).
const MAX_REQUEST: usize = 4 << 20;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Its request is not complete yet.
    Asking,
    /// A runtime process works on its request.
    Waiting,
    /// Streams of the container (`None`) or an exec.
    Stream {
        exec: Option<String>,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Subscriber,
    /// Wants an exec's exit code.
    ExecWaiter(String),
}

#[derive(Debug)]
pub struct Connection {
    pub number: u64,
    pub socket: UnixStream,
    pub role: Role,
    /// What it has yet to be sent.
    out: Vec<u8>,
    /// What it sent and nobody took: the request so far, or input for stdin.
    pub input: Vec<u8>,
    /// It closed its sending side.
    pub input_ended: bool,
    /// To be closed when all is sent.
    pub closing: bool,
    pub dead: bool,
}

impl Connection {
    pub fn new(number: u64, socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            number,
            socket,
            role: Role::Asking,
            out: Vec::new(),
            input: Vec::new(),
            input_ended: false,
            closing: false,
            dead: false,
        })
    }

    /// Whether it takes this stream of this process.
    pub fn takes(&self, process: Option<&str>, stream: u8) -> bool {
        match &self.role {
            Role::Stream {
                exec, stdout, stderr, ..
            } => exec.as_deref() == process && (if stream == 2 { *stderr } else { *stdout }),
            _ => false,
        }
    }

    /// Whether its input is this process' stdin.
    pub fn feeds(&self, process: Option<&str>) -> bool {
        matches!(&self.role, Role::Stream { exec, stdin: true, .. } if exec.as_deref() == process)
    }

    pub fn owes_too_much(&self) -> bool {
        self.out.len() >= MAX_OWED
    }

    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether more input is wanted: one portion at a time.
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.closing && (self.input.is_empty() || self.role == Role::Asking)
    }

    pub fn send_line(&mut self, line: &impl Serialize) {
        self.out.extend_from_slice(&json::to_vec(line));
        self.out.push(b'\n');
        self.flush();
    }

    /// Sends output as a stdcopy frame.
    pub fn send_frame(&mut self, stream: u8, data: &[u8]) {
        let length = data.len() as u32;
        self.out.extend_from_slice(&[stream, 0, 0, 0]);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(data);
        self.flush();
    }

    pub fn flush(&mut self) {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(0) => break,
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.dead = true;
                    break;
                }
            }
        }
        self.out = Vec::new();
        if self.closing {
            self.dead = true;
        }
    }

    /// Closes once all is sent.
    pub fn finish(&mut self) {
        self.closing = true;
        self.flush();
    }

    /// Reads a portion.
    pub fn receive(&mut self) {
        let mut portion = [0u8; 4096];
        match self.socket.read(&mut portion) {
            Ok(0) => self.input_ended = true,
            Ok(length) => self.input.extend_from_slice(&portion[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.dead = true,
        }
        if self.role == Role::Asking && self.input.len() > MAX_REQUEST {
            self.dead = true;
        }
    }

    /// The request line, once complete; what follows it stays as input.
    pub fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let rest = self.input.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.input, rest);
        line.pop();
        Some(line)
    }
}
