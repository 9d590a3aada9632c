//! The coder of all streams of a delta: LZ77 matches and literals under a binary range coder.
//!
//! Its model is LZMA's (public domain, I. Pavlov): 12 states after what came last, four repeated distances, literals
//! under the byte before and, after a match, under the byte the match would have had next. Its probabilities are
//! [`range`]'s. A stream is a chain of blocks: models, window and distances go on from block to block, the range coder
//! begins anew, so what has arrived can be decoded to the last byte. Decoding needs the window and 110 KB at most.

mod decoder;
mod encoder;
mod matches;
mod range;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
pub(crate) use matches::common;

use range::Bit;

/// What is tuned to the kind of a stream's bytes. Part of the format: each stream has its own, fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// High bits of the byte before that literals depend on, 0 to 8.
    pub literal_context: u32,
    /// Low bits of the position that literals depend on, 0 to 4.
    pub literal_position: u32,
    /// Low bits of the position that the choice of match or literal, and short lengths, depend on, 0 to 4.
    pub position: u32,
}

/// Twelve, and some that are not used: so no index of four bits is beyond them.
const STATES: usize = 16;
const SHORTEST: u32 = 2;
const LONGEST: u32 = 273;
const SLOT_STATES: usize = 4;
const ALIGN_BITS: u32 = 4;
/// Distances from here on have a slot, plain bits, and a learned end; below, all bits are learned.
const FIRST_ALIGNED_SLOT: u32 = 14;

/// Everything learned. The decoder's and the encoder's stay equal.
struct Model {
    tuning: Tuning,
    literals: Vec<[Bit; 0x300]>,
    is_match: [[Bit; 16]; STATES],
    is_rep: [Bit; STATES],
    is_rep0: [Bit; STATES],
    is_rep0_long: [[Bit; 16]; STATES],
    is_rep1: [Bit; STATES],
    is_rep2: [Bit; STATES],
    slots: [[Bit; 64]; SLOT_STATES],
    near: [Bit; 128],
    align: [Bit; 1 << ALIGN_BITS],
    match_lengths: Lengths,
    rep_lengths: Lengths,
    state: usize,
    /// The last four distances, less one.
    reps: [u32; 4],
}

struct Lengths {
    choice: [Bit; 2],
    low: [[Bit; 8]; 16],
    mid: [[Bit; 8]; 16],
    high: [Bit; 256],
}

impl Lengths {
    const NEW: Lengths = Lengths {
        choice: [Bit::NEW; 2],
        low: [[Bit::NEW; 8]; 16],
        mid: [[Bit::NEW; 8]; 16],
        high: [Bit::NEW; 256],
    };
}

impl Model {
    fn new(tuning: Tuning) -> Model {
        Model {
            tuning,
            literals: vec![[Bit::NEW; 0x300]; 1 << (tuning.literal_context + tuning.literal_position)],
            is_match: [[Bit::NEW; 16]; STATES],
            is_rep: [Bit::NEW; STATES],
            is_rep0: [Bit::NEW; STATES],
            is_rep0_long: [[Bit::NEW; 16]; STATES],
            is_rep1: [Bit::NEW; STATES],
            is_rep2: [Bit::NEW; STATES],
            slots: [[Bit::NEW; 64]; SLOT_STATES],
            near: [Bit::NEW; 128],
            align: [Bit::NEW; 1 << ALIGN_BITS],
            match_lengths: Lengths::NEW,
            rep_lengths: Lengths::NEW,
            state: 0,
            reps: [0; 4],
        }
    }

    /// Which literal models follow the byte `before` at a position.
    fn literal_set(&self, position: u64, before: u8) -> usize {
        let low = (position as usize) & ((1 << self.tuning.literal_position) - 1);
        low << self.tuning.literal_context | usize::from(before) >> (8 - self.tuning.literal_context)
    }

    fn position_state(&self, position: u64) -> usize {
        (position as usize) & ((1 << self.tuning.position) - 1)
    }
}

fn after_literal(state: usize) -> usize {
    match state {
        0..4 => 0,
        4..10 => state - 3,
        _ => state - 6,
    }
}

fn after_match(state: usize) -> usize {
    if state < 7 { 7 } else { 10 }
}

fn after_rep(state: usize) -> usize {
    if state < 7 { 8 } else { 11 }
}

fn after_short_rep(state: usize) -> usize {
    if state < 7 { 9 } else { 11 }
}

/// Slot of a distance less one: its two highest bits and how many follow.
fn slot_of(distance: u32) -> u32 {
    if distance < 4 {
        return distance;
    }
    let bits = 31 - distance.leading_zeros();
    (bits * 2) | ((distance >> (bits - 1)) & 1)
}

/// Which slot models serve a match of some length.
fn slot_state(length: u32) -> usize {
    (length - SHORTEST).min(SLOT_STATES as u32 - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(input: &[u8], tuning: Tuning, window: usize, blocks: usize) -> usize {
        let mut encoder = Encoder::new(tuning, window);
        let mut decoder = Decoder::new(tuning, window);
        let mut total = 0;
        for piece in input.chunks(input.len().div_ceil(blocks).max(1)) {
            let block = encoder.block(piece, &[]);
            total += block.len();
            decoder.block(block, piece.len() as u64).unwrap();
            let mut out = vec![0; piece.len()];
            let mut at = 0;
            while at < out.len() {
                let end = (at + 1 + at % 5000).min(out.len());
                decoder.read(&mut out[at..end]).unwrap();
                at = end;
            }
            assert!(out == piece);
        }
        total
    }

    const PLAIN: Tuning = Tuning {
        literal_context: 3,
        literal_position: 0,
        position: 2,
    };

    #[test]
    fn text_comes_back_small() {
        let text: Vec<u8> = (0..30_000u32)
            .flat_map(|n| format!("{} of {}; ", n * n % 1009, n % 77).into_bytes())
            .collect();
        let all = round_trip(&text, PLAIN, 1 << 20, 1);
        assert!(all * 7 < text.len(), "{all} of {}", text.len());
        round_trip(&text, PLAIN, 1 << 16, 7);
        let other = Tuning {
            literal_context: 8,
            literal_position: 4,
            position: 4,
        };
        round_trip(&text[..50_000], other, 1 << 16, 100);
    }

    #[test]
    fn noise_runs_and_nothing_come_back() {
        let mut seed = 1u64;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            })
            .collect();
        let size = round_trip(&noise, PLAIN, 1 << 16, 3);
        assert!(size < noise.len() + noise.len() / 50);
        assert!(round_trip(&vec![7; 3_000_000], PLAIN, 1 << 16, 2) < 1200);
        let twice = [&noise[..40_000], &noise[..40_000], &noise[..40_000]].concat();
        assert!(round_trip(&twice, PLAIN, 1 << 16, 1) < 42_000);
        for n in 0..40 {
            round_trip(&noise[..n], PLAIN, 1 << 16, 1);
        }
    }

    #[test]
    fn primed_bytes_can_be_copied() {
        let known: Vec<u8> = (0..50_000u32)
            .flat_map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes())
            .collect();
        let (first, second) = (&known[90_000..110_000], &known[20_000..30_000]);
        let mut encoder = Encoder::new(PLAIN, 1 << 18);
        let both = [first, second].concat();
        let primes = [(0, known[..10_000].to_vec()), (20_000, known[10_000..].to_vec())];
        let block = encoder.block(&both, &primes);
        assert!(encoder.block(&[], &[(0, known.clone())]).is_empty());
        let last = encoder.block(first, &[]);
        assert!(last.len() < 300);
        let mut decoder = Decoder::new(PLAIN, 1 << 18);
        let (mut one, mut two) = (vec![0; first.len()], vec![0; second.len()]);
        decoder.block(block, both.len() as u64).unwrap();
        decoder.prime(&primes[0].1).unwrap();
        decoder.read(&mut one).unwrap();
        decoder.prime(&primes[1].1).unwrap();
        decoder.read(&mut two).unwrap();
        assert!(one == first && two == second);
        decoder.prime(&known).unwrap();
        decoder.block(last, first.len() as u64).unwrap();
        decoder.read(&mut one).unwrap();
        assert!(one == first);
    }

    #[test]
    fn garbage_is_refused_or_decoded_without_harm() {
        let mut seed = 9u64;
        for round in 0..200 {
            let block: Vec<u8> = (0..round * 3)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (seed >> 56) as u8
                })
                .collect();
            let mut decoder = Decoder::new(PLAIN, 1 << 16);
            if decoder.block(block, 100_000).is_ok() {
                let mut out = vec![0; 100_000];
                let _ = decoder.read(&mut out);
            }
        }
    }
}
