//! What a tar has besides its files' contents, packed: the base's layers as a delta sees them.
//!
//! A tar is a chain: raw bytes, a file's content, raw bytes, a file's content, …, raw bytes. The raw bytes before a
//! file are the padding of the one before and the headers of its own. tar-split has the same parts, so a [`Layer`] can
//! be made from a tar or from the tar-split that a store keeps of it, and both are equal.

use crate::number;
use oci::digest::Digest;
use oci::tar::{BLOCK, Entry, Reader, Tap, TarError};
use oci::tar_split::Crc64;
use ring::digest::{Context, SHA256};
use std::io::{self, BufReader, Read};

/// Longest chain of raw bytes that is kept for predictions.
pub(crate) const KEPT: usize = 64 * 1024;

/// A file of the base: its layer, counted in the delta's list, and its entry in the layer's tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    pub layer: u32,
    pub entry: u32,
}

/// One layer's headers, sizes and CRC-64s. About 180 bytes an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    diff_id: Digest,
    packed: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// End of its raw bytes in `packed`.
    end: u64,
    size: u64,
    crc: u64,
}

impl Layer {
    /// The digest of the tar.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Entries in the tar.
    pub fn entries(&self) -> u32 {
        u32::try_from(self.parts.len()).expect("the builder counts them")
    }

    /// Bytes of an entry's content; 0 where it has none.
    pub fn size(&self, entry: u32) -> u64 {
        self.part(entry).map_or(0, |part| part.size)
    }

    /// CRC-64 of an entry's content.
    pub fn crc(&self, entry: u32) -> u64 {
        self.part(entry).map_or(0, |part| part.crc)
    }

    fn part(&self, entry: u32) -> Option<&Part> {
        self.parts.get(usize::try_from(entry).ok()?)
    }

    /// The header blocks of an entry, the last of them the entry's own, in a buffer; empty if there were too many to keep.
    pub(crate) fn blocks<'a>(&self, entry: u32, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        buffer.clear();
        let Some(at) = usize::try_from(entry).ok().filter(|&at| at < self.parts.len()) else {
            return &[];
        };
        let start = if at == 0 { 0 } else { self.parts[at - 1].end };
        let range = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        unpack_into(&self.packed[range(start)..range(self.parts[at].end)], buffer);
        let before = if at == 0 { 0 } else { self.parts[at - 1].size };
        split_padding(buffer, before).unwrap_or_default()
    }

    /// What the headers of an entry say.
    pub fn entry(&self, entry: u32) -> Option<Entry> {
        // The blocks are a buffer already: another one for each entry was a sixth of the CPU of an update.
        let mut buffer = Vec::new();
        let blocks = self.blocks(entry, &mut buffer);
        Reader::with_tap(blocks, ()).next_entry().ok().flatten()
    }

    /// What a delta knows this layer by, besides its diff ID: all that is in here, in 8 bytes.
    pub(crate) fn fingerprint(&self) -> [u8; 8] {
        let mut context = Context::new(&SHA256);
        context.update(&self.packed);
        for part in &self.parts {
            for number in [part.end, part.size, part.crc] {
                context.update(&number.to_le_bytes());
            }
        }
        let digest = context.finish();
        digest.as_ref()[..8].try_into().expect("a sha256 has 32 bytes")
    }
}

/// Takes the padding of the file before off raw bytes, if it is whole zeros and whole blocks follow.
pub(crate) fn split_padding(raw: &[u8], size_before: u64) -> Option<&[u8]> {
    let padding = usize::try_from(size_before.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    let (padding, blocks) = raw.split_at_checked(padding)?;
    let whole = blocks.len().is_multiple_of(BLOCK) && !blocks.is_empty();
    (whole && padding.iter().all(|&byte| byte == 0)).then_some(blocks)
}

/// Puts a layer together from its parts in order.
#[derive(Default)]
pub struct Builder {
    packed: Vec<u8>,
    parts: Vec<Part>,
    raw: Vec<u8>,
    /// More raw bytes came than are kept.
    over: bool,
}

impl Builder {
    /// Takes raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        let room = KEPT - self.raw.len();
        self.over |= bytes.len() > room;
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Takes the end of an entry, with size and CRC-64 of its content; size 0 where it has none or it came as raw bytes.
    pub fn file(&mut self, size: u64, crc: u64) -> io::Result<()> {
        if !std::mem::take(&mut self.over) {
            pack(&self.raw, &mut self.packed);
        }
        self.raw.clear();
        if self.parts.len() >= ENTRIES {
            return Err(io::Error::other("too many entries in a layer for a delta"));
        }
        self.parts.push(Part {
            end: self.packed.len() as u64,
            size,
            crc: if size == 0 { 0 } else { crc },
        });
        Ok(())
    }

    /// Ends the layer. Raw bytes after the last entry do not matter to it.
    pub fn finish(mut self, diff_id: Digest) -> Layer {
        self.packed.shrink_to_fit();
        self.parts.shrink_to_fit();
        Layer {
            diff_id,
            packed: self.packed,
            parts: self.parts,
        }
    }
}

/// Most entries of a layer.
pub(crate) const ENTRIES: usize = 1 << 24;

impl Tap for Builder {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw(bytes);
        Ok(())
    }
}

/// Sees a tar's parts as they are read.
pub(crate) trait Parts {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// `held` says that the content comes as such; otherwise it comes as raw bytes, if there is any.
    fn begin(&mut self, entry: &Entry, held: bool) -> io::Result<()>;
    fn content(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn end(&mut self, size: u64) -> io::Result<()>;
}

/// Lets a reader's tap and the one who reads content share the receiver.
struct Shared<P>(P);

impl<P: Parts> Tap for Shared<P> {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.raw(bytes)
    }
}

/// Takes a tar apart. A whiteout's content, if it should have any, is raw: no file will hold it.
pub(crate) fn take_apart<P: Parts>(tar: impl Read, parts: P) -> Result<P, TarError> {
    let source = BufReader::with_capacity(128 * 1024, tar);
    let mut reader = Reader::with_tap(source, Shared(parts));
    while let Some(entry) = reader.next_entry()? {
        let base = entry.name.rsplit(|&byte| byte == b'/').next().unwrap_or(b"");
        let mut held = entry.kind == oci::tar::Kind::Regular && entry.sparse.is_none();
        if base.starts_with(b".wh.") {
            reader.tap_content();
            held = false;
        }
        reader.tap_mut().0.begin(&entry, held)?;
        let mut size = 0;
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                break;
            }
            let n = chunk.len();
            if held {
                // The chunk borrows the reader, and so does the tap: a piece at a time goes through a buffer.
                let mut piece = [0u8; 8192];
                let n = n.min(piece.len());
                piece[..n].copy_from_slice(&chunk[..n]);
                reader.tap_mut().0.content(&piece[..n])?;
                reader.consume(n)?;
                size += n as u64;
            } else {
                reader.consume(n)?;
            }
        }
        reader.tap_mut().0.end(size)?;
    }
    let (_, parts, _) = reader.finish()?;
    Ok(parts.0)
}

/// Hashes what is read through it.
pub(crate) struct Hashing<R> {
    inner: R,
    pub context: Context,
    pub bytes: u64,
}

impl<R> Hashing<R> {
    pub fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            context: Context::new(&SHA256),
            bytes: 0,
        }
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

pub(crate) fn digest(context: Context) -> Digest {
    Digest::sha256(context.finish().as_ref().try_into().expect("a sha256 has 32 bytes"))
}

impl Layer {
    /// Reads a layer from its tar.
    pub fn from_tar(tar: impl Read) -> Result<Layer, TarError> {
        struct Into(Builder, Crc64);
        impl Parts for Into {
            fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.0.raw(bytes);
                Ok(())
            }
            fn begin(&mut self, _: &Entry, _: bool) -> io::Result<()> {
                self.1 = Crc64::default();
                Ok(())
            }
            fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.1.update(bytes);
                Ok(())
            }
            fn end(&mut self, size: u64) -> io::Result<()> {
                self.0.file(size, self.1.value())
            }
        }
        let mut hashing = Hashing::new(tar);
        let parts = take_apart(&mut hashing, Into(Builder::default(), Crc64::default()))?;
        Ok(parts.0.finish(digest(hashing.context)))
    }
}

/// Packs bytes of which many are zero: a count of bytes, these, a count of zeros, and so on.
pub fn pack(bytes: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < bytes.len() {
        let end = at + zeros_at(&bytes[at..]);
        let next = end + zeros_of(&bytes[end..]);
        number::put(out, (end - at) as u64);
        out.extend_from_slice(&bytes[at..end]);
        number::put(out, (next - end) as u64);
        at = next;
    }
}

/// Where three zeros begin, or those that are at the end.
fn zeros_at(bytes: &[u8]) -> usize {
    let (mut at, mut zeros) = (0, 0);
    while at < bytes.len() && zeros < 3 {
        zeros = if bytes[at] == 0 { zeros + 1 } else { 0 };
        at += 1;
    }
    at - zeros
}

/// How many zeros there are at the beginning: most of a header.
fn zeros_of(bytes: &[u8]) -> usize {
    let words = bytes.chunks_exact(16).take_while(|word| **word == [0; 16]).count() * 16;
    words + bytes[words..].iter().take_while(|&&byte| byte == 0).count()
}

/// Takes [`pack`]ed bytes, which are our own, apart again.
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    unpack_into(packed, &mut out);
    out
}

fn unpack_into(packed: &[u8], out: &mut Vec<u8>) {
    let mut rest = packed.iter();
    // One header and the padding before it are the rule.
    out.reserve(2 * BLOCK);
    let number = |rest: &mut std::slice::Iter<'_, u8>| {
        let count = number::get(|| rest.next().copied().ok_or(crate::Error::Format("end")));
        count.ok().and_then(|count| usize::try_from(count).ok())
    };
    while let Some(count) = number(&mut rest) {
        let (now, after) = rest.as_slice().split_at(count.min(rest.len()));
        out.extend_from_slice(now);
        rest = after.iter();
        let zeros = number(&mut rest).unwrap_or(0);
        out.resize(out.len() + zeros.min(KEPT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_bytes_come_back() {
        for bytes in [
            &b""[..],
            b"a",
            b"\0",
            b"\0\0\0\0a\0b\0\0\0\0\0\0c",
            b"abc\0\0\0\0",
            b"\0\0a\0\0",
            b"a\0\0b\0\0\0c\0\0",
            &[0; 100],
        ] {
            let mut packed = Vec::new();
            pack(bytes, &mut packed);
            assert_eq!(unpack(&packed), bytes);
        }
        // The fingerprint is of these bytes, so they are part of the format.
        let mut packed = Vec::new();
        pack(b"a\0\0b\0\0\0c\0\0", &mut packed);
        assert_eq!(packed, b"\x04a\0\0b\x03\x01c\x02");
        let mut block = vec![0; 512];
        block[..8].copy_from_slice(b"etc/file");
        let mut packed = Vec::new();
        pack(&block, &mut packed);
        assert!(packed.len() < 13);
        assert_eq!(unpack(&packed), block);
    }
}
