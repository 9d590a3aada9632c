//! Docker's `journald` log: each entry is a datagram to systemd's journal, in its native protocol.
//!
//! A field is `NAME=value` and a newline; a value with a newline in it is `NAME`, a newline, its length as eight bytes, least
//! significant first, the value, and a newline. So neither output nor labels can make a field. What is too large for a
//! datagram goes as a sealed memory file. Source: systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`.
//!
//! Nothing here blocks. A journal that is slow makes the container wait, as a full pipe does (`mode=blocking`), or loses
//! what exceeds a buffer (`mode=non-blocking`). While journald restarts, systemd holds its socket, and entries wait there;
//! a journal that is gone loses entries until there is one again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::log::{Driver, Entry, random_id};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Syslog's priorities that Docker gives the streams.
const INFO: &str = "6";
const ERR: &str = "3";

/// A way to the journal.
pub struct Journal {
    path: String,
    socket: Option<UnixDatagram>,
    /// The fields that all entries have, encoded.
    fields: Vec<u8>,
    /// Number of the last entry, by which readers see what is missing.
    ordinal: u64,
    /// What could not be sent yet: one entry at most in blocking mode.
    waiting: VecDeque<Vec<u8>>,
    /// Bytes that may wait in non-blocking mode.
    buffer: Option<u64>,
}

impl Journal {
    /// Connects. The fields' names are the journal's own: upper case, digits and `_`.
    pub fn open(fields: &BTreeMap<String, String>, buffer: Option<u64>) -> io::Result<Journal> {
        Journal::open_at(SOCKET, fields, buffer)
    }

    fn open_at(path: &str, fields: &BTreeMap<String, String>, buffer: Option<u64>) -> io::Result<Journal> {
        let mut encoded = Vec::new();
        for (name, value) in fields {
            field(name, value.as_bytes(), &mut encoded);
        }
        field("CONTAINER_LOG_EPOCH", random_id()?.as_bytes(), &mut encoded);
        Ok(Journal {
            path: path.to_owned(),
            socket: Some(connect(path)?),
            fields: encoded,
            ordinal: 0,
            waiting: VecDeque::new(),
            buffer,
        })
    }

    fn encode(&self, entry: &Entry<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(entry.line.len() + self.fields.len() + 256);
        let priority = if entry.stream == 2 { ERR } else { INFO };
        field("PRIORITY", priority.as_bytes(), &mut out);
        field("MESSAGE", entry.line, &mut out);
        out.extend_from_slice(&self.fields);
        field("SYSLOG_TIMESTAMP", entry.time.text().as_bytes(), &mut out);
        field("CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes(), &mut out);
        if let Some(partial) = entry.partial {
            field("CONTAINER_PARTIAL_ID", partial.id.as_bytes(), &mut out);
            let ordinal = partial.ordinal.to_string();
            field("CONTAINER_PARTIAL_ORDINAL", ordinal.as_bytes(), &mut out);
            let last: &[u8] = if partial.last { b"true" } else { b"false" };
            field("CONTAINER_PARTIAL_LAST", last, &mut out);
            if !partial.last {
                field("CONTAINER_PARTIAL_MESSAGE", b"true", &mut out);
            }
        }
        out
    }

    /// Sends one; over a new connection if the journal was replaced.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match send(socket, datagram) {
                Err(error) if is_gone(&error) => self.socket = None,
                result => return result,
            }
        }
        let socket = connect(&self.path)?;
        let result = send(&socket, datagram);
        self.socket = Some(socket);
        result
    }

    /// Sends what waits, until the journal takes no more. What it will not take at all is lost.
    fn drain(&mut self) {
        while let Some(datagram) = self.waiting.pop_front() {
            if let Err(error) = self.send(&datagram)
                && error.kind() == ErrorKind::WouldBlock
            {
                self.waiting.push_front(datagram);
                return;
            }
        }
        self.waiting = VecDeque::new();
    }

    fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(|datagram| datagram.len() as u64).sum()
    }
}

impl Driver for Journal {
    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.ordinal += 1;
        let datagram = self.encode(entry);
        let full = || Err(ErrorKind::WouldBlock.into());
        if !self.waiting.is_empty() {
            // The order is kept: behind what waits, or nowhere. One entry is always taken, as in Docker.
            return match self.buffer {
                Some(limit) if self.waiting_bytes() + datagram.len() as u64 <= limit => {
                    self.waiting.push_back(datagram);
                    Ok(())
                }
                _ => full(),
            };
        }
        match self.send(&datagram) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.waiting.push_back(datagram);
                Ok(())
            }
            result => result,
        }
    }

    fn is_full(&self) -> bool {
        self.buffer.is_none() && !self.waiting.is_empty()
    }

    fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        match self.waiting.is_empty() {
            true => None,
            false => self.socket.as_ref().map(AsFd::as_fd),
        }
    }

    fn resume(&mut self) {
        self.drain();
    }

    fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Appends a field in the form that its value needs.
fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether the other end of a connection is no more.
fn is_gone(error: &io::Error) -> bool {
    let kinds = [
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
        ErrorKind::NotConnected,
        ErrorKind::BrokenPipe,
        ErrorKind::NotFound,
    ];
    kinds.contains(&error.kind())
}

fn send(socket: &UnixDatagram, datagram: &[u8]) -> io::Result<()> {
    loop {
        match socket.send(datagram) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_too_large(&error) => return send_as_file(socket, datagram),
            result => return result.map(drop),
        }
    }
}

fn is_too_large(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::MSGSIZE | rustix::io::Errno::NOBUFS))
}

/// Sends it as a memory file that nobody can change any more: journald takes no other.
fn send_as_file(socket: &UnixDatagram, datagram: &[u8]) -> io::Result<()> {
    let memory = rustix::fs::memfd_create("journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(datagram)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
