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
    block: Vec<u8>,
    /// Where bytes are decoded into, and given out from. A power of two, which doubles until it is all of the window.
    window: Vec<u8>,
    mask: usize,
    /// Bytes decoded since the stream began, and those of them that were not given out yet.
    position: u64,
    ahead: usize,
    /// Bytes of the current block that are still to be decoded.
    left: u64,
    /// What is left of a match that was cut; its distance is the first of the repeated ones.
    pending: u32,
}

/// Bytes decoded at once: little beside any window.
const PIECE: usize = 16 << 10;
/// Bytes decoded at once of a stream that is read byte by byte.
const AHEAD: usize = 512;

impl Decoder {
    /// Makes the decoder of a stream whose window, a power of two, is `window` bytes.
    pub fn new(tuning: Tuning, window: usize) -> Decoder {
        debug_assert!(window.is_power_of_two() && window >= 2 * PIECE);
        Decoder {
            model: Model::new(tuning),
            range: Range::new(&[]),
            block: Vec::new(),
            // Grows as it is filled: a window that is claimed costs nothing.
            window: Vec::new(),
            mask: window - 1,
            position: 0,
            ahead: 0,
            left: 0,
            pending: 0,
        }
    }

    /// Bytes of the current block that can still be read.
    pub fn left(&self) -> u64 {
        self.left + self.ahead as u64
    }

    /// Takes the next block, which holds `length` bytes.
    pub fn block(&mut self, block: Vec<u8>, length: u64) -> Result<(), Error> {
        if self.left() > 0 || self.pending > 0 {
            return Err(Error::Format("a group begins before the one before it is used up"));
        }
        self.range = Range::new(&block);
        self.block = block;
        self.left = length;
        Ok(())
    }

    /// Puts bytes into the window as if they had been decoded: what follows may be copied from them. Not for a stream
    /// that is read by [`Decoder::byte`].
    pub fn prime(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.pending > 0 || self.ahead > 0 {
            return Err(Error::Format("a match goes beyond its piece"));
        }
        for piece in bytes.chunks(PIECE) {
            self.make_room(piece.len());
            let at = self.place(0);
            let (now, later) = piece.split_at(piece.len().min(self.window.len() - at));
            self.window[at..at + now.len()].copy_from_slice(now);
            self.window[..later.len()].copy_from_slice(later);
            self.position += piece.len() as u64;
        }
        Ok(())
    }

    /// Decodes exactly as many bytes as asked for; the block must have them.
    pub fn read(&mut self, into: &mut [u8]) -> Result<(), Error> {
        if into.len() as u64 > self.left() {
            return Err(Error::Format("a stream ends early"));
        }
        for piece in into.chunks_mut(PIECE) {
            if piece.len() > self.ahead {
                self.decode(piece.len() - self.ahead)?;
            }
            let at = self.place(self.ahead);
            let (now, later) = piece.split_at_mut(piece.len().min(self.window.len() - at));
            now.copy_from_slice(&self.window[at..at + now.len()]);
            later.copy_from_slice(&self.window[..later.len()]);
            self.ahead -= piece.len();
        }
        Ok(())
    }

    /// The next byte. With it others of the block are decoded.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Error> {
        if self.ahead == 0 {
            if self.left == 0 {
                return Err(Error::Format("a stream ends early"));
            }
            self.decode(usize::try_from(self.left).map_or(AHEAD, |left| left.min(AHEAD)))?;
        }
        let byte = self.window[self.place(self.ahead)];
        self.ahead -= 1;
        Ok(byte)
    }

    /// Where in the window the byte is that was decoded so many bytes ago.
    fn place(&self, back: usize) -> usize {
        (self.position as usize).wrapping_sub(back) & self.mask
    }

    /// Sees to it that the window holds so many bytes more.
    fn make_room(&mut self, bytes: usize) {
        let full = self.mask + 1;
        let wanted = self.position.saturating_add(bytes as u64);
        while self.window.len() < full && self.window.len() as u64 <= wanted {
            let size = (self.window.len() * 2).clamp(1 << 12, full);
            self.window.resize(size, 0);
        }
    }

    /// Decodes so many bytes, at most [`PIECE`] and no more than are left, into the window.
    fn decode(&mut self, bytes: usize) -> Result<(), Error> {
        self.make_room(bytes);
        let end = self.position + bytes as u64;
        self.left -= bytes as u64;
        while self.position < end {
            if self.pending == 0 {
                self.symbols(end)?;
                // A match never goes beyond its block.
                if u64::from(self.pending) > self.left + (end - self.position) {
                    return Err(Error::Format("a match goes beyond its block"));
                }
            }
            let most = usize::try_from(end - self.position).unwrap_or(PIECE);
            let n = most.min(self.pending as usize);
            self.copy(n);
            self.pending -= n as u32;
        }
        self.ahead += bytes;
        Ok(())
    }

    /// Copies bytes of a match within the window.
    fn copy(&mut self, bytes: usize) {
        let distance = self.model.reps[0] as usize + 1;
        let (to, from) = (self.place(0), self.place(distance));
        let room = self.window.len() - to.max(from);
        self.position += bytes as u64;
        if bytes <= room && from + bytes <= to {
            let (before, after) = self.window.split_at_mut(to);
            let (from, to) = (&before[from..from + bytes], &mut after[..bytes]);
            match bytes {
                // Most are short, and a call takes longer than they do.
                ..32 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
                _ => to.copy_from_slice(from),
            }
            return;
        }
        for at in 0..bytes {
            self.window[(to + at) & self.mask] = self.window[(from + at) & self.mask];
        }
    }

    /// Decodes literals up to `end`, or up to a match, whose length is set pending then.
    fn symbols(&mut self, end: u64) -> Result<(), Error> {
        let mut position = self.position;
        // In registers, as far as there are enough.
        let (mut range, block) = (self.range, &self.block[..]);
        let (model, window, mask) = (&mut self.model, &mut self.window[..], self.mask);
        let mut state = model.state;
        let mut before = match position {
            0 => 0,
            at => window[(at - 1) as usize & mask],
        };
        let mut length = 0;
        while position < end {
            let place = model.position_state(position);
            if range.bit(block, &mut model.is_match[state & 15][place]) == 1 {
                length = model.a_match(&mut range, block, state, place);
                state = model.state;
                break;
            }
            let set = model.literal_set(position, before);
            let literals = &mut model.literals[set];
            let mut symbol = 1usize;
            if state < 7 {
                for _ in 0..8 {
                    symbol = symbol << 1 | range.even_bit(block, &mut literals[symbol]) as usize;
                }
            } else {
                let at = position.wrapping_sub(u64::from(model.reps[0]) + 1);
                let mut expected = usize::from(window[at as usize & mask]) << 1;
                let mut offset = 0x100;
                for _ in 0..8 {
                    let hint = expected & offset;
                    let bit = range.even_bit(block, &mut literals[offset + hint + symbol]) as usize;
                    symbol = symbol << 1 | bit;
                    // What was expected goes on to be of use as long as it came.
                    offset &= !(hint ^ bit.wrapping_neg());
                    expected <<= 1;
                }
            }
            before = symbol as u8;
            window[position as usize & mask] = before;
            position += 1;
            state = after_literal(state);
        }
        model.state = state;
        self.range = range;
        self.position = position;
        self.pending = length;
        let distance = u64::from(self.model.reps[0]);
        if length == 0 || distance < position && distance <= mask as u64 {
            return Ok(());
        }
        Err(Error::Format("a match reaches before the window"))
    }
}

impl Model {
    /// Decodes a match after `state`, whose distance is the first of the repeated ones then, and says how long it is.
    #[inline(always)]
    fn a_match(&mut self, range: &mut Range, block: &[u8], state: usize, place: usize) -> u32 {
        let state = state & 15;
        if range.bit(block, &mut self.is_rep[state]) == 1 {
            if range.bit(block, &mut self.is_rep0[state]) == 0 {
                if range.bit(block, &mut self.is_rep0_long[state][place]) == 0 {
                    self.state = after_short_rep(state);
                    return 1;
                }
            } else {
                let which = match range.bit(block, &mut self.is_rep1[state]) {
                    0 => 1,
                    _ => 2 + range.bit(block, &mut self.is_rep2[state]) as usize,
                };
                self.reps[..=which].rotate_right(1);
            }
            self.state = after_rep(state);
            return length(range, block, &mut self.rep_lengths, place);
        }
        let length = length(range, block, &mut self.match_lengths, place);
        let slot = tree(range, block, &mut self.slots[slot_state(length)], 6);
        let distance = if slot < 4 {
            slot
        } else {
            let bits = slot / 2 - 1;
            let base = (2 | slot & 1) << bits;
            if slot < FIRST_ALIGNED_SLOT {
                base + reversed(range, block, &mut self.near[(base - slot) as usize..], bits)
            } else {
                let high = range.plain(block, bits - ALIGN_BITS) << ALIGN_BITS;
                base.wrapping_add(high)
                    .wrapping_add(reversed(range, block, &mut self.align, ALIGN_BITS))
            }
        };
        self.reps.rotate_right(1);
        self.reps[0] = distance;
        self.state = after_match(state);
        length
    }
}

#[inline(always)]
fn tree(range: &mut Range, block: &[u8], models: &mut [Bit], bits: u32) -> u32 {
    let mut symbol = 1usize;
    for _ in 0..bits {
        symbol = symbol << 1 | range.even_bit(block, &mut models[symbol]) as usize;
    }
    symbol as u32 - (1 << bits)
}

/// A tree's value with its lowest bit first.
#[inline(always)]
fn reversed(range: &mut Range, block: &[u8], models: &mut [Bit], bits: u32) -> u32 {
    let (mut symbol, mut value) = (1usize, 0);
    for at in 0..bits {
        let bit = range.even_bit(block, &mut models[symbol]);
        symbol = symbol << 1 | bit as usize;
        value |= bit << at;
    }
    value
}

#[inline(always)]
fn length(range: &mut Range, block: &[u8], lengths: &mut Lengths, place: usize) -> u32 {
    SHORTEST
        + if range.bit(block, &mut lengths.choice[0]) == 0 {
            tree(range, block, &mut lengths.low[place], 3)
        } else if range.bit(block, &mut lengths.choice[1]) == 0 {
            8 + tree(range, block, &mut lengths.mid[place], 3)
        } else {
            16 + tree(range, block, &mut lengths.high, 8)
        }
}
