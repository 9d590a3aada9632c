//! Finds the addresses in code: distances and absolute ones in the instructions of four machines.
//!
//! Nothing is disassembled. What looks like an instruction with an address is taken for one if the address is one of
//! the file's; that this goes wrong now and then costs a correction.

use crate::address::{Foresight, Here, put_word, word};
use crate::patch::WINDOW;

/// Bytes of code after which it is forgotten that a register has the address of a page.
const PAGE_KNOWN: u64 = 64;

impl Foresight {
    /// Calls, jumps, and operands relative to the instruction.
    pub fn x86(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut done = 0;
        for (block, mut starts) in (0..).zip(starts(bytes)) {
            while starts != 0 {
                let at = block * 64 + starts.trailing_zeros() as usize;
                starts &= starts - 1;
                if at >= end {
                    return done.max(end);
                }
                // In the address before.
                if at < done {
                    continue;
                }
                let (field, to_code) = match &bytes[at..] {
                    [0xe8 | 0xe9, _, _, _, _, ..] => (1, true),
                    [0x0f, 0x80..0x90, _, _, _, _, ..] => (2, true),
                    // A longer opcode, its prefix of two or three bytes, its operand, and four bytes.
                    [0x0f, 0x38 | 0x3a, _, operand, _, _, _, _, ..] if operand & 0xc7 == 5 => (4, false),
                    [0xc4, map, _, _, operand, _, _, _, _, ..]
                        if operand & 0xc7 == 5 && (1..4).contains(&(map & 0x1f)) =>
                    {
                        (5, false)
                    }
                    [0x62, _, fixed, _, _, operand, _, _, _, _, ..] if operand & 0xc7 == 5 && fixed & 4 != 0 => {
                        (6, false)
                    }
                    [0x0f, _, operand, _, _, _, _, ..] if operand & 0xc7 == 5 => (3, false),
                    // After the last byte of one instruction there may be a long one that does nothing.
                    [_, 5, 0x0f, 0x1f, ..] => continue,
                    [opcode, operand, _, _, _, _, ..] if operand & 0xc7 == 5 && has_operand(*opcode) => (2, false),
                    _ => continue,
                };
                let value = word(bytes, at + field);
                if let Some(change) = self.distance(here, at + field, 4, value, to_code) {
                    put_word(bytes, at + field, value.wrapping_add(change));
                    done = at + field + 4;
                }
            }
        }
        done.max(end)
    }

    /// Branches, and addresses of pages with what is added to them.
    pub fn aarch64(&mut self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = (here.address.wrapping_neg() & 3) as usize;
        while at < end && at + 4 <= bytes.len() {
            let instruction = word(bytes, at);
            let place = here.address + at as u64;
            let register = (instruction & 31) as usize;
            if instruction & 0x7c00_0000 == 0x1400_0000 {
                // B and BL: 26 bits of words.
                let distance = ((instruction << 6) as i32 >> 4) as u32;
                let change = self.distance(here, at, 0, distance, true);
                if let Some(change) = change.filter(|change| change & 3 == 0) {
                    let distance = distance.wrapping_add(change) >> 2 & 0x03ff_ffff;
                    put_word(bytes, at, instruction & 0xfc00_0000 | distance);
                }
            } else if instruction & 0x9f00_0000 == 0x9000_0000 {
                // ADRP: 21 bits of pages, the lower two apart.
                let pages = (instruction << 8) as i32 >> 13 << 2 | (instruction >> 29 & 3) as i32;
                let target = (place & !0xfff).wrapping_add_signed(i64::from(pages) << 12);
                // What is in the page is in one of the next instructions.
                let next = bytes[at + 4..].chunks_exact(4).take(3).map(|next| word(next, 0));
                let offset = next.filter(|next| next >> 5 & 31 == instruction & 31).find_map(in_page);
                let target = target.wrapping_add(offset.map_or(0, |(offset, _)| offset.into()));
                if let Some(moved) = self.moved(target) {
                    let page = |address: u64| (address >> 12) as u32;
                    let to = page(target.wrapping_add_signed(moved));
                    let pages = to.wrapping_sub(page(place.wrapping_add_signed(here.moved)));
                    let field = (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
                    put_word(bytes, at, instruction & !0x60ff_ffe0 | field);
                }
                self.pages[register] = (place, target & !0xfff);
            } else {
                if let Some((offset, scale)) = in_page(instruction) {
                    let (adrp, page) = self.pages[(instruction >> 5 & 31) as usize];
                    let target = page.wrapping_add(offset.into());
                    if place.wrapping_sub(adrp) <= PAGE_KNOWN
                        && let Some(moved) = self.moved(target)
                    {
                        let offset = target.wrapping_add_signed(moved) as u32 & 0xfff;
                        if offset & ((1 << scale) - 1) == 0 {
                            put_word(bytes, at, instruction & !(0xfff << 10) | offset >> scale << 10);
                        }
                    }
                }
                self.pages[register] = (0, 0);
            }
            at += 4;
        }
        at.max(end).min(bytes.len())
    }

    /// Calls, jumps, and absolute addresses in operands.
    pub fn i386(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = 0;
        while at < end {
            let (field, relative) = match &bytes[at..] {
                [0xe8 | 0xe9, _, _, _, _, ..] => (1, true),
                [0x0f, 0x80..0x90, _, _, _, _, ..] => (2, true),
                [0xa0..=0xa3 | 0xb8..=0xbf | 0x68 | 0x05 | 0x2d | 0x3d, _, _, _, _, ..] => (1, false),
                [0x0f, _, operand, _, _, _, _, ..] if operand & 0xc7 == 5 => (3, false),
                [opcode, operand, _, _, _, _, ..] if operand & 0xc7 == 5 && has_operand(*opcode) => (2, false),
                // With an index, and perhaps another base.
                [opcode, operand, _, _, _, _, _, ..] if operand & 0x87 == 4 && has_operand(*opcode) => (3, false),
                [opcode, 0x80..=0xbf, _, _, _, _, ..] if has_operand(*opcode) => (2, false),
                // What an address is compared with or set to.
                [0x81, 0xf8..=0xff, _, _, _, _, ..] => (2, false),
                _ => (0, false),
            };
            if field == 0 {
                at += 1;
                continue;
            }
            let value = word(bytes, at + field);
            let change = match relative {
                true => self.distance(here, at + field, 4, value, true),
                false if self.is_address(value) => self.moved(value.into()).map(|moved| moved as u32),
                false => None,
            };
            match change {
                Some(change) => {
                    put_word(bytes, at + field, value.wrapping_add(change));
                    at += field + 4;
                }
                None => at += 1,
            }
        }
        at
    }

    /// Branches, and addresses that lie between the functions. Most instructions of the one set have no condition, and
    /// so the same highest four bits; of the other few have them.
    pub fn arm(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let start = (here.address.wrapping_neg() & 3) as usize;
        let words = bytes.get(start..).unwrap_or_default().chunks_exact(4);
        let all = words.len();
        let unconditional = words.filter(|word| word[3] >> 4 == 14).count();
        match 2 * unconditional >= all {
            true => self.a32(here, bytes, end),
            false => self.thumb(here, bytes, end),
        }
    }

    fn a32(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = (here.address.wrapping_neg() & 3) as usize;
        while at < end && at + 4 <= bytes.len() {
            let instruction = word(bytes, at);
            if instruction & 0x0e00_0000 == 0x0a00_0000 && instruction >> 28 != 15 {
                // B and BL: 24 bits of words, from 8 bytes after the instruction.
                let distance = ((instruction << 8) as i32 >> 6) as u32;
                let change = self.distance(here, at, 8, distance, true);
                if let Some(change) = change.filter(|change| change & 3 == 0) {
                    let distance = distance.wrapping_add(change) >> 2 & 0x00ff_ffff;
                    put_word(bytes, at, instruction & 0xff00_0000 | distance);
                }
            } else if let Some(change) = self.literal(here, at, instruction) {
                put_word(bytes, at, instruction.wrapping_add(change));
            }
            at += 4;
        }
        at.max(end).min(bytes.len())
    }

    fn thumb(&self, here: Here, bytes: &mut [u8], end: usize) -> usize {
        let mut at = (here.address & 1) as usize;
        while at < end && at + 4 <= bytes.len() {
            let instruction = word(bytes, at);
            // BL and B with 24 bits of halves of words, from 4 bytes after the instruction: the sign, 10 bits, two that
            // are turned if it is not set, 11 bits. BLX is to words, from a word on.
            let exchanges = instruction & 0xd001_f800 == 0xc000_f000;
            if matches!(instruction & 0xd000_f800, 0xd000_f000 | 0x9000_f000) || exchanges {
                let sign = instruction >> 10 & 1;
                let turned = |bit: u32| !(instruction >> bit ^ sign) & 1;
                let distance = sign << 24
                    | turned(29) << 23
                    | turned(27) << 22
                    | (instruction & 0x3ff) << 12
                    | (instruction >> 16 & 0x7ff) << 1;
                let distance = ((distance << 7) as i32 >> 7) as u32;
                let from = if exchanges && (here.address + at as u64) & 2 != 0 {
                    2
                } else {
                    4
                };
                let change = self.distance(here, at, from, distance, true);
                let unit = if exchanges { 3 } else { 1 };
                if let Some(change) = change.filter(|change| change & unit == 0) {
                    let distance = distance.wrapping_add(change);
                    let sign = distance >> 24 & 1;
                    let turned = |bit: u32| !(distance >> bit ^ sign) & 1;
                    let low = sign << 10 | distance >> 12 & 0x3ff;
                    let high = turned(23) << 13 | turned(22) << 11 | distance >> 1 & 0x7ff;
                    put_word(bytes, at, instruction & 0xd000_f800 | high << 16 | low);
                    at += 4;
                    continue;
                }
            }
            if (here.address + at as u64) & 3 == 0
                && let Some(change) = self.literal(here, at, instruction)
            {
                put_word(bytes, at, instruction.wrapping_add(change));
                at += 4;
                continue;
            }
            at += 2;
        }
        at.max(end).min(bytes.len())
    }

    /// The change of a word between the functions: an address, or where all addresses are low a distance to data, which
    /// is added to that of an instruction nearby.
    fn literal(&self, here: Here, at: usize, value: u32) -> Option<u32> {
        if self.has_low_addresses() {
            return match value {
                0x100.. if value < 1 << 28 => self.distance_to_data(here, at, value),
                _ => None,
            };
        }
        let moved = self.is_address(value).then(|| self.moved(value.into()))??;
        Some(moved as u32)
    }
}

/// The offset in a page that an instruction of AArch64 adds to a register, and how it is scaled: ADD, and loads and
/// stores with an offset of 12 bits.
fn in_page(instruction: u32) -> Option<(u32, u32)> {
    let scale = match instruction {
        _ if instruction & 0xffc0_0000 == 0x9100_0000 => 0,
        // Of vectors, 16 bytes have another bit.
        _ if instruction & 0xff80_0000 == 0x3d80_0000 => 4,
        _ if instruction & 0x3b00_0000 == 0x3900_0000 => instruction >> 30,
        _ => return None,
    };
    Some(((instruction >> 10 & 0xfff) << scale, scale))
}

/// Which bytes of a window [`Foresight::x86`] has to look at, a bit each: one of ten. Nothing else can be where an
/// instruction with an address begins, and eight are told at once. A few too many do no harm.
fn starts(bytes: &[u8]) -> [u64; WINDOW / 64] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The highest bit of each byte that is 0, and perhaps of some that are 1.
    let zeros = |bytes: u64| bytes.wrapping_sub(EACH) & !bytes;
    let is = |bytes: u64, value: u8| zeros(bytes ^ (EACH * u64::from(value)));
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut all = [0; WINDOW / 64];
    for (at, eight) in eights.iter().enumerate().chain([(eights.len(), &last)]) {
        let here = u64::from_le_bytes(*eight);
        // Whatever comes after the last byte makes no difference: an address has four.
        let after = eights.get(at + 1).unwrap_or(&last);
        let next = here >> 8 | u64::from(after[0]) << 56;
        let opens = is(here & (EACH * 0xfe), 0xe8) | is(here, 0x0f) | is(here, 0xc4) | is(here, 0x62);
        let marks = (opens | is(next & (EACH * 0xc7), 5)) >> 7 & EACH;
        // The lowest bits of eight bytes, moved to the highest one.
        let bits = marks.wrapping_mul(0x0102_0408_1020_4080) >> 56;
        if let Some(word) = all.get_mut(at / 8) {
            *word |= bits << (8 * (at % 8));
        }
    }
    all
}

/// One-byte opcodes of x86 that have a ModRM operand and are common with a RIP-relative one.
fn has_operand(opcode: u8) -> bool {
    HAVE_OPERAND[usize::from(opcode)]
}

static HAVE_OPERAND: [bool; 256] = {
    let mut all = [false; 256];
    let mut opcode = 0;
    while opcode < 256 {
        all[opcode] = matches!(opcode as u8,
        0x01..=0x03 | 0x08..=0x0b | 0x13 | 0x1b | 0x21 | 0x23 | 0x29 | 0x2b | 0x31 | 0x33 | 0x38..=0x3b | 0x63 | 0x69 | 0x6b
        | 0x80 | 0x81 | 0x83..=0x8b | 0x8d | 0xc6 | 0xc7 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff
        // VEX-encoded loads, stores and arithmetic.
        | 0x10 | 0x11 | 0x28 | 0x54 | 0x57..=0x59 | 0x5c | 0x5e | 0x6f | 0x7f | 0xd6 | 0xef);
        opcode += 1;
    }
    all
};
