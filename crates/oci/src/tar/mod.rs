//! Tar archives as image layers carry them: a reader for streams nobody vouches for, and a writer like Go's.
//!
//! Read: V7, ustar, GNU (long names, base-256 numbers, old sparse), star, and PAX with its records for paths, sizes,
//! owners, times with nanoseconds, `SCHILY.xattr.*` and the three GNU sparse encodings. Meaning follows Go's
//! `archive/tar`, because that is what Docker and every registry client read layers with. Sources: POSIX.1-2017
//! pax "Interchange Format", GNU tar manual "Basic Tar Format" and "Storing Sparse Files", star(5).
//!
//! Nothing here opens a file. Memory is bounded by [`HEADER_LIMIT`] per entry, whatever a stream claims.

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Reader, Tap};
pub use writer::Writer;

use std::io;

/// Bytes in a tar block.
pub const BLOCK: usize = 512;

/// Most bytes that one entry's long names, PAX records or sparse map may have. Go's `archive/tar` has 1 MiB too.
pub const HEADER_LIMIT: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Regular,
    /// Another name of an entry before it; `Entry::link` is a path from the archive's root.
    HardLink,
    /// `Entry::link` is the text of the link.
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A type nobody can unpack; the byte is the type flag.
    Other(u8),
}

/// A point in time: seconds since 1970, which may be negative or beyond 2038, and nanoseconds on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// A stretch of a sparse file that has data; what lies between two is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// One member of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in the archive: may be absolute, hold `..`, end in `/`, or be no UTF-8.
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// The low 12 bits of a file mode: permissions, set-uid, set-gid, sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    /// Bytes of the file once unpacked, holes included.
    pub size: u64,
    /// Bytes of content in the archive: `size`, or fewer for a sparse file.
    pub stored: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    pub ctime: Option<Time>,
    pub device_major: u32,
    pub device_minor: u32,
    /// Names and values of `SCHILY.xattr.*`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content goes in a sparse file, ascending and within `size`.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// Makes an entry of a kind and a name with everything else zero and empty.
    pub fn new(kind: Kind, name: impl Into<Vec<u8>>) -> Entry {
        Entry {
            name: name.into(),
            link: Vec::new(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            size: 0,
            stored: 0,
            mtime: Time::default(),
            atime: None,
            ctime: None,
            device_major: 0,
            device_minor: 0,
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// Says why a stream is not a tar archive, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream itself failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The stream ended inside a header or a file.
    #[error("read tar at byte {at}: unexpected end of archive in {what}")]
    Truncated { at: u64, what: &'static str },
    /// The bytes are not what a tar may have there.
    #[error("read tar at byte {at}: invalid header: {why}")]
    Header { at: u64, why: &'static str },
}

impl From<TarError> for io::Error {
    fn from(error: TarError) -> io::Error {
        match error {
            TarError::Io(error) => error,
            TarError::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            TarError::Header { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Says if a block is an entry's header: its checksum is right.
pub fn is_header(block: &[u8]) -> bool {
    block
        .try_into()
        .is_ok_and(|block: &[u8; BLOCK]| header::Block(block).checksum_holds())
}

/// Bytes of padding after `size` bytes of content.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() & (BLOCK as u64 - 1)
}
