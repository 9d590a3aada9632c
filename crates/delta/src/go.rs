//! Go's tables of functions, whose offsets are foreseen by what they point to.
//!
//! The linker of Go 1.18 and later writes one table (`runtime.pclntab`): a header; names; for each unit of compilation
//! the offsets of its files' names; these names; data by program counter (pctab); then for each function its offset in
//! the text and that of its record, and the records. A record has offsets into all of these. Another table
//! (`runtime.findfunctab`) has, for each 256 bytes of text, the first function's number. When a function grows, a
//! large part of all this changes, and all of it follows from the list of copies.
//!
//! The writer finds the tables ([`crate::make`]) and says where they are; everything in them is read as untrusted.

mod tables;

pub(crate) use tables::{Adjust, Places, Tables};

use crate::moves::Moves;
use std::sync::Arc;
use tables::{HEADER, LARGEST};

/// 32-bit words of a record before its lists.
const RECORD: u64 = 11;
/// Bytes of text that an entry of the table by text is for, bytes of the entry, and bytes of text for each of its
/// parts: it has a function's number, then a byte a part, by how much that one's is higher.
const BUCKET: u64 = 4096;
const ENTRY: u64 = 20;
const PART: u64 = 256;
/// Functions that are gone through one by one before they are searched.
const STEPS: usize = 16;

/// What words elsewhere may be offsets from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Elsewhere {
    Types,
    Names,
}

/// What a word of an old file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// None of the tables'.
    Outside,
    /// In data of functions, where there are no addresses.
    Data,
    /// Changes by so much.
    By(u32),
    /// Becomes this.
    Is(u32),
}

/// What offsets are counted from, where the last of them may point to, and by how much the beginning has moved.
#[derive(Clone, Copy)]
struct Base {
    place: u64,
    end: u64,
    moved: Option<i64>,
}

impl Base {
    /// By how much an offset changes.
    fn change(self, moves: &Moves, offset: u64) -> Option<i64> {
        let to = self.place + offset;
        if to >= self.end {
            return None;
        }
        Some(moves.at(to)?.wrapping_sub(self.moved?))
    }
}

/// The tables while a piece is made.
pub(crate) struct Go {
    tables: Arc<Tables>,
    header: Base,
    text: Base,
    types: Base,
    data: Base,
    names: Base,
    units: Base,
    files: Base,
    pcs: Base,
    functions: Base,
    /// Stretches in which no word changes: names, files and pctab.
    still: [(u64, u64); 2],
    /// Where the table by text begins in the new file.
    find: Option<u64>,
    /// The record that was come to last: its number, where it and the next begin, and how many offsets it has in
    /// pctab and in data, as far as that is known.
    record: usize,
    record_at: (u64, u64),
    lists: Option<(u64, u64)>,
    /// A function that was found last.
    function: usize,
    /// The offsets in data of the window at work, by place, and what they are foreseen to become; by how much the last
    /// one was wrong.
    in_data: Vec<(u64, u32)>,
    wrong: u32,
}

impl Go {
    pub fn new(tables: Arc<Tables>, adjust: Adjust, moves: &Moves) -> Go {
        let base = |place: u64, end: u64| Base {
            place,
            end,
            moved: moves.at(place),
        };
        let adjusted = |place: u64, end: u64, adjust: i64| Base {
            place,
            end,
            moved: moves.at(place).map(|moved| moved.wrapping_add(adjust)),
        };
        let Tables {
            places,
            names,
            units,
            files,
            pcs,
            functions,
            ..
        } = *tables;
        let types_end = if places.types < places.header {
            places.header
        } else {
            LARGEST
        };
        let find = adjusted(places.find, LARGEST, adjust[3]);
        let apart = places.find >= functions || tables.find_end <= places.header;
        Go {
            still: match apart {
                true => [(names, units), (files, functions)],
                false => [(0, 0); 2],
            },
            header: base(places.header, LARGEST),
            text: adjusted(places.text, LARGEST, adjust[0]),
            types: adjusted(places.types, types_end, adjust[1]),
            data: adjusted(places.data, LARGEST, adjust[2]),
            names: base(names, units),
            units: base(units, files),
            files: base(files, pcs),
            pcs: base(pcs, functions),
            functions: base(functions, LARGEST),
            find: find.moved.map(|moved| places.find.wrapping_add_signed(moved)),
            record: 0,
            record_at: (0, 0),
            lists: None,
            function: 0,
            in_data: Vec::new(),
            wrong: 0,
            tables,
        }
    }

    /// The change of a word outside of the tables that is a function's place in the text, if it is one.
    pub fn entry_change(&self, moves: &Moves, value: u32) -> Option<u32> {
        let is_entry = self.tables.is_entry(value);
        is_entry.then(|| self.text.change(moves, value.into()).unwrap_or(0) as u32)
    }

    /// The change of a word outside of the tables if it is an offset of a type or a name.
    pub fn offset_change(&self, moves: &Moves, base: Elsewhere, value: u32) -> Option<u32> {
        let base = match base {
            Elsewhere::Types => self.types,
            Elsewhere::Names => self.names,
        };
        base.change(moves, value.into()).map(|change| change as u32)
    }

    /// Begins a window.
    pub fn begin(&mut self) {
        self.in_data.clear();
    }

    /// Takes from what the window became if data moved otherwise than was thought: if two offsets after each other
    /// were wrong by the same. `word` gives what is at a place of the old file now, as far as the window goes.
    pub fn learn_data(&mut self, word: impl Fn(u64) -> Option<u32>) {
        let mut more = 0u32;
        for &(place, foreseen) in &self.in_data {
            let Some(value) = word(place) else { break };
            let wrong = value.wrapping_sub(foreseen).wrapping_sub(more);
            if wrong != 0 && wrong == self.wrong {
                more = more.wrapping_add(wrong);
                self.wrong = 0;
            } else {
                self.wrong = wrong;
            }
        }
        if let Some(moved) = &mut self.data.moved {
            *moved = moved.wrapping_sub(i64::from(more as i32));
        }
    }

    /// Says if the header lies in a part of the old file.
    pub fn has_header(&self, start: u64, end: u64) -> bool {
        start < self.header.place + HEADER as u64 && self.header.place < end
    }

    /// Takes the tables' new places from the new header, once it is there.
    pub fn learn_header(&mut self, place: u64, new_place: u64, value: u32) {
        let at = place.wrapping_sub(self.header.place);
        let base = match self.tables.table(at) {
            Some(0) => &mut self.names,
            Some(1) => &mut self.units,
            Some(2) => &mut self.files,
            Some(3) => &mut self.pcs,
            Some(4) => &mut self.functions,
            _ => return,
        };
        let new = new_place.wrapping_sub(at).wrapping_add(value.into());
        base.moved = Some(new.wrapping_sub(base.place) as i64);
    }

    /// Says if there is something to learn from a word at a place: what is in the tables is known.
    pub fn is_outside(&self, place: u64) -> bool {
        let Tables {
            places, functions, all, ..
        } = &*self.tables;
        let records = functions + all.last().map_or(0, |last| u64::from(last.record));
        !(places.header..records).contains(&place) && !(places.find..self.tables.find_end).contains(&place)
    }

    /// How many bytes there are from a place on in which all words stay: as [`Go::word`] says of each.
    pub fn still(&self, place: u64) -> u64 {
        let inside = |(start, end): &&(u64, u64)| (*start..*end).contains(&place);
        self.still.iter().find(inside).map_or(0, |(_, end)| end - place)
    }

    /// What a word is that was at `place` and will be at `new_place`.
    pub fn word(&mut self, moves: &Moves, place: u64, new_place: u64, value: u32) -> Word {
        let places = self.tables.places;
        if (places.find..self.tables.find_end).contains(&place) {
            return self.bucket(moves, new_place);
        }
        if place < places.header {
            return Word::Outside;
        }
        let offset = |base: Base| Word::By(base.change(moves, value.into()).unwrap_or(0) as u32);
        let Some(at) = place.checked_sub(self.functions.place) else {
            return match place - places.header {
                at if self.tables.table(at).is_some() => offset(self.header),
                _ if (self.units.place..self.files.place).contains(&place) => offset(self.files),
                _ => Word::By(0),
            };
        };
        if at <= 8 * self.tables.all.len() as u64 {
            let base = if at % 8 == 0 { self.text } else { self.functions };
            return offset(base);
        }
        match self.in_record(at) {
            Some(at) => self.in_list(moves, place, at, value),
            None if place < places.find => Word::Data,
            None => Word::Outside,
        }
    }

    /// Which word of a function's record is so many bytes after the beginning of the table of functions.
    fn in_record(&mut self, at: u64) -> Option<u64> {
        let (start, end) = self.record_at;
        if !(start..end).contains(&at) {
            let all = &self.tables.all;
            let record = |number: usize| all.get(number).map_or(u64::MAX, |function| function.record.into());
            self.record += 1;
            if !(record(self.record)..record(self.record + 1)).contains(&at) {
                let after = all.partition_point(|function| u64::from(function.record) <= at);
                self.record = after.saturating_sub(1);
            }
            self.record_at = (record(self.record), record(self.record + 1));
            self.lists = None;
        }
        let at = at.checked_sub(self.record_at.0)?;
        let known = at / 4 < self.lists.map_or(RECORD, |(pcs, data)| RECORD + pcs + data);
        (at % 4 == 0 && known).then_some(at / 4)
    }

    /// A word of a record: where the function is, its name's offset, its arguments' size, the place of its deferred
    /// calls, three offsets in pctab, how many of these follow, its unit, its line, and in four bytes its kind, flags
    /// and how many offsets in data follow after those in pctab.
    fn in_list(&mut self, moves: &Moves, place: u64, at: u64, value: u32) -> Word {
        let offset = |base: Base| Word::By(base.change(moves, value.into()).unwrap_or(0) as u32);
        match (at, self.lists) {
            (0, _) => offset(self.text),
            (1, _) => offset(self.names),
            (4..=6, _) if value != 0 => offset(self.pcs),
            (7, _) => {
                self.lists = Some((value.into(), 0));
                Word::By(0)
            }
            (8, _) => {
                let bytes = self.units.change(moves, u64::from(value) * 4).unwrap_or(0);
                Word::By((bytes / 4) as u32)
            }
            (10, Some((pcs, _))) => {
                self.lists = Some((pcs, (value >> 24).into()));
                Word::By(0)
            }
            (RECORD.., Some((pcs, _))) if at < RECORD + pcs && value != 0 => offset(self.pcs),
            (RECORD.., Some((pcs, _))) if at >= RECORD + pcs && value != u32::MAX && self.data.place != 0 => {
                let change = self.data.change(moves, value.into()).unwrap_or(0) as u32;
                self.in_data.push((place, value.wrapping_add(change)));
                Word::By(change)
            }
            _ => Word::By(0),
        }
    }

    /// A word of the table by text, which follows from where the functions are now.
    fn bucket(&mut self, moves: &Moves, new_place: u64) -> Word {
        let at = self.find.map_or(u64::MAX, |find| new_place.wrapping_sub(find));
        if at >= 1 << 32 || !at.is_multiple_of(4) {
            return Word::By(0);
        }
        let text = self.entry(moves, 0).wrapping_add(at / ENTRY * BUCKET);
        let first = self.number(moves, text);
        let Some(word) = (at % ENTRY / 4).checked_sub(1) else {
            return Word::Is(first);
        };
        let parts: [u8; 4] = std::array::from_fn(|part| {
            let number = self.number(moves, text.wrapping_add((word * 4 + part as u64) * PART));
            number.wrapping_sub(first) as u8
        });
        Word::Is(u32::from_le_bytes(parts))
    }

    /// Where a function begins in the new text.
    fn entry(&self, moves: &Moves, function: usize) -> u64 {
        let Some(function) = self.tables.all.get(function) else {
            return u64::MAX;
        };
        let entry = u64::from(function.entry);
        entry.wrapping_add_signed(self.text.change(moves, entry).unwrap_or(0))
    }

    /// The number in the new file of the function that a place in the new text is in.
    fn number(&mut self, moves: &Moves, text: u64) -> u32 {
        let near = self.function..self.function + STEPS;
        let mut found = None;
        if self.entry(moves, near.start) <= text {
            found = near.into_iter().find(|&at| self.entry(moves, at + 1) > text);
        }
        self.function = found.unwrap_or_else(|| {
            let (mut low, mut high) = (0, self.tables.all.len());
            while low < high {
                let middle = low + (high - low) / 2;
                match self.entry(moves, middle) <= text {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            low.saturating_sub(1)
        });
        // Those that are new have made room in the table of functions.
        let more = self.functions.change(moves, 8 * self.function as u64);
        (self.function as u32).wrapping_add((more.unwrap_or(0) / 8) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moves::Earlier;
    use crate::patch::Copy;

    fn dice(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            state >> 24
        }
    }

    /// A file that is a header and numbers, most of them small.
    fn file(next: &mut impl FnMut() -> u64, wide: bool, count: u64) -> Vec<u8> {
        let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, if wide { 8 } else { 4 }];
        let mut offset = 72;
        for at in 0..8 {
            let value = match at {
                0 => count,
                1 | 2 => 7,
                _ => {
                    offset += next() % 64;
                    offset
                }
            };
            bytes.extend_from_slice(&value.to_le_bytes()[..if wide { 8 } else { 4 }]);
        }
        while bytes.len() < 4096 {
            let limit = [4, 256, 4096, 1 << 33][next() as usize % 4];
            bytes.extend_from_slice(&((next() % limit) as u32).to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8], places: Places, wide: bool) -> Option<Tables> {
        let read = |at: u64, into: &mut [u8]| {
            let start = usize::try_from(at).unwrap();
            // A panic if it lies beyond the file.
            into.copy_from_slice(&bytes[start..start + into.len()]);
            Ok(())
        };
        Tables::read(places, bytes.len() as u64, wide, read).unwrap()
    }

    #[test]
    fn any_tables_and_moves_are_gone_through() {
        let mut next = dice(3);
        let mut understood = 0;
        for round in 0..300u64 {
            let wide = round % 2 == 0;
            let count = [1, 20, 100, 500, 600, 1 << 18, 1 << 40, u64::MAX][next() as usize % 8];
            let bytes = file(&mut next, wide, count);
            let mut place = || [0, next() % 4096, 4096, u64::MAX][next() as usize % 4];
            let places = Places {
                header: if round % 5 == 0 { place() } else { 0 },
                text: place(),
                types: place(),
                data: place(),
                find: place(),
            };
            let Some(tables) = read(&bytes, places, wide) else {
                continue;
            };
            understood += 1;
            let copies: Vec<Copy> = (0..next() % 9)
                .map(|_| Copy {
                    from: next() % 3000,
                    length: next() % 1000,
                    new: next() % 1000,
                })
                .collect();
            let moves = Moves::new(&Earlier::default(), &copies, next() % (1 << 40));
            let adjust = [0, i64::MAX, i64::MIN, next() as i64];
            let mut go = Go::new(Arc::new(tables), adjust, &moves);
            for _ in 0..2000 {
                let place = next() % 5000;
                let value = (next() % [300, 5000, 1 << 32][next() as usize % 3]) as u32;
                go.word(&moves, place, next() % (1 << (next() % 40)), value);
                go.learn_header(place, next(), value);
                go.entry_change(&moves, value);
                go.offset_change(&moves, Elsewhere::Types, value);
                go.learn_data(|place| (place % 3 > 0).then_some(value));
            }
        }
        assert!(understood > 20, "{understood}");
    }

    #[test]
    fn headers_that_lie_are_no_tables() {
        let good = file(&mut dice(5), true, 10);
        let places = Places::default();
        assert!(read(&good, places, true).is_some());
        assert!(read(&good, places, false).is_none(), "of another size of words");
        for (at, value) in [
            (0, 0xf2u64),
            (4, 1),
            (6, 3),
            (8, 0),
            (8, 1 << 18 | 1),
            (8, u64::MAX),
            (32, 71),
            (32, u64::MAX),
            (40, 73),
            (64, 4096),
            (64, u64::MAX),
        ] {
            let mut bytes = good.clone();
            let size = if at < 8 { 1 } else { 8 };
            bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            assert!(read(&bytes, places, true).is_none(), "{value} at {at}");
        }
        for header in [1, 4090, 4096, 5000, u64::MAX] {
            assert!(read(&good, Places { header, ..places }, true).is_none(), "{header}");
        }
    }
}
