//! Applies a delta: the result as a stream that ends only if it is the right one.

use super::{DELTA_MAGIC, LITERAL};
use crate::layer::digest;
use oci::digest::Digest;
use ring::digest::{Context, SHA256};
use std::io::{self, Read};

/// Random access to a base. Adjacent copies are asked for as one stretch, in order.
pub trait ReadAt {
    /// Fills `into` with the bytes from `offset` on.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = start.checked_add(into.len()).and_then(|end| self.get(start..end));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Says why a delta could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("read delta: {0}")]
    Read(#[source] io::Error),
    #[error("read delta at byte {at}: {why}")]
    Format { at: u64, why: &'static str },
    #[error("apply delta: read base at byte {at}: {source}")]
    Base { at: u64, source: io::Error },
    #[error("apply delta: the result has more than {0} bytes")]
    TooLarge(u64),
    #[error("apply delta: the result is {found}, not {wanted}")]
    WrongResult { wanted: Digest, found: Digest },
}

impl From<PatchError> for io::Error {
    fn from(error: PatchError) -> io::Error {
        match error {
            // What became of the delta on its way here is no fault of its own.
            PatchError::Read(source) => source,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}

enum Operation {
    Literal(u64),
    Copy { from: u64, length: u64 },
}

/// The result of a delta, being read. Memory: a few words; the delta's source should be buffered.
pub struct Patched<D, B> {
    delta: D,
    base: B,
    base_bytes: u64,
    limit: u64,
    made: u64,
    /// Bytes of the delta read so far.
    at: u64,
    now: Operation,
    /// A copy that was read ahead, because it might have continued the one before.
    next: Option<Operation>,
    /// The delta's end was read, ahead.
    over: bool,
    hash: Context,
    wanted: Digest,
    ended: bool,
}

impl<D: Read, B: ReadAt> Patched<D, B> {
    /// Reads a delta's head. The base has `base_bytes` bytes; the result may have `limit` and must have the digest
    /// `wanted`.
    pub fn new(delta: D, base: B, base_bytes: u64, limit: u64, wanted: Digest) -> Result<Patched<D, B>, PatchError> {
        let mut patched = Patched {
            delta,
            base,
            base_bytes,
            limit,
            made: 0,
            at: 0,
            now: Operation::Literal(0),
            next: None,
            over: false,
            hash: Context::new(&SHA256),
            wanted,
            ended: false,
        };
        let mut magic = [0; 4];
        patched.exactly(&mut magic)?;
        if magic != DELTA_MAGIC {
            return Err(PatchError::Format {
                at: 0,
                why: "bad magic",
            });
        }
        Ok(patched)
    }

    /// The base, for a caller that has more to ask of it.
    pub fn base_mut(&mut self) -> &mut B {
        &mut self.base
    }

    /// Reads some of the result; 0 at its end, after it was found to be the right one.
    pub fn read_some(&mut self, into: &mut [u8]) -> Result<usize, PatchError> {
        if into.is_empty() || self.ended {
            return Ok(0);
        }
        let done = self.step(into);
        // After a failure there is nothing more to read.
        self.ended = !matches!(done, Ok(1..));
        done
    }

    fn step(&mut self, into: &mut [u8]) -> Result<usize, PatchError> {
        while matches!(self.now, Operation::Literal(0) | Operation::Copy { length: 0, .. }) {
            match self.operation()? {
                Some(operation) => self.now = operation,
                None => return self.end(),
            }
        }
        if self.made >= self.limit {
            return Err(PatchError::TooLarge(self.limit));
        }
        let (Operation::Literal(left) | Operation::Copy { length: left, .. }) = &self.now;
        let n = usize::try_from((*left).min(self.limit - self.made)).map_or(into.len(), |n| n.min(into.len()));
        let into = &mut into[..n];
        match self.now {
            Operation::Literal(left) => {
                self.exactly(into)?;
                self.now = Operation::Literal(left - n as u64);
            }
            Operation::Copy { from, length } => {
                let read = self.base.read_at(from, into);
                read.map_err(|source| PatchError::Base { at: from, source })?;
                self.now = Operation::Copy {
                    from: from + n as u64,
                    length: length - n as u64,
                };
            }
        }
        self.hash.update(into);
        self.made += n as u64;
        Ok(n)
    }

    fn end(&mut self) -> Result<usize, PatchError> {
        let found = digest(self.hash.clone());
        if found != self.wanted {
            let wanted = self.wanted.clone();
            return Err(PatchError::WrongResult { wanted, found });
        }
        match self.delta.read(&mut [0]).map_err(PatchError::Read)? {
            0 => Ok(0),
            _ => Err(self.wrong("bytes follow the end")),
        }
    }

    /// The next operation, copies that continue each other as one; nothing at the delta's end.
    fn operation(&mut self) -> Result<Option<Operation>, PatchError> {
        let first = match self.next.take() {
            Some(operation) => Some(operation),
            None if self.over => None,
            None => self.one()?,
        };
        let Some(Operation::Copy { from, mut length }) = first else {
            return Ok(first);
        };
        loop {
            match self.one()? {
                Some(Operation::Copy {
                    from: next,
                    length: more,
                }) if from + length == next => length += more,
                None => {
                    self.over = true;
                    break;
                }
                other => {
                    self.next = other;
                    break;
                }
            }
        }
        Ok(Some(Operation::Copy { from, length }))
    }

    fn one(&mut self) -> Result<Option<Operation>, PatchError> {
        let mut command = [0];
        self.exactly(&mut command)?;
        let command = command[0];
        match command {
            0 => Ok(None),
            1..=0x40 => Ok(Some(Operation::Literal(command.into()))),
            0x41..=0x44 => {
                let length = self.number(command - 0x41)?;
                match length {
                    0 => Err(self.wrong("empty literal")),
                    _ if length > LITERAL as u64 => Err(self.wrong("literal too long")),
                    _ => Ok(Some(Operation::Literal(length))),
                }
            }
            0x45..=0x54 => {
                let from = self.number((command - 0x45) / 4)?;
                let length = self.number((command - 0x45) % 4)?;
                let end = from
                    .checked_add(length)
                    .filter(|&end| end <= self.base_bytes && length > 0);
                match end {
                    Some(_) => Ok(Some(Operation::Copy { from, length })),
                    None => Err(self.wrong("copy from beyond the base")),
                }
            }
            _ => Err(self.wrong("unknown operation")),
        }
    }

    fn number(&mut self, size: u8) -> Result<u64, PatchError> {
        let mut bytes = [0; 8];
        self.exactly(&mut bytes[8 - (1 << size)..])?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn exactly(&mut self, into: &mut [u8]) -> Result<(), PatchError> {
        match self.delta.read_exact(into) {
            Ok(()) => {
                self.at += into.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.wrong("unexpected end")),
            Err(error) => Err(PatchError::Read(error)),
        }
    }

    fn wrong(&self, why: &'static str) -> PatchError {
        PatchError::Format { at: self.at, why }
    }
}

impl<D: Read, B: ReadAt> Read for Patched<D, B> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(into)?)
    }
}
