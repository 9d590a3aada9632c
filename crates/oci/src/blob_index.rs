//! Blobs of layers that say where in them the content of each file begins, so that one can be read by `Range`.
//!
//! Two formats, which differ in where the table of contents is and in the compression; the table is the same:
//!
//! | | eStargz | zstd:chunked |
//! |---|---|---|
//! | a chunk of a file | gzip member | zstd frame |
//! | the table | `stargz.index.json` in a tar in the last gzip member but one | zstd frame inside of a skippable one |
//! | found by | the last gzip member, 51 bytes | an annotation; the last skippable frame, of 40 or 64 bytes |
//!
//! Sources: containerd's stargz-snapshotter (`docs/estargz.md`), containers/storage (`pkg/chunked`).
//!
//! Nobody vouches for a table. What is read by it may be anything, and whoever reads it must be able to tell. Bounds:
//! [`CHUNKS`] chunks of 40 bytes, entries of [`entries::LONGEST`], [`TABLE`] bytes of JSON, whatever is claimed.

mod entries;

use crate::manifest::Descriptor;
use entries::Entries;
use json::Deserialize;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead};

/// Bytes at a blob's end that tell if it has a table, and where.
pub const FOOTER: u64 = 72;

/// Most bytes of a table without compression: half a kilobyte a chunk.
pub const TABLE: u64 = 64 << 20;

/// And with it.
const PACKED: u64 = 16 << 20;

/// Most chunks of all files.
const CHUNKS: usize = 1 << 17;

/// Most bytes of other files before a chunk in its member.
const INNER: u32 = 64 << 20;

/// The table's name in its tar.
const NAME: &[u8] = b"stargz.index.json";

const POSITION: &str = "io.github.containers.zstd-chunked.manifest-position";
/// The same before containers/storage changed the prefix of what it writes.
const OLD_POSITION: &str = "io.containers.zstd-chunked.manifest-position";

/// A blob's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Estargz,
    ZstdChunked,
}

/// Where a blob's table of contents lies in it, compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub format: Format,
    pub start: u64,
    pub end: u64,
}

impl Table {
    /// What the descriptor of a blob says.
    pub fn of(blob: &Descriptor) -> Option<Table> {
        let annotation = |key: &str| blob.annotations.get(key);
        let text = annotation(POSITION).or_else(|| annotation(OLD_POSITION))?;
        let mut numbers = text.split(':').map(|number| number.parse::<u64>().ok());
        // Start, length, length without compression, type.
        let (start, length) = (numbers.next()??, numbers.next()??);
        let kind = numbers.nth(1)??;
        Table::chunked(start, length, kind, blob.size)
    }

    /// What the last [`FOOTER`] bytes of a blob say, or all bytes of a smaller one.
    pub fn find(last: &[u8], size: u64) -> Option<Table> {
        Table::in_gzip(last, size).or_else(|| Table::in_zstd(last, size))
    }

    fn chunked(start: u64, length: u64, kind: u64, size: u64) -> Option<Table> {
        let end = start.checked_add(length)?;
        (kind == 1 && (1..=PACKED).contains(&length) && end <= size).then_some(Table {
            format: Format::ZstdChunked,
            start,
            end,
        })
    }

    fn in_gzip(last: &[u8], size: u64) -> Option<Table> {
        // An empty member: header with an extra field, a stored block of no bytes, checksum and length.
        let (_, member) = last.split_last_chunk::<51>()?;
        let (header, rest) = member.split_at(10);
        let (extra, rest) = rest.split_at(6);
        let (offset, rest) = rest.split_at(16);
        let is_footer = header[..4] == [0x1f, 0x8b, 8, 4]
            && extra == [26, 0, b'S', b'G', 22, 0]
            && rest.strip_prefix(b"STARGZ") == Some(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        let offset = std::str::from_utf8(offset).ok().filter(|_| is_footer)?;
        let start = u64::from_str_radix(offset, 16).ok()?;
        let end = size.checked_sub(51)?;
        let length = end.checked_sub(start)?;
        (1..=PACKED).contains(&length).then_some(Table {
            format: Format::Estargz,
            start,
            end,
        })
    }

    fn in_zstd(last: &[u8], size: u64) -> Option<Table> {
        // Position, length, length without compression, type; later, the same of tar-split; a magic, which was another
        // before containers/storage had tar-split there.
        for length in [64, 40] {
            let at = last.len().checked_sub(8 + length)?;
            let (frame, numbers) = last[at..].split_at(8);
            let wanted = [0x50, 0x2a, 0x4d, 0x18, length as u8, 0, 0, 0];
            let is_footer = numbers.ends_with(b"GNUlInUx") || numbers.ends_with(b"GnUlInUx");
            if frame != wanted || !is_footer {
                continue;
            }
            let number = |at: usize| numbers[at * 8..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            return Table::chunked(number(0)?, number(1)?, number(3)?, size);
        }
        None
    }
}

/// Why a table is no good.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("read the index of a blob: {0}")]
    Wrong(&'static str),
    #[error("read the index of a blob: {0}")]
    Json(#[from] json::Error),
}

impl From<IndexError> for io::Error {
    fn from(error: IndexError) -> io::Error {
        match error {
            IndexError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

/// A piece of a file's content: bytes `start..end` of the blob, or fewer, are a gzip member or zstd frame of which, behind
/// `skip` bytes, `size` are the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub end: u64,
    pub skip: u64,
    pub size: u64,
}

/// The chunks of all files. Of names only keyed hashes are kept, which nobody can make collide.
pub struct Index {
    key: RandomState,
    /// By name, and in a file in order.
    chunks: Vec<Chunk>,
}

struct Chunk {
    name: u64,
    /// Where it begins in the file.
    at: u64,
    /// Bytes of it; 0: all that are left of the file.
    size: u64,
    offset: u64,
    /// Bytes up to the next member, at most: no chunk has more than this holds.
    length: u32,
    /// Bytes of other files before it in the same member.
    inner: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    inner_offset: u32,
    #[serde(default)]
    chunk_offset: u64,
    #[serde(default)]
    chunk_size: u64,
}

impl Index {
    /// Reads the table, from which the compression was taken.
    pub fn read(table: Table, mut source: impl BufRead) -> Result<Index, IndexError> {
        if table.format == Format::ZstdChunked {
            return Index::of_json(table.start, &mut source);
        }
        let mut tar = crate::tar::Reader::with_tap(source, ());
        let entry = tar.next_entry().map_err(io::Error::from)?;
        if entry.is_none_or(|entry| entry.name != NAME) {
            return Err(IndexError::Wrong("it is not where it is said to be"));
        }
        Index::of_json(table.start, &mut io::BufReader::with_capacity(16 << 10, tar))
    }

    fn of_json(end: u64, source: &mut dyn BufRead) -> Result<Index, IndexError> {
        let mut index = Index {
            key: RandomState::new(),
            chunks: Vec::new(),
        };
        let mut entries = Entries::new(source, TABLE);
        // The file that chunks belong to; nothing while there is none, or none that has content.
        let mut file = None;
        while let Some(text) = entries.next()? {
            let entry: Entry = json::from_slice(text)?;
            file = match (entry.kind.as_str(), file) {
                ("reg", _) if entry.size == 0 => None,
                ("reg", _) => Some(index.hash(entry.name.as_bytes())),
                ("chunk", Some(file)) => Some(file),
                _ => {
                    file = None;
                    continue;
                }
            };
            if index.chunks.len() >= CHUNKS {
                return Err(IndexError::Wrong("it has too many chunks"));
            }
            if entry.inner_offset > INNER {
                return Err(IndexError::Wrong("too much lies before a chunk"));
            }
            if entry.offset >= end {
                return Err(IndexError::Wrong("a chunk lies behind the chunks"));
            }
            if let Some(name) = file {
                index.chunks.push(Chunk {
                    name,
                    at: entry.chunk_offset,
                    size: entry.chunk_size,
                    offset: entry.offset,
                    length: 0,
                    inner: entry.inner_offset,
                });
            }
        }
        index.find_lengths(end);
        index.chunks.sort_unstable_by_key(|chunk| (chunk.name, chunk.at));
        index.chunks.shrink_to_fit();
        Ok(index)
    }

    /// A member ends, at the latest, where the next one begins; the last one does at `end`.
    fn find_lengths(&mut self, end: u64) {
        self.chunks.sort_unstable_by_key(|chunk| chunk.offset);
        let (mut end, mut start) = (end, end);
        for chunk in self.chunks.iter_mut().rev() {
            // Several can lie in one.
            if chunk.offset < start {
                end = start;
                start = chunk.offset;
            }
            chunk.length = u32::try_from(end - start).unwrap_or(u32::MAX);
        }
    }

    fn hash(&self, name: &[u8]) -> u64 {
        let parts = name.split(|&byte| byte == b'/');
        let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && part != b".").collect();
        self.key.hash_one(parts)
    }

    /// The parts of a file of this name in a tar, in order, if the table has exactly one that can have this size.
    pub fn file(&self, name: &[u8], size: u64) -> Option<Vec<Part>> {
        let name = self.hash(name);
        let from = self.chunks.partition_point(|chunk| chunk.name < name);
        let (mut parts, mut at) = (Vec::new(), 0);
        for chunk in self.chunks[from..].iter().take_while(|chunk| chunk.name == name) {
            let left = size - at;
            let length = if chunk.size == 0 { left } else { chunk.size };
            if chunk.at != at || length == 0 || length > left {
                return None;
            }
            parts.push(Part {
                start: chunk.offset,
                end: chunk.offset + u64::from(chunk.length),
                skip: u64::from(chunk.inner),
                size: length,
            });
            at += length;
        }
        (at == size && !parts.is_empty()).then_some(parts)
    }
}

#[cfg(test)]
mod tests;
