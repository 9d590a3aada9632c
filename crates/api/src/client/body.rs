//! Bodies of answers as streams: of known length, in chunks, or until the connection ends.

use super::Stream;
use std::io::{self, Read, Write};

const MAX_CHUNK_LINE: usize = 1024;

/// A body that is being received.
#[derive(Debug)]
pub struct Body {
    stream: Stream,
    /// What came together with the head and has not been read yet.
    buffer: Vec<u8>,
    at: usize,
    rest: Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Length(u64),
    /// Bytes left in the chunk.
    Chunk(u64),
    /// Between chunks: a line end is due after the first.
    Size {
        first: bool,
    },
    UntilEnd,
    Done,
}

impl Body {
    pub(super) fn of_length(stream: Stream, buffer: Vec<u8>, length: u64) -> Body {
        Body {
            stream,
            buffer,
            at: 0,
            rest: Rest::Length(length),
        }
    }

    pub(super) fn chunked(stream: Stream, buffer: Vec<u8>) -> Body {
        Body {
            stream,
            buffer,
            at: 0,
            rest: Rest::Size { first: true },
        }
    }

    pub(super) fn until_end(stream: Stream, buffer: Vec<u8>) -> Body {
        Body {
            stream,
            buffer,
            at: 0,
            rest: Rest::UntilEnd,
        }
    }

    /// The connection below, for cancelling from another thread.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn into_raw(mut self) -> Body {
        self.rest = Rest::UntilEnd;
        self
    }

    /// Reads from what is there already, else from the connection.
    fn take(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at < self.buffer.len() {
            let n = out.len().min(self.buffer.len() - self.at);
            out[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
            self.at += n;
            return Ok(n);
        }
        if self.buffer.capacity() > 0 {
            self.buffer = Vec::new();
            self.at = 0;
        }
        self.stream.read(out)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0u8];
            if self.take(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match byte[0] {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_string()),
                _ if line.len() >= MAX_CHUNK_LINE => return Err(bad("a chunk's size line has no end")),
                other => line.push(other),
            }
        }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first && !self.line()?.is_empty() {
            return Err(bad("a chunk is longer than it said"));
        }
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk's size is no number"))?;
        if size > 0 {
            self.rest = Rest::Chunk(size);
            return Ok(());
        }
        while !self.line()?.is_empty() {}
        self.rest = Rest::Done;
        Ok(())
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("read the daemon's answer: {what}"))
}

fn limit(out: usize, left: u64) -> usize {
    usize::try_from(left).unwrap_or(out).min(out)
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.rest {
                Rest::Done | Rest::Length(0) => return Ok(0),
                Rest::UntilEnd => return self.take(out),
                Rest::Size { first } => self.next_chunk(first)?,
                Rest::Length(left) => {
                    let n = limit(out.len(), left);
                    let n = self.take(&mut out[..n])?;
                    if n == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.rest = Rest::Length(left - n as u64);
                    return Ok(n);
                }
                Rest::Chunk(left) => {
                    let n = limit(out.len(), left);
                    let n = self.take(&mut out[..n])?;
                    if n == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let left = left - n as u64;
                    self.rest = if left == 0 {
                        Rest::Size { first: false }
                    } else {
                        Rest::Chunk(left)
                    };
                    return Ok(n);
                }
            }
        }
    }
}

/// Sends a stream of unknown length; gives how sending went. An error is one of the source: the stream is broken off
/// then, and has no answer to wait for.
pub(super) fn send_chunks(source: &mut dyn Read, stream: &mut Stream) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let n = match source.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let sent = match n {
            0 => return Ok(stream.write_all(b"0\r\n\r\n")),
            n => chunk(&buffer[..n], stream),
        };
        if sent.is_err() {
            return Ok(sent);
        }
    }
}

fn chunk(bytes: &[u8], stream: &mut Stream) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}
