//! Has large files written back while the batch that they belong to goes on, and lets go of their pages.
//!
//! A batch may then be larger than what is in the page cache of it. Small files are left to the batch's `syncfs`, which
//! writes neighbours in one request.

use crate::error::{Doing, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// From this on a file gains nothing from its neighbours: ext4 gives it blocks apart from theirs, and between theirs in one
/// pass it would cut their requests in two (`mb_stream_req`, 16 blocks).
const LARGE: u64 = 64 << 10;
/// Bytes of a file that are begun at once: whole requests where one may have 512 or 1280 KiB, as on most devices.
const PIECE: u64 = 2560 << 10;
/// What is begun of a file that goes on ends at a multiple of this, so that no page is written twice: a page of any
/// kernel.
const PAGE: u64 = 64 << 10;
/// Bytes that are on their way before the oldest of them are waited for.
const UNDER_WAY: u64 = 7680 << 10;

#[derive(Default)]
pub(super) struct Early {
    /// What was written of the current file and is not on its way yet.
    current: Range<u64>,
    under_way: VecDeque<(OwnedFd, Range<u64>)>,
    bytes: u64,
}

impl Early {
    /// Notes `range` just written to a file. Returns the bytes that are out of memory by now.
    pub fn wrote(&mut self, file: &OwnedFd, range: Range<u64>) -> Result<u64> {
        if self.current.end == range.start {
            self.current.end = range.end;
        } else {
            self.current = range;
        }
        match length(&self.current) >= PIECE {
            true => self.begin(file, self.current.end & !(PAGE - 1)),
            false => Ok(0),
        }
    }

    /// Notes that a file is complete. Returns the bytes that are out of memory by now.
    pub fn file(&mut self, file: &OwnedFd) -> Result<u64> {
        let done = match length(&self.current) >= LARGE {
            true => self.begin(file, self.current.end)?,
            false => 0,
        };
        self.current = 0..0;
        Ok(done)
    }

    /// Leaves what is under way to a batch, with the files that it is of.
    pub fn leave(&mut self) -> impl Iterator<Item = OwnedFd> {
        self.bytes = 0;
        std::mem::take(&mut self.under_way).into_iter().map(|(file, _)| file)
    }

    fn begin(&mut self, file: &OwnedFd, end: u64) -> Result<u64> {
        let range = self.current.start..end;
        self.current.start = end;
        let file = file
            .try_clone()
            .doing("duplicate a descriptor of", "a file being unpacked")?;
        // Of dirty pages this begins the writing. It is advice: the waiting below does not rely on it.
        let _ = sys::fs::drop_cache_of(&file, range.start, length(&range));
        self.bytes += length(&range);
        self.under_way.push_back((file, range));
        let mut done = 0;
        while self.bytes > UNDER_WAY {
            let Some((file, range)) = self.under_way.pop_front() else {
                break;
            };
            let bytes = length(&range);
            sys::fs::write_back(&file, range.start, bytes).doing("write back", "a file being unpacked")?;
            let _ = sys::fs::drop_cache_of(&file, range.start, bytes);
            self.bytes -= bytes;
            done += bytes;
        }
        Ok(done)
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_and_no_small_ones() {
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        let mut early = Early::default();
        assert_eq!(early.wrote(&file, 0..LARGE - 1).unwrap(), 0);
        assert_eq!(early.file(&file).unwrap(), 0);
        assert_eq!(early.leave().count(), 0);
        // One that is gone on with counts from there, and in whole pages.
        let mut at = 100;
        for gone in [0, 0, 0, PIECE - 100, PIECE] {
            assert_eq!(early.wrote(&file, at..at + PIECE).unwrap(), gone);
            at += PIECE;
        }
        assert_eq!(early.under_way[0].1, 2 * PIECE..3 * PIECE);
        assert_eq!(early.current, 5 * PIECE..5 * PIECE + 100);
        early.wrote(&file, 0..LARGE).unwrap();
        assert_eq!(early.file(&file).unwrap(), PIECE);
        assert_eq!(early.leave().count(), 3);
        assert_eq!(early.wrote(&file, 0..PIECE).unwrap(), 0);
    }
}
