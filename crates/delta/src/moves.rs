//! Where the bytes of an old file moved, as the list of a piece's copies says.

use crate::patch::Copy;

/// Copies shorter than this tell nothing about where things moved.
const TELLING: u64 = 32;
/// Copies at least this long tell it of what lies between them, too.
const MAIN: u64 = 4096;
/// Copies before a place that are looked at for one it is in.
const LOOK_BACK: usize = 12;

/// Most main copies that are remembered of a file's earlier pieces.
const EARLIER: usize = 1 << 14;

/// What stands for a distance where no copy tells of one.
const NOT_KNOWN: i64 = i64::MIN;

/// Stretches of the old file, and how far each moved.
pub(crate) struct Moves {
    /// Where each begins, in order; the first at 0.
    stretches: Vec<(u64, i64)>,
    /// For each part of the old file of so many bytes (a power of two), how many of them begin before it: most parts lie
    /// in one.
    parts: Vec<u32>,
    part_bits: u32,
    /// Where the last main copy ends: what lies behind it is not known.
    pub end: u64,
}

/// Parts of the old file for each stretch, and most of them.
const PARTS: usize = 8;
const MOST_PARTS: usize = 1 << 14;

/// A copy's place in the old file and its end, and how far it moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Move {
    from: u64,
    end: u64,
    moved: i64,
}

impl Move {
    /// Those of a piece's copies.
    fn all(copies: &[Copy], mut new_at: u64) -> impl Iterator<Item = Move> {
        copies.iter().map(move |copy| {
            let moved = new_at.wrapping_sub(copy.from) as i64;
            new_at += copy.length + copy.new;
            Move {
                from: copy.from,
                end: copy.from + copy.length,
                moved,
            }
        })
    }
}

/// The main copies of a file's pieces so far, which tell where they moved what later ones point to.
#[derive(Default)]
pub(crate) struct Earlier {
    moves: Vec<Move>,
}

impl Earlier {
    /// Adds those of a piece that is done.
    pub fn add(&mut self, copies: &[Copy], new_at: u64) {
        let main = Move::all(copies, new_at).filter(|a_move| a_move.end - a_move.from >= MAIN);
        self.moves.extend(main.take(EARLIER.saturating_sub(self.moves.len())));
    }
}

impl Moves {
    /// Takes the copies of a piece that begins at `new_at` in the new file, and what is known from the pieces before.
    pub fn new(earlier: &Earlier, copies: &[Copy], new_at: u64) -> Moves {
        let mut moves = earlier.moves.clone();
        moves.extend(Move::all(copies, new_at).filter(|a_move| a_move.end - a_move.from >= TELLING));
        moves.sort_unstable();
        let is_main = |a_move: &&Move| a_move.end - a_move.from >= MAIN;
        let end = moves.iter().filter(is_main).map(|a_move| a_move.end).max().unwrap_or(0);
        let mut main = moves.iter().find(is_main);
        let mut places: Vec<u64> = moves.iter().flat_map(|a_move| [a_move.from, a_move.end]).collect();
        places.push(0);
        places.sort_unstable();
        places.dedup();
        let (mut stretches, mut before) = (Vec::new(), 0);
        for place in places {
            while let Some(next) = moves.get(before).filter(|next| next.from <= place) {
                main = Some(next).filter(is_main).or(main);
                before += 1;
            }
            let near = moves[..before].iter().rev().take(LOOK_BACK);
            let best = near
                .filter(|a_move| place < a_move.end)
                .max_by_key(|a_move| a_move.end - a_move.from);
            let moved = best.or(main).map_or(NOT_KNOWN, |best| best.moved);
            if stretches.last().is_none_or(|(_, last)| *last != moved) {
                stretches.push((place, moved));
            }
        }
        let last = stretches.last().map_or(0, |(start, _)| *start);
        let most = (stretches.len() * PARTS).clamp(1, MOST_PARTS) as u64;
        let part_bits = (0..64).find(|bits| last >> bits < most).unwrap_or(0);
        let mut parts = vec![0; (last >> part_bits) as usize + 2];
        for (start, _) in &stretches {
            parts[(start >> part_bits) as usize + 1] += 1;
        }
        for part in 1..parts.len() {
            parts[part] += parts[part - 1];
        }
        Moves {
            stretches,
            parts,
            part_bits,
            end,
        }
    }

    /// By how much what was at a place in the old file has moved: as the copy that it is in, of several among the last
    /// that begin before it the longest; else as the main copy that begins before it, or the first.
    #[inline]
    pub fn at(&self, place: u64) -> Option<i64> {
        let part = usize::try_from(place >> self.part_bits).unwrap_or(usize::MAX);
        let part = part.min(self.parts.len() - 2);
        let (first, after) = (self.parts[part] as usize, self.parts[part + 1] as usize);
        let mut before = after;
        // In this part, some may begin behind the place.
        if after > first {
            before = first + self.stretches[first..after].partition_point(|(start, _)| *start <= place);
        }
        let (_, moved) = self.stretches[before - 1];
        (moved != NOT_KNOWN).then_some(moved)
    }
}
