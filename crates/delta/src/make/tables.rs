//! Finds Go's tables in an old file, for the reader to be told where they are.

use super::sections::{Read, Section};
use crate::elf::Executable;
use crate::go::{Places, Tables};
use crate::patch::{COPIES, Copy};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;

/// Most bytes of data that are looked through for the description of the program's tables.
const DATA: u64 = 64 << 20;

/// The tables of a file that Go's linker wrote.
pub(super) fn find(
    executable: &Executable,
    sections: &[Section],
    size: u64,
    read: Read<'_>,
) -> io::Result<Option<Tables>> {
    let named = |end: &str| sections.iter().find(|section| section.name.ends_with(end));
    let Some(table) = named(".gopclntab") else {
        return Ok(None);
    };
    let mut places = Places {
        header: table.offset,
        text: named(".text").map_or(0, |text| text.offset),
        ..Places::default()
    };
    let mut magic = [0];
    if table.size == 0 {
        return Ok(None);
    }
    read(table.offset, &mut magic)?;
    if let Some(words) = module(executable, table.address, sections, read)? {
        // Go 1.20 added two words in the middle.
        let more = if magic[0] == 0xf0 { 0 } else { 2 };
        let place = |word: usize| executable.place(words[word]).unwrap_or(0);
        (places.find, places.text) = (place(19), place(22));
        (places.types, places.data) = (place(35 + more), place(38 + more));
    }
    Tables::read(places, size, executable.wide, read)
}

/// Words of a `runtime.moduledata`.
const WORDS: usize = 41;

/// Looks for the `runtime.moduledata` that describes the table at an address.
fn module(
    executable: &Executable,
    table: u64,
    sections: &[Section],
    read: Read<'_>,
) -> io::Result<Option<[u64; WORDS]>> {
    let mut buffer = vec![0; 64 * 1024];
    let step = if executable.wide { 8 } else { 4 };
    for section in sections.iter().filter(|section| section.in_file) {
        if executable.place(section.address) != Some(section.offset) || section.size > DATA {
            continue;
        }
        if !matches!(
            &section.name[..],
            ".go.module" | ".noptrdata" | ".data" | ".data.rel.ro"
        ) {
            continue;
        }
        let mut at = section.offset;
        let end = section.offset + section.size;
        while at + (WORDS * step) as u64 <= end {
            let length = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            read(at, &mut buffer[..length])?;
            let word = |at: usize| {
                let mut word = [0; 8];
                word[..step].copy_from_slice(&buffer[at..at + step]);
                u64::from_le_bytes(word)
            };
            let last = length - WORDS * step;
            for place in (0..=last).step_by(step) {
                // The table, its names, and how many bytes of them there are, twice.
                let is_it = word(place) == table && word(place + step) > table;
                if is_it && word(place + 2 * step) == word(place + 3 * step) {
                    return Ok(Some(std::array::from_fn(|n| word(place + n * step))));
                }
            }
            at += (last / step * step + step) as u64;
        }
    }
    Ok(None)
}

/// Has the table of functions made from the rows of the same functions: hardly a byte of it stays as it is, so that
/// what is alike by chance would be found instead.
pub(super) fn align(old_tables: &Tables, old: &[u8], new_tables: &Tables, new: &[u8], copies: &mut Vec<Copy>) {
    let (old_rows, old_names) = functions(old_tables, old);
    let (new_rows, new_names) = functions(new_tables, new);
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    for (row, name) in old_names.iter().enumerate() {
        known.entry(*name).or_default().push(row);
    }
    let mut rows: Vec<Copy> = Vec::new();
    let mut next = 0;
    for name in &new_names {
        let same = match old_names.get(next) {
            Some(old) if old == name => Some(next),
            _ => known
                .get(name)
                .and_then(|rows| rows.iter().copied().min_by_key(|row| row.abs_diff(next))),
        };
        let from = old_rows + 8 * same.unwrap_or(next) as u64;
        match (rows.last_mut(), same) {
            (Some(last), Some(_)) if last.new == 0 && last.from + last.length == from => last.length += 8,
            (Some(last), None) => last.new += 8,
            (_, same) => {
                let (length, new) = if same.is_some() { (8, 0) } else { (0, 8) };
                rows.push(Copy { from, length, new });
            }
        }
        next = same.map_or(next, |row| row + 1);
    }
    // Where the last function ends.
    let end = Copy {
        from: old_rows + 8 * old_names.len() as u64,
        length: 4,
        new: 0,
    };
    match rows.last_mut() {
        Some(last) if last.new == 0 && last.from + last.length == end.from => last.length += 4,
        _ => rows.push(end),
    }
    if copies.len() + rows.len() < COPIES {
        put(copies, new_rows, rows);
    }
}

/// Puts copies into a list of them, from a place in the new file on.
fn put(copies: &mut Vec<Copy>, start: u64, put: Vec<Copy>) {
    let end = start + put.iter().map(|copy| copy.length + copy.new).sum::<u64>();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut at = 0;
    for copy in copies.drain(..) {
        let (copied, all) = (at + copy.length, at + copy.length + copy.new);
        if at < start {
            let length = copied.min(start) - at;
            before.push(Copy {
                from: copy.from,
                length,
                new: all.min(start) - at - length,
            });
        }
        if all > end {
            let from = at.max(end);
            let length = copied.saturating_sub(from);
            after.push(Copy {
                from: copy.from + copy.length - length,
                length,
                new: all - from - length,
            });
        }
        at = all;
    }
    for copy in before.into_iter().chain(put).chain(after) {
        match copies.last_mut() {
            Some(last) if last.new == 0 && last.from + last.length == copy.from => {
                last.length += copy.length;
                last.new = copy.new;
            }
            _ => copies.push(copy),
        }
    }
}

/// The place of the table of functions, and a hash of each function's name.
fn functions(tables: &Tables, bytes: &[u8]) -> (u64, Vec<u64>) {
    let (names, rows, records) = tables.functions();
    let name = |record: u64| {
        let at = usize::try_from(record).ok()?;
        let offset = u32::from_le_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?);
        let start = usize::try_from(names + u64::from(offset)).ok()?;
        let name = bytes.get(start..)?.split(|byte| *byte == 0).next()?;
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Some(hasher.finish())
    };
    (rows, records.map(|record| name(record).unwrap_or(0)).collect())
}
