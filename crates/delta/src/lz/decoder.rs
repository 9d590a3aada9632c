//! Decodes a stream, as much at a time as is asked for.

use super::range::{Bit, Decoder as Range};
use super::{
    ALIGN_BITS, FIRST_ALIGNED_SLOT, Lengths, Model, SHORTEST, Tuning, after_literal, after_match, after_rep,
    after_short_rep, slot_state,
};
use crate::error::Error;

/// One stream being decoded. Its memory is the window and the current block, whatever the block claims.
pub(crate) struct Decoder {
    model: Model,
    range: Range,
    window: Vec<u8>,
    mask: usize,
    /// Bytes decoded since the stream began.
    position: u64,
    /// Bytes of the current block that are still to be decoded.
    left: u64,
    /// What is left of a match that a read cut: bytes and distance.
    pending: u32,
}

impl Decoder {
    /// Makes the decoder of a stream whose window, a power of two, is `window` bytes.
    pub fn new(tuning: Tuning, window: usize) -> Decoder {
        debug_assert!(window.is_power_of_two());
        Decoder {
            model: Model::new(tuning),
            range: Range::new(Vec::new()),
            // Grows as it is filled: a window that is claimed costs nothing.
            window: Vec::new(),
            mask: window - 1,
            position: 0,
            left: 0,
            pending: 0,
        }
    }

    /// Bytes of the current block that can still be read.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes the next block, which holds `length` bytes.
    pub fn block(&mut self, block: Vec<u8>, length: u64) -> Result<(), Error> {
        if self.left > 0 || self.pending > 0 {
            return Err(Error::Format("a group begins before the one before it is used up"));
        }
        self.range = Range::new(block);
        self.left = length;
        Ok(())
    }

    /// Puts bytes into the window as if they had been decoded: what follows may be copied from them.
    pub fn prime(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.pending > 0 {
            return Err(Error::Format("a match goes beyond its piece"));
        }
        bytes.iter().for_each(|&byte| self.put(byte));
        Ok(())
    }

    /// Decodes exactly as many bytes as asked for; the block must have them.
    pub fn read(&mut self, mut into: &mut [u8]) -> Result<(), Error> {
        if into.len() as u64 > self.left {
            return Err(Error::Format("a stream ends early"));
        }
        self.left -= into.len() as u64;
        while !into.is_empty() {
            if self.pending == 0 {
                if let Some(byte) = self.symbol()? {
                    self.put(byte);
                    into[0] = byte;
                    into = &mut into[1..];
                    continue;
                }
                // A match never goes beyond its block.
                if u64::from(self.pending) > self.left + into.len() as u64 {
                    return Err(Error::Format("a match goes beyond its block"));
                }
            }
            let n = into.len().min(self.pending as usize);
            self.copy(&mut into[..n]);
            self.pending -= n as u32;
            into = &mut into[n..];
        }
        Ok(())
    }

    #[inline(always)]
    fn put(&mut self, byte: u8) {
        let at = self.position as usize & self.mask;
        if at == self.window.len() {
            self.grow();
        }
        self.window[at] = byte;
        self.position += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.window.len() * 2).clamp(1 << 12, self.mask + 1);
        self.window.resize(size, 0);
    }

    #[inline(always)]
    fn back(&self, distance: u32) -> u8 {
        self.window[(self.position.wrapping_sub(u64::from(distance) + 1)) as usize & self.mask]
    }

    fn copy(&mut self, into: &mut [u8]) {
        let distance = self.model.reps[0];
        for to in into {
            let byte = self.back(distance);
            self.put(byte);
            *to = byte;
        }
    }

    /// Decodes a literal, or sets the length of a match pending whose distance is the first of the repeated ones.
    fn symbol(&mut self) -> Result<Option<u8>, Error> {
        let model = &mut self.model;
        let range = &mut self.range;
        let state = model.state;
        let place = model.position_state(self.position);
        if range.bit(&mut model.is_match[state][place]) == 0 {
            let before = match self.position {
                0 => 0,
                at => self.window[(at - 1) as usize & self.mask],
            };
            let set = model.literal_set(self.position, before);
            let literals = &mut model.literals[set];
            let mut symbol = 1usize;
            if state >= 7 {
                let at = self.position.wrapping_sub(u64::from(model.reps[0]) + 1);
                let mut expected = usize::from(self.window[at as usize & self.mask]) << 1;
                let mut offset = 0x100;
                while symbol < 0x100 {
                    let hint = expected & offset;
                    let bit = range.bit(&mut literals[offset + hint + symbol]) as usize;
                    symbol = symbol << 1 | bit;
                    offset = if bit == 0 { offset & !hint } else { hint };
                    expected <<= 1;
                }
            } else {
                while symbol < 0x100 {
                    symbol = symbol << 1 | range.bit(&mut literals[symbol]) as usize;
                }
            }
            model.state = after_literal(state);
            return Ok(Some(symbol as u8));
        }
        if range.bit(&mut model.is_rep[state]) == 1 {
            if range.bit(&mut model.is_rep0[state]) == 0 {
                if range.bit(&mut model.is_rep0_long[state][place]) == 0 {
                    model.state = after_short_rep(state);
                    self.pending = 1;
                    return self.check().map(|()| None);
                }
            } else {
                let which = match range.bit(&mut model.is_rep1[state]) {
                    0 => 1,
                    _ => 2 + range.bit(&mut model.is_rep2[state]) as usize,
                };
                model.reps[..=which].rotate_right(1);
            }
            self.pending = length(range, &mut model.rep_lengths, place);
            model.state = after_rep(state);
            return self.check().map(|()| None);
        }
        let length = length(range, &mut model.match_lengths, place);
        let slot = tree(range, &mut model.slots[slot_state(length)], 6);
        let distance = if slot < 4 {
            slot
        } else {
            let bits = slot / 2 - 1;
            let base = (2 | slot & 1) << bits;
            if slot < FIRST_ALIGNED_SLOT {
                base + reversed(range, &mut model.near[(base - slot) as usize..], bits)
            } else {
                let high = range.plain(bits - ALIGN_BITS) << ALIGN_BITS;
                base.wrapping_add(high)
                    .wrapping_add(reversed(range, &mut model.align, ALIGN_BITS))
            }
        };
        model.reps.rotate_right(1);
        model.reps[0] = distance;
        model.state = after_match(state);
        self.pending = length;
        self.check().map(|()| None)
    }

    fn check(&self) -> Result<(), Error> {
        let distance = u64::from(self.model.reps[0]);
        if distance < self.position && distance <= self.mask as u64 {
            Ok(())
        } else {
            Err(Error::Format("a match reaches before the window"))
        }
    }
}

fn tree(range: &mut Range, models: &mut [Bit], bits: u32) -> u32 {
    let mut symbol = 1usize;
    for _ in 0..bits {
        symbol = symbol << 1 | range.bit(&mut models[symbol]) as usize;
    }
    symbol as u32 - (1 << bits)
}

/// A tree's value with its lowest bit first.
fn reversed(range: &mut Range, models: &mut [Bit], bits: u32) -> u32 {
    let (mut symbol, mut value) = (1usize, 0);
    for at in 0..bits {
        let bit = range.bit(&mut models[symbol]);
        symbol = symbol << 1 | bit as usize;
        value |= bit << at;
    }
    value
}

fn length(range: &mut Range, lengths: &mut Lengths, place: usize) -> u32 {
    SHORTEST
        + if range.bit(&mut lengths.choice[0]) == 0 {
            tree(range, &mut lengths.low[place], 3)
        } else if range.bit(&mut lengths.choice[1]) == 0 {
            8 + tree(range, &mut lengths.mid[place], 3)
        } else {
            16 + tree(range, &mut lengths.high, 8)
        }
}
