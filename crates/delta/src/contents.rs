//! Where the bytes of files come from that are there already, and of those that were to be there and are not.

use crate::layer::FileId;
use std::io;

/// What there is of a file of the base's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there, as far as a look at it tells.
    Whole,
    /// Its bytes can be read and are not those that they were.
    Changed,
    /// Nothing can be read of it.
    Lost,
}

/// An entry of the target's whose content cannot be made from the base.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The file that it was to be made from.
    pub instead_of: FileId,
    /// Its name as its last header says, so not the whole of one that is told piece by piece.
    pub name: &'a [u8],
    /// Where the content begins in the target's tar.
    pub at: u64,
    /// Bytes of the content.
    pub size: u64,
    /// The first so many are not wanted.
    pub done: u64,
}

/// Access to the contents of the base's files, and of the target's that were made before.
///
/// Reads go through one file from its beginning to its end, or back and forth in one file while it is a patch's base;
/// then the next file follows. An implementation needs one open file at a time.
pub trait Contents {
    /// Fills `into` from a file of the base's, beginning `offset` bytes into it.
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Fills `into` from the content of an earlier entry of the target's.
    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Says what there is of a file before anything is made from it. Entries that would be made from one that is not
    /// whole are asked of [`Contents::begin_elsewhere`].
    fn state(&mut self, _: FileId) -> State {
        State::Whole
    }

    /// Begins with the content of an entry of the target's, which somebody has who needs no base for it. It need not be
    /// right: the target's digest tells.
    fn begin_elsewhere(&mut self, _: &Wanted<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fills `into` with the next bytes of that content.
    fn read_elsewhere(&mut self, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<C: Contents + ?Sized> Contents for &mut C {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_base(file, offset, into)
    }

    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_target(entry, offset, into)
    }

    fn state(&mut self, file: FileId) -> State {
        (**self).state(file)
    }

    fn begin_elsewhere(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        (**self).begin_elsewhere(wanted)
    }

    fn read_elsewhere(&mut self, into: &mut [u8]) -> io::Result<()> {
        (**self).read_elsewhere(into)
    }
}

/// No base at all: zeros.
pub(crate) struct Nothing;

impl Contents for Nothing {
    fn read_base(&mut self, _: FileId, _: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        Ok(())
    }

    fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
