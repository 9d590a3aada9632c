//! Foresees how addresses in an executable change when what they point to moves.
//!
//! A copied stretch of code or of tables is right but for the addresses in it. The list of copies says where everything
//! moved, so most new addresses can be computed: a call's distance changes by how far its target moved less how far
//! the call moved. Both sides do so, in the same order and windows, before the corrections are applied; an address
//! that is foreseen wrongly, or bytes that only looked like one, cost a correction, as they would have without.
//!
//! Understood are little-endian ELF files for four machines, whose code is in [`crate::code`]; their headers; and in
//! segments that are not executable addresses, 32-bit words that were seen to change before, which change the same way,
//! distances into code, and Go's tables ([`crate::go`]).

use crate::elf::{Beyond, Executable, Field, Machine, Segment, What};
use crate::go::{Elsewhere, Go, Word};
use crate::moves::{Earlier, Moves};
use crate::patch::Copy;

/// Words below this are too common to be remembered.
const SMALLEST: u32 = 256;
const MEMORY_BITS: u32 = 15;
/// Addresses from here on are not like other numbers.
const LOWEST: u64 = 0x8000;
/// Words that differ in so many low bits only, but not in the last two, are taken as of one kind.
const KIND_BITS: u32 = 15;

/// What is known while one piece is made.
pub(crate) struct Foresight {
    machine: Machine,
    wide: bool,
    segments: Vec<Segment>,
    beyond: Vec<Beyond>,
    moves: Moves,
    /// For each register of AArch64, where it last got the address of a page, and this.
    pub(crate) pages: [(u64, u64); 32],
    /// Places of words in headers, in order, and what these become.
    headers: Vec<(u64, u64)>,
    /// Go's tables, if the file has them.
    go: Option<Go>,
    learned: Memory,
    /// Lowest and highest address of all, and of code.
    all: (u64, u64),
    code: (u64, u64),
}

/// What was learned of words: 420 KiB, which the next piece and the next file take over. What is asked of nearly every word
/// has 36 of them, which a processor has at hand.
pub(crate) struct Memory {
    /// A bit for each slot that has a word.
    known: Vec<u64>,
    /// Old words that changed, and by how much they did last.
    words: Vec<(u32, u32)>,
    /// For each kind of word, which rule was right about the last one; and if it was its kind's, by how much it changed.
    rules: Vec<Rule>,
    changes: Vec<u32>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            known: vec![0; 1 << (MEMORY_BITS - 6)],
            words: vec![(0, 0); 1 << MEMORY_BITS],
            rules: vec![Rule::Unknown; 1 << MEMORY_BITS],
            changes: vec![0; 1 << MEMORY_BITS],
        }
    }
}

impl Memory {
    fn forget(&mut self) {
        self.known.fill(0);
        self.rules.fill(Rule::Unknown);
    }

    /// How the same word changed last.
    fn same(&self, value: u32) -> Option<u32> {
        let slot = slot(value);
        if self.known[slot / 64] >> (slot % 64) & 1 == 0 {
            return None;
        }
        let (known, change) = self.words[slot];
        (known == value).then_some(change)
    }

    fn word(&mut self, value: u32, change: u32) {
        let slot = slot(value);
        self.known[slot / 64] |= 1 << (slot % 64);
        self.words[slot] = (value, change);
    }
}

/// How a word in data is foreseen to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Nothing is known of its kind yet: as the same word did, else as a distance into code.
    Unknown,
    Not,
    Same,
    Distance,
    /// An address of 32 bits.
    Address,
    /// An offset from one of Go's tables.
    Offset(Elsewhere),
    /// As the last of its kind did.
    Kind,
}

impl Foresight {
    /// Takes the copies of a piece that begins at `new_at` in the new file, and the main ones of the pieces before.
    pub fn new(
        executable: Executable,
        earlier: &Earlier,
        copies: &[Copy],
        new_at: u64,
        mut learned: Memory,
    ) -> Foresight {
        learned.forget();
        let Executable {
            machine,
            wide,
            segments,
            fields,
            beyond,
            go,
        } = executable;
        let moves = Moves::new(earlier, copies, new_at);
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
        let mut foresight = Foresight {
            machine,
            wide,
            headers: Vec::new(),
            all: span(false),
            code: span(true),
            segments,
            beyond,
            go: go.map(|(tables, adjust)| Go::new(tables, adjust, &moves)),
            moves,
            pages: [(0, 0); 32],
            learned,
        };
        let becomes = |field: &Field| Some((field.place, foresight.header(field)?));
        foresight.headers = fields.iter().filter_map(becomes).collect();
        foresight
    }

    /// Ends the piece.
    pub fn finish(self) -> Memory {
        self.learned
    }

    /// What a word of a header becomes.
    fn header(&self, field: &Field) -> Option<u64> {
        let Field { value, .. } = *field;
        let last = value.checked_sub(1)?;
        let change = match field.what {
            What::Address => self.moved(value)?,
            What::Place => self.moves.at(value)?,
            What::Size(place) => {
                let end = self.moves.at(place.checked_add(last)?)?;
                end.wrapping_sub(self.moves.at(place)?)
            }
            What::Span(address) => {
                let end = self.moved(address.checked_add(last)?)?;
                end.wrapping_sub(self.moved(address)?)
            }
        };
        Some(value.wrapping_add_signed(change))
    }

    /// By how much what was at an address has moved.
    pub(crate) fn moved(&self, address: u64) -> Option<i64> {
        let inside = |segment: &&Segment| address.wrapping_sub(segment.address) < segment.in_memory;
        let segment = self.segments.iter().find(inside)?;
        let within = address - segment.address;
        let place = within + segment.offset;
        if (within >= segment.in_file || place >= self.moves.end)
            && let Some(beyond) = self.beyond.iter().rfind(|beyond| beyond.address <= address)
        {
            return Some(beyond.moved);
        }
        Some(self.moves.at(place)?.wrapping_add(segment.adjust))
    }

    /// Says if a value is an address, and not a small one.
    pub(crate) fn is_address(&self, value: u32) -> bool {
        (self.all.0.max(4096)..self.all.1).contains(&u64::from(value))
    }

    /// Says if other numbers are like addresses, because these begin at 0.
    pub(crate) fn has_low_addresses(&self) -> bool {
        self.all.0 < LOWEST
    }

    /// The change of a distance to what is writable.
    pub(crate) fn distance_to_data(&self, here: Here, at: usize, value: u32) -> Option<u32> {
        let target = here.address + at as u64 + u64::from(value);
        let inside = |segment: &Segment| segment.writable && target.wrapping_sub(segment.address) < segment.in_memory;
        if !self.segments.iter().any(inside) {
            return None;
        }
        self.distance(here, at, 0, value, false)
    }

    /// The segment of a place in the old file.
    fn segment(&self, place: u64) -> Option<&Segment> {
        let inside = |segment: &&Segment| place.wrapping_sub(segment.offset) < segment.in_file;
        self.segments.iter().find(inside)
    }

    /// Changes the addresses in bytes copied from `old_at` to `new_at`, and says how many bytes are done with. Unless
    /// they are the `last` of their copy, some are left over, because an address may go on behind them.
    pub fn foresee(&mut self, old_at: u64, new_at: u64, bytes: &mut [u8], last: bool) -> usize {
        self.go.iter_mut().for_each(Go::begin);
        let done = match self.segment(old_at) {
            None => bytes.len(),
            Some(segment) => {
                // One window is taken as being all of one segment.
                let end = if last { bytes.len() } else { bytes.len() - 16 };
                let here = Here::new(segment, old_at, new_at);
                match (segment.executable, self.machine) {
                    (true, Machine::X86) => self.x86(here, bytes, end),
                    (true, Machine::I386) => self.i386(here, bytes, end),
                    (true, Machine::Arm) => self.arm(here, bytes, end),
                    (true, Machine::Aarch64) => self.aarch64(here, bytes, end),
                    (false, _) => self.data(here, bytes, end),
                }
            }
        };
        self.foresee_headers(old_at, &mut bytes[..done])
    }

    /// Changes what is a header's, and says how many bytes are done with: a word at the end is left to what comes next.
    fn foresee_headers(&self, old_at: u64, bytes: &mut [u8]) -> usize {
        let end = old_at + bytes.len() as u64;
        let first = self.headers.partition_point(|(place, _)| *place < old_at);
        for (place, value) in &self.headers[first..] {
            if *place >= end {
                break;
            }
            let at = (place - old_at) as usize;
            let word = if self.wide { 8 } else { 4 };
            match bytes.get_mut(at..at + word) {
                Some(bytes) => bytes.copy_from_slice(&value.to_le_bytes()[..word]),
                None if at > 0 => return at,
                None => {}
            }
        }
        bytes.len()
    }

    /// The change of a distance at `at` that is counted from `end` bytes after its beginning.
    pub(super) fn distance(&self, here: Here, at: usize, from: u64, value: u32, to_code: bool) -> Option<u32> {
        let target = (here.address + at as u64 + from).wrapping_add_signed(i64::from(value as i32));
        if to_code && !(self.code.0..self.code.1).contains(&target) {
            return None;
        }
        let moved = self.moved(target)?;
        Some(moved.wrapping_sub(here.moved) as u32)
    }

    fn data(&mut self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = (here.address.wrapping_neg() & 3) as usize;
        let mut before = u32::MAX;
        while at < end && at + 4 <= bytes.len() {
            if let Some(go) = &self.go {
                let still = go.still(here.old_at + at as u64);
                if still > 0 {
                    let most = (end - at).div_ceil(4).min((bytes.len() - at) / 4);
                    at += 4 * usize::try_from(still.div_ceil(4)).map_or(most, |still| still.min(most));
                    continue;
                }
            }
            let value = word(bytes, at);
            if value < SMALLEST && self.go.is_none() {
                at += 4;
                continue;
            }
            let mut aligned = !self.wide || (here.address + at as u64) & 7 == 0;
            let go = self.go.as_mut().map(|go| {
                let (old_at, new_at) = (here.old_at + at as u64, here.new_at + at as u64);
                go.word(&self.moves, old_at, new_at, value)
            });
            match go {
                None | Some(Word::Outside) => {}
                Some(Word::Data) => aligned = false,
                Some(Word::By(0)) => {
                    at += 4;
                    continue;
                }
                Some(Word::By(change)) => {
                    put_word(bytes, at, value.wrapping_add(change));
                    at += 4;
                    continue;
                }
                Some(Word::Is(value)) => {
                    put_word(bytes, at, value);
                    at += 4;
                    continue;
                }
            }
            let size = if self.wide { 8 } else { 4 };
            let pointer = match self.wide {
                true => aligned && at + 8 <= bytes.len() && word(bytes, at + 4) == 0,
                false => aligned && self.is_pointer(here, before, value),
            };
            if pointer && self.is_address(value) {
                if let Some(change) = self.moved(value.into()) {
                    put_word(bytes, at, value.wrapping_add(change as u32));
                }
                before = if self.wide { 0 } else { value };
                at += size;
                continue;
            }
            if value >= SMALLEST {
                let change = match self.go {
                    Some(_) if here.writable => None,
                    Some(_) => self.foreseen_offset(before, value),
                    None => self.foreseen(here, at, value),
                };
                put_word(bytes, at, value.wrapping_add(change.unwrap_or(0)));
            }
            before = value;
            at += 4;
        }
        at.max(end).min(bytes.len())
    }

    /// Says if a word that could be an address of 32 bits is taken for one.
    fn is_pointer(&self, here: Here, before: u32, value: u32) -> bool {
        match self.go {
            Some(_) => {
                let rule = self.learned.rules[slot(kind_after(before, value))];
                here.writable || matches!(rule, Rule::Unknown | Rule::Address)
            }
            None => match self.learned.rules[slot(kind(value))] {
                // Where addresses begin at 0, other numbers are like them.
                Rule::Unknown => here.writable || !self.has_low_addresses(),
                rule => rule == Rule::Address,
            },
        }
    }

    /// The change of a word that is no address.
    fn foreseen(&self, here: Here, at: usize, value: u32) -> Option<u32> {
        let kind = slot(kind(value));
        match self.learned.rules[kind] {
            Rule::Unknown => self.learned.same(value).or_else(|| self.code_distance(here, at, value)),
            Rule::Not | Rule::Offset(_) | Rule::Address => None,
            Rule::Same => self.learned.same(value),
            Rule::Distance => self.code_distance(here, at, value),
            Rule::Kind => Some(self.learned.changes[kind]),
        }
    }

    /// The change of a word that is no address, outside of Go's tables.
    fn foreseen_offset(&self, before: u32, value: u32) -> Option<u32> {
        let go = self.go.as_ref()?;
        go.entry_change(&self.moves, value).or_else(|| {
            let Rule::Offset(base) = self.learned.rules[slot(kind_after(before, value))] else {
                return None;
            };
            self.learned
                .same(value)
                .or_else(|| go.offset_change(&self.moves, base, value))
        })
    }

    /// How a word changes if it is a distance into code.
    fn code_distance(&self, here: Here, at: usize, value: u32) -> Option<u32> {
        self.distance(here, at, 0, value, true)
    }

    /// Remembers how words changed from `old` bytes, which were at `old_at`, to `new` ones.
    pub fn learn(&mut self, old_at: u64, new_at: u64, old: &[u8], new: &[u8]) {
        let Some(segment) = self.segment(old_at) else { return };
        if segment.executable {
            return;
        }
        let here = Here::new(segment, old_at, new_at);
        if let Some(go) = &mut self.go {
            let end = old_at + old.len() as u64;
            if go.has_header(old_at, end) {
                for at in (0..old.len().saturating_sub(3)).step_by(4) {
                    go.learn_header(old_at + at as u64, new_at + at as u64, word(new, at));
                }
            }
            go.learn_data(|place| {
                let at = usize::try_from(place - old_at).ok()?;
                Some(word(new.get(at..at + 4)?, 0))
            });
            if here.writable || !go.is_outside(old_at) && !go.is_outside(end) {
                return;
            }
        }
        let start = (here.address.wrapping_neg() & 3) as usize;

        let mut before = u32::MAX;
        let (old, new) = (
            old.get(start..).unwrap_or_default(),
            new.get(start..).unwrap_or_default(),
        );
        for (number, (old, new)) in old.chunks_exact(4).zip(new.chunks_exact(4)).enumerate() {
            let (value, at) = (word(old, 0), start + 4 * number);
            if value >= SMALLEST {
                let change = word(new, 0).wrapping_sub(value);
                match self.go {
                    Some(_) => self.learn_offset(old_at + at as u64, before, value, change),
                    None => self.learn_word(here, at, value, change),
                }
            }
            before = value;
        }
    }

    fn is_change_of_address(&self, value: u32, change: u32) -> bool {
        !self.wide && self.is_address(value) && self.moved(value.into()).map(|moved| moved as u32) == Some(change)
    }

    #[inline(always)]
    fn learn_word(&mut self, here: Here, at: usize, value: u32, change: u32) {
        let same = self.learned.same(value);
        let kind = slot(kind(value));
        let rule = self.learned.rules[kind];
        // Nearly all that do not change are known not to.
        if !(rule == Rule::Not && change == 0) {
            self.learn_rule((here, at), kind, rule, (value, change), same);
        }
        if change != 0 || same.is_some() {
            self.learned.word(value, change);
        }
    }

    /// Takes note of the rule that was right about a word, if the one known of its kind was not.
    fn learn_rule(
        &mut self,
        (here, at): (Here, usize),
        kind: usize,
        rule: Rule,
        (value, change): (u32, u32),
        same: Option<u32>,
    ) {
        let right = |rule: Rule| match rule {
            Rule::Unknown | Rule::Offset(_) => false,
            Rule::Address => self.is_change_of_address(value, change),
            Rule::Not => change == 0,
            Rule::Same => same == Some(change),
            Rule::Distance => self.code_distance(here, at, value) == Some(change),
            Rule::Kind => self.learned.changes[kind] == change,
        };
        let rules = [rule, Rule::Address, Rule::Same, Rule::Distance, Rule::Not];
        let rule = rules.into_iter().find(|&rule| right(rule)).unwrap_or(Rule::Kind);
        self.learned.rules[kind] = rule;
        if rule == Rule::Kind {
            self.learned.changes[kind] = change;
        }
    }

    /// Learns what a word outside of Go's tables was an offset from.
    fn learn_offset(&mut self, place: u64, before: u32, value: u32, change: u32) {
        let Some(go) = &self.go else { return };
        let kind = slot(kind_after(before, value));
        let rule = self.learned.rules[kind];
        if change == 0 && rule == Rule::Unknown && self.wide || !go.is_outside(place) {
            return;
        }
        let right = |base| go.offset_change(&self.moves, base, value) == Some(change);
        let rules = [
            Rule::Offset(Elsewhere::Types),
            Rule::Offset(Elsewhere::Names),
            Rule::Address,
        ];
        let right = |rule: &Rule| match rule {
            Rule::Offset(base) => right(*base),
            Rule::Address => self.is_change_of_address(value, change),
            _ => false,
        };
        let same = self.learned.same(value);
        let mut now = rule;
        if !right(&rule) && same != Some(change) {
            now = rules.into_iter().find(right).unwrap_or(Rule::Not);
        }
        if same.is_some() || !right(&now) && change != 0 {
            self.learned.word(value, change);
        }
        self.learned.rules[kind] = now;
    }
}

/// Where a window of bytes was, and by how much it has moved.
#[derive(Clone, Copy)]
pub(crate) struct Here {
    old_at: u64,
    new_at: u64,
    writable: bool,
    pub address: u64,
    pub moved: i64,
}

impl Here {
    fn new(segment: &Segment, old_at: u64, new_at: u64) -> Here {
        Here {
            old_at,
            new_at,
            writable: segment.writable,
            address: old_at - segment.offset + segment.address,
            moved: (new_at.wrapping_sub(old_at) as i64).wrapping_add(segment.adjust),
        }
    }
}

/// What words are of one kind: about as large, and aligned alike, as offsets into one table are.
fn kind(value: u32) -> u32 {
    ((value >> KIND_BITS) << 2) | (value & 3)
}

/// The same by the word before it, too: that is small before a name's offset in a tree of inlined calls.
fn kind_after(before: u32, value: u32) -> u32 {
    kind(value) | u32::from(before < 32) << 31
}

fn slot(value: u32) -> usize {
    (value.wrapping_mul(0x9e37_79b1) >> (32 - MEMORY_BITS)) as usize
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn put_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
