//! Foresees how addresses in an executable change when what they point to moves.
//!
//! A copied stretch of code or of tables is right but for the addresses in it. The list of copies says where everything
//! moved, so most new addresses can be computed: a call's distance changes by how far its target moved less how far
//! the call moved. Both sides do so, in the same order and windows, before the corrections are applied; an address
//! that is foreseen wrongly, or bytes that only looked like one, cost a correction, as they would have without.
//!
//! Understood are 64-bit little-endian ELF files for x86-64 (distances after call, jump, conditional jump, and in
//! RIP-relative operands) and AArch64 (branches and ADRP). In segments that are not executable, for both: 64-bit
//! addresses; 32-bit words that were seen to change before, which change the same way; distances into code.

use crate::patch::Copy;
use std::io;

/// A PT_LOAD segment of the old file, and by how much more its addresses move than its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
    executable: bool,
    pub adjust: i64,
}

/// Most segments that are understood.
const SEGMENTS: usize = 16;
/// Copies shorter than this tell nothing about where things moved.
const TELLING: u64 = 32;
/// Copies at least this long tell it of what lies between them, too.
const MAIN: u64 = 4096;
/// Copies before a place that are looked at for one it is in.
const LOOK_BACK: usize = 12;
/// Words below this are too common to be remembered.
const SMALLEST: u32 = 256;
const MEMORY_BITS: u32 = 15;
/// Words that differ in so many low bits only, but not in the last two, are taken as of one kind.
const KIND_BITS: u32 = 15;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machine {
    X86,
    Arm,
}

/// The load segments of an ELF file, read by `read`; nothing if it is none that is understood.
pub(crate) fn segments(
    size: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Option<(Machine, Vec<Segment>)>> {
    let mut head = [0; 64];
    if size < 64 {
        return Ok(None);
    }
    read(0, &mut head)?;
    if head[..6] != *b"\x7fELF\x02\x01" {
        return Ok(None);
    }
    let machine = match u16::from_le_bytes([head[18], head[19]]) {
        62 => Machine::X86,
        183 => Machine::Arm,
        _ => return Ok(None),
    };
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let start = word(&head, 32);
    let count = usize::from(u16::from_le_bytes([head[56], head[57]]));
    if head[54..56] != [56, 0] || count > 64 || start.checked_add(64 * 56).is_none_or(|end| end > size) {
        return Ok(None);
    }
    let mut table = vec![0; count * 56];
    read(start, &mut table)?;
    let loads = table.chunks_exact(56).filter(|entry| entry[..4] == [1, 0, 0, 0]);
    let segments: Vec<Segment> = loads
        .map(|entry| Segment {
            executable: entry[4] & 1 != 0,
            offset: word(entry, 8),
            address: word(entry, 16),
            in_file: word(entry, 32),
            in_memory: word(entry, 40),
            adjust: 0,
        })
        .collect();
    let fits = |segment: &Segment| {
        let limit = 1u64 << 48;
        segment.offset < limit && segment.address < limit && segment.in_file < limit && segment.in_memory < limit
    };
    Ok((segments.len() <= SEGMENTS && segments.iter().all(fits)).then_some((machine, segments)))
}

/// Works out each old segment's adjustment from the new file's segments.
pub(crate) fn adjust(old: &mut [Segment], new: &[Segment]) {
    for (old, new) in old.iter_mut().zip(new) {
        let bias = |segment: &Segment| segment.address as i64 - segment.offset as i64;
        old.adjust = bias(new) - bias(old);
    }
}

/// What is known while one piece is made.
pub(crate) struct Foresight {
    machine: Machine,
    segments: Vec<Segment>,
    /// The telling copies, and of them the main ones, by place.
    moves: Vec<Move>,
    main: Vec<Move>,
    /// Old words that changed, and by how much they did last.
    memory: Vec<(u32, u32)>,
    /// For each kind of word, by how much the last one changed, and which rule was right about it.
    kinds: Vec<(u32, Rule)>,
    /// Lowest and highest address of all, and of code.
    all: (u64, u64),
    code: (u64, u64),
}

/// A copy's place in the old file and its end, and how far it moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Move {
    from: u64,
    end: u64,
    moved: i64,
}

/// How a word in data is foreseen to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Nothing is known of its kind yet: as the same word did, else as a distance into code.
    Unknown,
    Not,
    Same,
    Distance,
    /// As the last of its kind did.
    Kind,
}

impl Foresight {
    /// Takes the copies of a piece that begins at `new_at` in the new file.
    pub fn new(machine: Machine, segments: Vec<Segment>, copies: &[Copy], mut new_at: u64) -> Foresight {
        let mut moves = Vec::new();
        for copy in copies {
            if copy.length >= TELLING {
                moves.push(Move {
                    from: copy.from,
                    end: copy.from + copy.length,
                    moved: new_at.wrapping_sub(copy.from) as i64,
                });
            }
            new_at += copy.length + copy.new;
        }
        moves.sort_unstable();
        let span = |code: bool| {
            let within = segments.iter().filter(|segment| segment.executable || !code);
            let start = within.clone().map(|segment| segment.address).min().unwrap_or(0);
            (
                start,
                within
                    .map(|segment| segment.address + segment.in_memory)
                    .max()
                    .unwrap_or(0),
            )
        };
        Foresight {
            machine,
            all: span(false),
            code: span(true),
            segments,
            main: moves
                .iter()
                .filter(|a_move| a_move.end - a_move.from >= MAIN)
                .copied()
                .collect(),
            moves,
            memory: vec![(0, 0); 1 << MEMORY_BITS],
            kinds: vec![(0, Rule::Unknown); 1 << MEMORY_BITS],
        }
    }

    /// By how much what was at an address has moved.
    fn moved(&self, address: u64) -> Option<i64> {
        let inside = |segment: &&Segment| address.wrapping_sub(segment.address) < segment.in_memory;
        let segment = self.segments.iter().find(inside)?;
        let place = address - segment.address + segment.offset;
        let before = |moves: &[Move]| moves.partition_point(|a_move| a_move.from <= place);
        let near = &self.moves[..before(&self.moves)];
        let within = near.iter().rev().take(LOOK_BACK).filter(|a_move| place < a_move.end);
        let best = within.max_by_key(|a_move| a_move.end - a_move.from);
        let best = best
            .or_else(|| self.main[..before(&self.main)].last())
            .or(self.main.first());
        Some(best?.moved.wrapping_add(segment.adjust))
    }

    /// The segment of a place in the old file.
    fn segment(&self, place: u64) -> Option<&Segment> {
        let inside = |segment: &&Segment| place.wrapping_sub(segment.offset) < segment.in_file;
        self.segments.iter().find(inside)
    }

    /// Changes the addresses in bytes copied from `old_at` to `new_at`, and says how many bytes are done with. Unless
    /// they are the `last` of their copy, some are left over, because an address may go on behind them.
    pub fn foresee(&self, old_at: u64, new_at: u64, bytes: &mut [u8], last: bool) -> usize {
        let Some(segment) = self.segment(old_at) else {
            return bytes.len();
        };
        // One window is taken as being all of one segment.
        let end = if last { bytes.len() } else { bytes.len() - 16 };
        let here = Here::new(segment, old_at, new_at);
        match (segment.executable, self.machine) {
            (true, Machine::X86) => self.x86(here, bytes, end),
            (true, Machine::Arm) => self.arm(here, bytes, end),
            (false, _) => self.data(here, bytes, end),
        }
    }

    /// The change of a distance at `at` that is counted from `end` bytes after its beginning.
    fn distance(&self, here: Here, at: usize, from: u64, value: u32) -> Option<u32> {
        let target = (here.address + at as u64 + from).wrapping_add_signed(i64::from(value as i32));
        let moved = self.moved(target)?;
        Some(moved.wrapping_sub(here.moved) as u32)
    }

    fn x86(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = 0;
        while at < end {
            let field = match &bytes[at..] {
                [0xe8 | 0xe9, _, _, _, _, ..] => 1,
                [0x0f, 0x80..0x90, _, _, _, _, ..] => 2,
                [0x0f, _, operand, _, _, _, _, ..] if operand & 0xc7 == 5 => 3,
                [opcode, operand, _, _, _, _, ..] if operand & 0xc7 == 5 && has_operand(*opcode) => 2,
                _ => {
                    at += 1;
                    continue;
                }
            };
            let value = word(bytes, at + field);
            match self.distance(here, at + field, 4, value) {
                Some(change) => {
                    put_word(bytes, at + field, value.wrapping_add(change));
                    at += field + 4;
                }
                None => at += 1,
            }
        }
        at
    }

    fn arm(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = (here.address.wrapping_neg() & 3) as usize;
        while at < end && at + 4 <= bytes.len() {
            let instruction = word(bytes, at);
            let place = here.address + at as u64;
            if instruction & 0x7c00_0000 == 0x1400_0000 {
                // B and BL: 26 bits of words.
                let distance = ((instruction << 6) as i32 >> 4) as u32;
                if let Some(change) = self.distance(here, at, 0, distance).filter(|change| change & 3 == 0) {
                    let distance = distance.wrapping_add(change) >> 2 & 0x03ff_ffff;
                    put_word(bytes, at, instruction & 0xfc00_0000 | distance);
                }
            } else if instruction & 0x9f00_0000 == 0x9000_0000 {
                // ADRP: 21 bits of pages, the lower two apart.
                let pages = (instruction << 8) as i32 >> 13 << 2 | (instruction >> 29 & 3) as i32;
                let target = (place & !0xfff).wrapping_add_signed(i64::from(pages) << 12);
                if let Some(moved) = self.moved(target) {
                    let page = |address: u64| (address >> 12) as u32;
                    let to = page(target.wrapping_add_signed(moved));
                    let pages = to.wrapping_sub(page(place.wrapping_add_signed(here.moved)));
                    let field = (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
                    put_word(bytes, at, instruction & !0x60ff_ffe0 | field);
                }
            }
            at += 4;
        }
        at.max(end).min(bytes.len())
    }

    fn data(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = (here.address.wrapping_neg() & 3) as usize;
        while at < end && at + 4 <= bytes.len() {
            let value = word(bytes, at);
            let aligned = (here.address + at as u64) & 7 == 0;
            let is_address = |value: u32| (self.all.0.max(4096)..self.all.1).contains(&u64::from(value));
            if aligned && at + 8 <= bytes.len() && is_address(value) && word(bytes, at + 4) == 0 {
                if let Some(change) = self.moved(value.into()) {
                    put_word(bytes, at, value.wrapping_add(change as u32));
                }
                at += 8;
                continue;
            }
            if value >= SMALLEST {
                let (last, rule) = self.kinds[slot(kind(value))];
                let change = match rule {
                    Rule::Unknown => self.same(value).or_else(|| self.code_distance(here, at, value)),
                    Rule::Not => None,
                    Rule::Same => self.same(value),
                    Rule::Distance => self.code_distance(here, at, value),
                    Rule::Kind => Some(last),
                };
                put_word(bytes, at, value.wrapping_add(change.unwrap_or(0)));
            }
            at += 4;
        }
        at.max(end).min(bytes.len())
    }

    /// How the same word changed last.
    fn same(&self, value: u32) -> Option<u32> {
        let (known, change) = self.memory[slot(value)];
        (known == value).then_some(change)
    }

    /// How a word changes if it is a distance into code.
    fn code_distance(&self, here: Here, at: usize, value: u32) -> Option<u32> {
        let target = (here.address + at as u64).wrapping_add_signed(i64::from(value as i32));
        if target.wrapping_sub(self.code.0) >= self.code.1 - self.code.0 {
            return None;
        }
        self.distance(here, at, 0, value)
    }

    /// Remembers how words changed from `old` bytes, which were at `old_at`, to `new` ones.
    pub fn learn(&mut self, old_at: u64, new_at: u64, old: &[u8], new: &[u8]) {
        let Some(segment) = self.segment(old_at) else { return };
        if segment.executable {
            return;
        }
        let here = Here::new(segment, old_at, new_at);
        let mut at = (here.address.wrapping_neg() & 3) as usize;
        while at + 4 <= old.len() {
            let (value, change) = (word(old, at), word(new, at).wrapping_sub(word(old, at)));
            if value >= SMALLEST {
                let same = self.same(value);
                let code_distance = self.code_distance(here, at, value);
                let (last, rule) = self.kinds[slot(kind(value))];
                let right = |rule: Rule| match rule {
                    Rule::Unknown => false,
                    Rule::Not => change == 0,
                    Rule::Same => same == Some(change),
                    Rule::Distance => code_distance == Some(change),
                    Rule::Kind => last == change,
                };
                let rules = [rule, Rule::Same, Rule::Distance, Rule::Not];
                let rule = rules.into_iter().find(|&rule| right(rule)).unwrap_or(Rule::Kind);
                self.kinds[slot(kind(value))] = (change, rule);
                if change != 0 || same.is_some() {
                    self.memory[slot(value)] = (value, change);
                }
            }
            at += 4;
        }
    }
}

/// Where a window of bytes was, and by how much it has moved.
#[derive(Clone, Copy)]
struct Here {
    address: u64,
    moved: i64,
}

impl Here {
    fn new(segment: &Segment, old_at: u64, new_at: u64) -> Here {
        Here {
            address: old_at - segment.offset + segment.address,
            moved: (new_at.wrapping_sub(old_at) as i64).wrapping_add(segment.adjust),
        }
    }
}

/// What words are of one kind: about as large, and aligned alike, as offsets into one table are.
fn kind(value: u32) -> u32 {
    ((value >> KIND_BITS) << 2) | (value & 3)
}

fn slot(value: u32) -> usize {
    (value.wrapping_mul(0x9e37_79b1) >> (32 - MEMORY_BITS)) as usize
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn put_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// One-byte opcodes of x86 that have a ModRM operand and are common with a RIP-relative one.
fn has_operand(opcode: u8) -> bool {
    matches!(opcode,
        0x01..=0x03 | 0x08..=0x0b | 0x21 | 0x23 | 0x29 | 0x2b | 0x31 | 0x33 | 0x38..=0x3b | 0x63 | 0x69 | 0x6b
        | 0x80 | 0x81 | 0x83..=0x8b | 0x8d | 0xc6 | 0xc7 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff
        // VEX-encoded loads, stores and arithmetic.
        | 0x10 | 0x11 | 0x28 | 0x54 | 0x57..=0x59 | 0x5c | 0x5e | 0x6f | 0x7f | 0xd6 | 0xef)
}
