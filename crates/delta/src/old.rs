//! Bytes of an old file while it is patched: few calls, however its copies go to and fro.

use crate::contents::Contents;
use crate::layer::FileId;
use crate::patch::Copy;
use std::io;
use std::ops::Range;

/// Up to this a file is read as a whole.
const WHOLE: u64 = 256 * 1024;
/// Bytes of a larger one that are read at once for a copy that is long.
const AHEAD: u64 = 32 * 1024;
/// For copies below this there are blocks.
const SHORT: u64 = 2 * BLOCK as u64;
const BLOCK: usize = 4096;
/// So many are kept, each in the one place that it can be in.
const BLOCKS: usize = 64;

/// What is at hand of one file at a time.
#[derive(Default)]
pub(crate) struct Old {
    /// Of a file that is read as a whole all of it; of a larger one [`AHEAD`], and after them the blocks.
    bytes: Vec<u8>,
    /// Where the first of them lie in the file.
    at: Range<u64>,
    /// Which of them were asked for.
    start: usize,
    /// The number of the block in each place, and one more; 0 if there is none.
    numbers: Vec<u64>,
}

impl Old {
    /// Another file is patched from now on.
    pub fn forget(&mut self) {
        self.at = 0..0;
        self.numbers.fill(0);
    }

    /// Has the first bytes of a copy at hand, which must lie in the file.
    pub fn read(
        &mut self,
        file: FileId,
        size: u64,
        copy: &Copy,
        length: usize,
        contents: &mut dyn Contents,
    ) -> io::Result<()> {
        let end = copy.from + length as u64;
        if copy.from < self.at.start || end > self.at.end {
            let (at, in_blocks) = match copy.length {
                _ if size <= WHOLE => (0..size, false),
                ..SHORT => (copy.from..end, true),
                long => (copy.from..copy.from + long.min(AHEAD), false),
            };
            // What is there now is lost, whatever comes of it.
            self.at = 0..0;
            let n = usize::try_from(at.end - at.start).expect("it is no more than is read at once");
            if self.bytes.len() < n {
                self.bytes.resize(n, 0);
            }
            match in_blocks {
                true => self.out_of_blocks(file, size, at.start, n, contents)?,
                false => contents.read_base(file, at.start, &mut self.bytes[..n])?,
            }
            self.at = at;
        }
        self.start = usize::try_from(copy.from - self.at.start).expect("it is at hand");
        Ok(())
    }

    /// The bytes that were asked for.
    pub fn at_hand(&self, length: usize) -> &[u8] {
        &self.bytes[self.start..self.start + length]
    }

    fn out_of_blocks(
        &mut self,
        file: FileId,
        size: u64,
        mut at: u64,
        length: usize,
        contents: &mut dyn Contents,
    ) -> io::Result<()> {
        self.bytes.resize(AHEAD as usize + BLOCKS * BLOCK, 0);
        self.numbers.resize(BLOCKS, 0);
        let (into, blocks) = self.bytes.split_at_mut(AHEAD as usize);
        let mut into = &mut into[..length];
        while !into.is_empty() {
            let (number, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let place = (number % BLOCKS as u64) as usize;
            let block = &mut blocks[place * BLOCK..][..BLOCK];
            if self.numbers[place] != number + 1 {
                let start = number * BLOCK as u64;
                let length = usize::try_from(size - start).map_or(BLOCK, |length| length.min(BLOCK));
                self.numbers[place] = 0;
                contents.read_base(file, start, &mut block[..length])?;
                self.numbers[place] = number + 1;
            }
            let (now, later) = into.split_at_mut(into.len().min(BLOCK - within));
            now.copy_from_slice(&block[within..within + now.len()]);
            at += now.len() as u64;
            into = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct File(Vec<u8>);

    impl Contents for File {
        fn read_base(&mut self, _: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            into.copy_from_slice(&self.0[start..start + into.len()]);
            Ok(())
        }

        fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
            unreachable!()
        }
    }

    #[test]
    fn what_is_at_hand_is_what_the_file_has() {
        let (mut old, mut seed) = (Old::default(), 1u64);
        for (entry, size) in [(0, 3 * BLOCKS * BLOCK + 77), (1, 100_000), (2, 2 * BLOCKS * BLOCK)] {
            let bytes = (0..size as u32).map(|at| ((at ^ entry).wrapping_mul(0x9e37_79b1) >> 24) as u8);
            let mut contents = File(bytes.collect());
            old.forget();
            for _ in 0..3000 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let from = (seed >> 33) % size as u64;
                let most = [300, 5000, 100_000][(seed >> 20) as usize % 3];
                let copy = Copy {
                    from,
                    length: (1 + (seed >> 24) % most).min(size as u64 - from),
                    new: 0,
                };
                let length = copy.length.min(512) as usize;
                let file = FileId { layer: 0, entry };
                old.read(file, size as u64, &copy, length, &mut contents).unwrap();
                assert!(old.at_hand(length) == &contents.0[from as usize..from as usize + length]);
            }
        }
    }
}
