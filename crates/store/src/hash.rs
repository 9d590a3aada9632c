//! sha256 of bytes and of streams.

use oci::digest::Digest;
use ring::digest::{Context, SHA256};
use std::io::{self, Read, Write};

/// The digest of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    digest(ring::digest::digest(&SHA256, bytes))
}

pub(crate) fn digest(hash: ring::digest::Digest) -> Digest {
    let bytes: [u8; 32] = hash.as_ref().try_into().expect("a sha256 has 32 bytes");
    Digest::sha256(bytes)
}

/// Passes a stream through and computes its digest.
pub struct Hashing<S> {
    inner: S,
    context: Context,
    bytes: u64,
}

impl<S> Hashing<S> {
    /// Begins at the stream's place.
    pub fn new(inner: S) -> Hashing<S> {
        Hashing {
            inner,
            context: Context::new(&SHA256),
            bytes: 0,
        }
    }

    /// The stream itself, and the digest of what went through.
    pub fn into_parts(self) -> (S, Digest) {
        (self.inner, digest(self.context.finish()))
    }

    /// The digest and the number of the bytes that went through.
    pub fn finish(self) -> (Digest, u64) {
        (digest(self.context.finish()), self.bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.context.update(&into[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.context.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
