//! Names and places of an ELF file's sections, as far as a writer wants to know them.

use crate::elf::{Beyond, Class, HEAD, Segment};
use std::io;

/// Most sections that are looked at, and bytes of their names.
const SECTIONS: u64 = 256;
const NAMES: u64 = 64 * 1024;
/// Fills a buffer from a place in a file.
pub(super) type Read<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

/// A section of an ELF file.
pub(super) struct Section {
    pub name: String,
    pub address: u64,
    pub offset: u64,
    pub size: u64,
    /// It has bytes in the file, and not only in memory.
    pub in_file: bool,
}

/// The sections of an ELF file that are in memory when it runs.
pub(super) fn sections(size: u64, read: Read<'_>) -> io::Result<Vec<Section>> {
    let mut head = [0; HEAD];
    read(0, &mut head)?;
    let Some(class) = Class::of(&head) else {
        return Ok(Vec::new());
    };
    let names = u64::from(u16::from_le_bytes([head[class.counts + 8], head[class.counts + 9]]));
    let within = |at: u64, length: u64| at.checked_add(length).is_some_and(|end| end <= size);
    let known = &class.section;
    let table = class.sections_of(&head);
    let Some((start, count)) =
        table.filter(|&(start, count)| names < count && count <= SECTIONS && within(start, known.bytes * count))
    else {
        return Ok(Vec::new());
    };
    let mut table = vec![0; (known.bytes * count) as usize];
    read(start, &mut table)?;
    let names = &table[(known.bytes * names) as usize..];
    let (names_at, names_size) = (class.word(names, known.place), class.word(names, known.size));
    if names_size > NAMES || !within(names_at, names_size) {
        return Ok(Vec::new());
    }
    let mut names = vec![0; names_size as usize];
    read(names_at, &mut names)?;
    // Those in memory, but not those of each thread, which are a template.
    let flags = |header: &[u8]| class.word(header, known.flags);
    let headers = table
        .chunks_exact(known.bytes as usize)
        .filter(|header| flags(header) & 0x402 == 2);
    let section = |header: &[u8]| {
        let at = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let name = names
            .get(usize::try_from(at).ok()?..)?
            .split(|byte| *byte == 0)
            .next()?;
        let found = Section {
            name: String::from_utf8_lossy(name).into_owned(),
            address: class.word(header, known.address),
            offset: class.word(header, known.place),
            size: class.word(header, known.size),
            in_file: header[4] != 8,
        };
        (!found.in_file || within(found.offset, found.size)).then_some(found)
    };
    Ok(headers.filter_map(section).collect())
}

/// How far everything has moved, by section, or by segment where the new sections are not known.
pub(super) fn beyond(old: &[Section], new: &[Section], segments: [&[Segment]; 2]) -> Vec<Beyond> {
    let moved = |old: u64, new: u64| Beyond {
        address: old,
        moved: new.wrapping_sub(old) as i64,
    };
    let by_section = old.iter().filter_map(|old| {
        let same = new.iter().find(|new| new.name == old.name)?;
        Some(moved(old.address, same.address))
    });
    let mut all: Vec<Beyond> = match new {
        [] => {
            let both = segments[0].iter().zip(segments[1]);
            both.map(|(old, new)| moved(old.address, new.address)).collect()
        }
        _ => by_section.collect(),
    };
    all.sort_unstable_by_key(|beyond| beyond.address);
    all
}
