//! What is taken from an ELF file: what machine it is for, and where its segments lie in memory.

use crate::go;
use std::io;
use std::sync::Arc;

/// An old file whose addresses can be foreseen.
#[derive(Clone)]
pub(crate) struct Executable {
    pub machine: Machine,
    /// Addresses have 64 bits.
    pub wide: bool,
    pub segments: Vec<Segment>,
    /// What its headers say of places and sizes.
    pub fields: Vec<Field>,
    /// Where it moved what no copy tells of, by address.
    pub beyond: Vec<Beyond>,
    /// Go's tables of functions, if the writer of the delta found them, and what else it knows of where they moved.
    pub go: Option<(Arc<go::Tables>, go::Adjust)>,
}

/// An address from which on what no copy tells of has moved so far: what is only in memory (.bss), and what is in the
/// file behind the main copies so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Beyond {
    pub address: u64,
    pub moved: i64,
}

/// A word of a header: its place, its value, and what that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    pub place: u64,
    pub value: u64,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Address,
    Place,
    /// The size of what begins at a place.
    Size(u64),
    /// The size of what begins at an address.
    Span(u64),
}

/// Most of them.
pub(crate) const BEYOND: usize = 16;

/// A PT_LOAD segment of the old file, and by how much more its addresses move than its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub offset: u64,
    pub address: u64,
    pub in_file: u64,
    pub in_memory: u64,
    pub executable: bool,
    pub writable: bool,
    pub adjust: i64,
}

/// Most headers of segments and of sections that are read.
const HEADERS: u64 = 64;
/// Most segments that are understood.
const SEGMENTS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    I386,
    X86,
    Arm,
    Aarch64,
}

/// Where an ELF file of 32 or 64 bits has what, and the sizes of its headers.
pub(crate) struct Class {
    /// Bytes of an address.
    pub word: usize,
    pub segments: usize,
    pub sections: usize,
    /// The sizes and numbers of these headers.
    pub counts: usize,
    pub program: Header,
    pub section: Header,
}

/// Where a header has its flags, place in the file, address, size in the file and in memory.
pub(crate) struct Header {
    pub bytes: u64,
    pub flags: usize,
    pub place: usize,
    pub address: usize,
    pub size: usize,
    pub in_memory: usize,
}

const NARROW: Class = Class {
    word: 4,
    segments: 28,
    sections: 32,
    counts: 42,
    program: Header {
        bytes: 32,
        flags: 24,
        place: 4,
        address: 8,
        size: 16,
        in_memory: 20,
    },
    section: Header {
        bytes: 40,
        flags: 8,
        place: 16,
        address: 12,
        size: 20,
        in_memory: 20,
    },
};

const WIDE: Class = Class {
    word: 8,
    segments: 32,
    sections: 40,
    counts: 54,
    program: Header {
        bytes: 56,
        flags: 4,
        place: 8,
        address: 16,
        size: 32,
        in_memory: 40,
    },
    section: Header {
        bytes: 64,
        flags: 8,
        place: 24,
        address: 16,
        size: 32,
        in_memory: 32,
    },
};

impl Class {
    /// The class of a file that begins with `head`, if it is a little-endian ELF file.
    pub fn of(head: &[u8; HEAD]) -> Option<&'static Class> {
        match head[..6] {
            [0x7f, b'E', b'L', b'F', 1, 1] => Some(&NARROW),
            [0x7f, b'E', b'L', b'F', 2, 1] => Some(&WIDE),
            _ => None,
        }
    }

    /// A word at a place.
    pub fn word(&self, bytes: &[u8], at: usize) -> u64 {
        let mut word = [0; 8];
        word[..self.word].copy_from_slice(&bytes[at..at + self.word]);
        u64::from_le_bytes(word)
    }

    /// The place and number of one kind of headers, if they are of the size that they should be.
    fn table(&self, head: &[u8; HEAD], start: usize, count: usize, header: &Header) -> Option<(u64, u64)> {
        let half = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        (half(count) == header.bytes).then(|| (self.word(head, start), half(count + 2)))
    }

    pub fn segments_of(&self, head: &[u8; HEAD]) -> Option<(u64, u64)> {
        self.table(head, self.segments, self.counts, &self.program)
    }

    pub fn sections_of(&self, head: &[u8; HEAD]) -> Option<(u64, u64)> {
        self.table(head, self.sections, self.counts + 4, &self.section)
    }
}

/// Bytes of a file that are read to know what it is.
pub(crate) const HEAD: usize = 64;

impl Executable {
    /// Takes what is needed from an ELF file, read by `read`; nothing if it is none that is understood.
    pub fn read(size: u64, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Option<Executable>> {
        let mut head = [0; HEAD];
        if size < HEAD as u64 {
            return Ok(None);
        }
        read(0, &mut head)?;
        let Some(class) = Class::of(&head) else {
            return Ok(None);
        };
        let machine = match (class.word, u16::from_le_bytes([head[18], head[19]])) {
            (4, 3) => Machine::I386,
            (4, 40) => Machine::Arm,
            (8, 62) => Machine::X86,
            (8, 183) => Machine::Aarch64,
            _ => return Ok(None),
        };
        let mut table_of = |table: Option<(u64, u64)>, header: &Header| {
            let Some((start, count)) = table.filter(|(_, count)| *count <= HEADERS) else {
                return Ok(None);
            };
            let bytes = count * header.bytes;
            if start.checked_add(bytes).is_none_or(|end| end > size) {
                return Ok(None);
            }
            let mut table = vec![0; bytes as usize];
            read(start, &mut table)?;
            Ok::<_, io::Error>(Some((start, table)))
        };
        let Some((start, table)) = table_of(class.segments_of(&head), &class.program)? else {
            return Ok(None);
        };
        let (start_of_sections, sections) = table_of(class.sections_of(&head), &class.section)?.unwrap_or_default();
        let mut fields = class.fields(start, &table, start_of_sections, &sections);
        for (place, what) in [(24, What::Address), (class.sections, What::Place)] {
            fields.push(Field {
                place: place as u64,
                value: class.word(&head, place),
                what,
            });
        }
        fields.retain(|field| field.value != 0);
        fields.sort_unstable_by_key(|field| field.place);
        let Header {
            bytes,
            flags,
            place,
            address,
            size,
            in_memory,
        } = class.program;
        let loads = table
            .chunks_exact(bytes as usize)
            .filter(|header| header[..4] == [1, 0, 0, 0]);
        let segments: Vec<Segment> = loads
            .map(|header| Segment {
                executable: header[flags] & 1 != 0,
                writable: header[flags] & 2 != 0,
                offset: class.word(header, place),
                address: class.word(header, address),
                in_file: class.word(header, size),
                in_memory: class.word(header, in_memory),
                adjust: 0,
            })
            .collect();
        let fits = |segment: &Segment| {
            let limit = 1u64 << 48;
            segment.offset < limit && segment.address < limit && segment.in_file < limit && segment.in_memory < limit
        };
        let fit = segments.len() <= SEGMENTS && segments.iter().all(fits);
        Ok(fit.then_some(Executable {
            machine,
            wide: class.word == 8,
            segments,
            fields,
            beyond: Vec::new(),
            go: None,
        }))
    }

    /// Works out each segment's adjustment from the new file's segments.
    pub fn adjust(&mut self, new: &Executable) {
        for (old, new) in self.segments.iter_mut().zip(&new.segments) {
            let bias = |segment: &Segment| segment.address as i64 - segment.offset as i64;
            old.adjust = bias(new) - bias(old);
        }
    }

    /// The place in the file of an address.
    pub fn place(&self, address: u64) -> Option<u64> {
        let inside = |segment: &&Segment| address.wrapping_sub(segment.address) < segment.in_file;
        let segment = self.segments.iter().find(inside)?;
        Some(address - segment.address + segment.offset)
    }
}

impl Class {
    /// What the headers of segments and sections say, which begin at these places.
    fn fields(&self, segments_at: u64, segments: &[u8], sections_at: u64, sections: &[u8]) -> Vec<Field> {
        let mut fields = Vec::new();
        let mut add = |table: u64, number: usize, header: &[u8], at: usize, what: What| {
            fields.push(Field {
                place: table + (number * header.len() + at) as u64,
                value: self.word(header, at),
                what,
            });
        };
        let known = &self.program;
        for (number, header) in segments.chunks_exact(known.bytes as usize).enumerate() {
            let (place, address) = (self.word(header, known.place), self.word(header, known.address));
            for (at, what) in [
                (known.place, What::Place),
                (known.address, What::Address),
                // The physical address.
                (known.address + self.word, What::Address),
                (known.size, What::Size(place)),
                (known.in_memory, What::Span(address)),
            ] {
                add(segments_at, number, header, at, what);
            }
        }
        let known = &self.section;
        for (number, header) in sections.chunks_exact(known.bytes as usize).enumerate() {
            let (place, address) = (self.word(header, known.place), self.word(header, known.address));
            // 8 is a section that is only in memory.
            let size = if header[4] != 8 {
                What::Size(place)
            } else {
                What::Span(address)
            };
            for (at, what) in [
                (known.address, What::Address),
                (known.place, What::Place),
                (known.size, size),
            ] {
                add(sections_at, number, header, at, what);
            }
        }
        fields
    }
}
