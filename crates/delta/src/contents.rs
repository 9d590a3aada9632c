//! Where the bytes of files come from that are there already.

use crate::layer::FileId;
use std::io;

/// Access to the contents of the base's files, and of the target's that were made before.
///
/// Reads go through one file from its beginning to its end, or back and forth in one file while it is a patch's base;
/// then the next file follows. An implementation needs one open file at a time.
pub trait Contents {
    /// Fills `into` from a file of the base's, beginning `offset` bytes into it.
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Fills `into` from the content of an earlier entry of the target's.
    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl<C: Contents + ?Sized> Contents for &mut C {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_base(file, offset, into)
    }

    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_target(entry, offset, into)
    }
}
