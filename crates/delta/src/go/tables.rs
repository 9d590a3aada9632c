//! Where Go's tables are in a file, and what is read of them.

use super::{BUCKET, PART};
use crate::error::Error;
use std::io;

/// Places in a file. What it does not have is at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Places {
    /// Of the table's header.
    pub header: u64,
    /// What functions' offsets are counted from.
    pub text: u64,
    /// What offsets of types are counted from.
    pub types: u64,
    /// What the last offsets in records are counted from.
    pub data: u64,
    /// Of the table by 256 bytes of text.
    pub find: u64,
}

impl Places {
    /// As a delta has them, in order.
    pub fn numbers(self) -> [u64; 5] {
        [self.header, self.text, self.types, self.data, self.find]
    }

    /// Those that may have moved otherwise than the copies say.
    pub fn adjustable(&self) -> [u64; 4] {
        [self.text, self.types, self.data, self.find]
    }

    /// Takes them from a delta.
    pub fn take(mut next: impl FnMut() -> Result<u64, Error>) -> Result<Places, Error> {
        Ok(Places {
            header: next()?,
            text: next()?,
            types: next()?,
            data: next()?,
            find: next()?,
        })
    }
}

/// By how much more than the list of copies says the text, types, data and the table by text have moved.
pub(crate) type Adjust = [i64; 4];

/// Most functions: a reader holds 8 bytes of each.
const FUNCTIONS: u64 = 1 << 18;
/// Files from this size on are not looked into.
pub(super) const LARGEST: u64 = 1 << 48;
/// Bytes of the header: a magic number and eight words of 4 or 8 bytes.
pub(super) const HEADER: usize = 8 + 8 * 8;
#[derive(Clone, Copy)]
pub(super) struct Function {
    /// Its place from the beginning of the text.
    pub entry: u32,
    /// Its record's from the beginning of the table of functions.
    pub record: u32,
}

/// The old file's tables.
pub(crate) struct Tables {
    pub places: Places,
    /// Bytes of a word in the header.
    pub(super) word: u64,
    pub(super) names: u64,
    pub(super) units: u64,
    pub(super) files: u64,
    pub(super) pcs: u64,
    pub(super) functions: u64,
    pub(super) all: Vec<Function>,
    /// Where the table by text ends.
    pub(super) find_end: u64,
    /// A bit for each number of 17 bits that is made of a function's place in the text: nearly all other words are told
    /// from these by it, without a search.
    entries: Vec<u64>,
}

/// Which bit of [`Tables::entries`] is a place's, by word and in it.
fn entry_bit(place: u32) -> (usize, u64) {
    let bit = place.wrapping_mul(0x9e37_79b1) >> 15;
    ((bit / 64) as usize, 1 << (bit % 64))
}

impl Tables {
    /// Reads the tables at `places`; nothing if they are none that are understood.
    pub fn read(
        places: Places,
        size: u64,
        wide: bool,
        mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Option<Tables>> {
        let word_size = if wide { 8 } else { 4 };
        let head_size = 8 + 8 * word_size;
        let Places {
            header,
            text,
            types,
            data,
            find,
        } = places;
        let within = |at: u64, length: u64| at.checked_add(length).is_some_and(|end| end <= size);
        if size >= LARGEST
            || !within(header, head_size as u64)
            || [text, types, data, find].iter().any(|place| *place > size)
        {
            return Ok(None);
        }
        let mut head = [0; HEADER];
        let head = &mut head[..head_size];
        read(header, head)?;
        // The magic of Go 1.20 and of 1.18, zeros, the least step of a program counter, the size of a pointer.
        if !matches!(head[..8], [0xf0 | 0xf1, 0xff, 0xff, 0xff, 0, 0, 1 | 2 | 4, size] if usize::from(size) == word_size)
        {
            return Ok(None);
        }
        let number = |at: usize| {
            let mut number = [0; 8];
            number[..word_size].copy_from_slice(&head[8 + word_size * at..][..word_size]);
            u64::from_le_bytes(number)
        };
        let count = number(0);
        let offsets: [u64; 5] = std::array::from_fn(|at| number(at + 3));
        let in_order = offsets.is_sorted() && offsets[0] >= head_size as u64 && offsets[4] <= size;
        if count == 0 || count > FUNCTIONS || !in_order || !within(header, offsets[4] + 8 * count + 4) {
            return Ok(None);
        }
        let [names, units, files, pcs, functions] = offsets.map(|offset| header + offset);
        let mut all = Vec::with_capacity(count as usize);
        let mut buffer = vec![0; 8192];
        let (mut at, mut left) = (functions, count as usize);
        while left > 0 {
            let bytes = &mut buffer[..8 * left.min(1024)];
            read(at, bytes)?;
            all.extend(bytes.chunks_exact(8).map(|pair| Function {
                entry: word(&pair[..4]),
                record: word(&pair[4..]),
            }));
            at += bytes.len() as u64;
            left -= bytes.len() / 8;
        }
        let mut entries = vec![0; 1 << 11];
        for function in &all {
            let (word, bit) = entry_bit(function.entry);
            entries[word] |= bit;
        }
        let mut end = [0; 4];
        read(at, &mut end)?;
        let in_text = u64::from(word(&end)).saturating_sub(all[0].entry.into());
        let find_end = match find {
            0 => 0,
            find => find + 4 * in_text.div_ceil(BUCKET) + in_text.div_ceil(PART),
        };
        Ok(Some(Tables {
            places,
            word: word_size as u64,
            names,
            units,
            files,
            pcs,
            functions,
            all,
            find_end,
            entries,
        }))
    }

    /// Places of the names, of the table of functions and of each function's record.
    pub fn functions(&self) -> (u64, u64, impl Iterator<Item = u64>) {
        let records = self
            .all
            .iter()
            .map(|function| self.functions + u64::from(function.record));
        (self.names, self.functions, records)
    }

    /// Which of the five tables' offset the header has so many bytes after its beginning.
    pub(super) fn table(&self, at: u64) -> Option<u64> {
        let at = at.checked_sub(8 + 3 * self.word)?;
        (at % self.word == 0 && at < 5 * self.word).then(|| at / self.word)
    }

    /// Says if a function begins so far into the text.
    pub fn is_entry(&self, offset: u32) -> bool {
        let (word, bit) = entry_bit(offset);
        if self.entries[word] & bit == 0 {
            return false;
        }
        let last = self.all.last().map_or(0, |last| last.entry);
        let find = || self.all.binary_search_by_key(&offset, |function| function.entry);
        offset > 0 && offset <= last && find().is_ok()
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}
