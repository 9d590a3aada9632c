//! Finds the copies that make a new file from an old one, in the manner of bsdiff (C. Percival, "Naive differences of
//! executable code", 2003): a copy goes on over bytes that differ, as long as enough others agree.
//!
//! Where bsdiff has a suffix array, a hash of eight bytes finds the places: 4 bytes of memory for each old byte, and
//! no sorting.

use crate::lz::common;
use crate::patch::{COPIES, Copy};

const LEAST: usize = 8;
/// Old bytes from which on only every second place is entered.
const SPARSE: usize = 8 << 20;
/// Agreement along the last copy from which on no better place is looked for.
const GOOD: usize = 32;

/// The places of an old file's contents by hash.
pub(super) struct Places {
    heads: Vec<u32>,
    /// For each place, the one before it of the same hash, plus 1.
    before: Vec<u32>,
    bits: u32,
    step: u32,
}

impl Places {
    /// Enters the places of an old file, whose length must be below 2^32; of a large one every second.
    pub fn new(old: &[u8]) -> Places {
        let step = if old.len() > SPARSE { 1 } else { 0 };
        let bits = old.len().max(1).ilog2().clamp(8, 22);
        let mut places = Places {
            heads: vec![0; 1 << bits],
            before: vec![0; (old.len() >> step) + 1],
            bits,
            step,
        };
        for at in (0..old.len().saturating_sub(LEAST - 1)).step_by(1 << step) {
            // A long run of one byte is found at its beginning.
            if at > 0 && old[at - 1] == old[at] && run(&old[at..at + LEAST]) {
                continue;
            }
            let hash = places.hash(&old[at..]);
            places.before[at >> step] = std::mem::replace(&mut places.heads[hash], at as u32 + 1);
        }
        places
    }

    fn hash(&self, bytes: &[u8]) -> usize {
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.bits)) as usize
    }

    /// The longest match of what begins a text, and its place. Of equals, the one nearest to `near`.
    fn longest(&self, old: &[u8], text: &[u8], near: usize, depth: usize) -> (usize, usize) {
        if text.len() < LEAST {
            return (0, 0);
        }
        let mut best = (0usize, 0usize);
        let mut at = self.heads[self.hash(text)];
        for _ in 0..depth {
            let Some(place) = (at as usize).checked_sub(1) else {
                break;
            };
            let length = common(&old[place..], text);
            if length > best.0 || (length == best.0 && place.abs_diff(near) < best.1.abs_diff(near)) {
                best = (length, place);
            }
            at = self.before[place >> self.step];
        }
        best
    }
}

fn run(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == bytes[0])
}

/// Finds copies that, with the new bytes after each, cover `new`. A place is taken over the last one's continuation if
/// it agrees in `threshold` bytes more.
pub(super) fn find(places: &Places, old: &[u8], new: &[u8], threshold: usize, depth: usize) -> Vec<Copy> {
    let mut copies = Vec::new();
    let (mut scan, mut length, mut place) = (0usize, 0usize, 0usize);
    // The copy being extended: from where in new and old.
    let (mut last_scan, mut last_place) = (0usize, 0usize);
    let mut offset = 0i64;
    let along = |at: usize, offset: i64| -> Option<&u8> { old.get(usize::try_from(at as i64 + offset).ok()?) };
    while scan < new.len() {
        let mut agreed = 0usize;
        scan += length;
        let mut counted = scan;
        while scan < new.len() {
            let here = usize::try_from(scan as i64 + offset)
                .ok()
                .filter(|&here| here < old.len());
            let going_on = here.map_or(0, |here| common(&old[here..], &new[scan..]));
            if going_on >= GOOD {
                (length, place) = (going_on, here.unwrap_or(0));
                agreed = going_on;
                break;
            }
            (length, place) = places.longest(old, &new[scan..], here.unwrap_or(0), depth);
            if going_on >= length {
                (length, place) = (going_on, here.unwrap_or(0));
            }
            while counted < scan + length {
                agreed += usize::from(along(counted, offset) == Some(&new[counted]));
                counted += 1;
            }
            if (length == agreed && length != 0) || length > agreed + threshold {
                break;
            }
            if along(scan, offset) == Some(&new[scan]) {
                agreed = agreed.saturating_sub(1);
            }
            scan += 1;
            length = 0;
        }
        if length == agreed && scan < new.len() {
            continue;
        }
        // The last copy goes on as long as more bytes agree than not.
        let forward = extent(scan - last_scan, |at| {
            let then = old.get(last_place + at)?;
            Some(*then == new[last_scan + at])
        });
        // The next one begins before the place found, by the same rule.
        let mut backward = 0;
        if scan < new.len() {
            backward = extent((scan - last_scan).min(place), |at| {
                Some(old[place - at - 1] == new[scan - at - 1])
            });
        }
        let mut forward = forward;
        if last_scan + forward > scan - backward {
            // Where both claim the same bytes, the boundary goes where most agree.
            let overlap = last_scan + forward - (scan - backward);
            let (mut score, mut best, mut cut) = (0i64, 0i64, 0);
            for at in 0..overlap {
                let (in_new, in_last) = (last_scan + forward - overlap + at, last_place + forward - overlap + at);
                score += i64::from(old[in_last] == new[in_new]);
                score -= i64::from(old[place - backward + at] == new[in_new]);
                if score > best {
                    (best, cut) = (score, at + 1);
                }
            }
            forward = forward + cut - overlap;
            backward -= cut;
        }
        copies.push(Copy {
            from: last_place as u64,
            length: forward as u64,
            new: (scan - backward - last_scan - forward) as u64,
        });
        if copies.len() == COPIES {
            // The rest is new, as far as this piece is concerned.
            let covered: u64 = copies.iter().map(|copy| copy.length + copy.new).sum();
            if let Some(last) = copies.last_mut() {
                last.new += new.len() as u64 - covered;
            }
            break;
        }
        last_scan = scan - backward;
        last_place = place - backward;
        offset = place as i64 - scan as i64;
    }
    copies.retain(|copy| copy.length + copy.new > 0);
    copies
}

/// How far to go so that agreements outweigh disagreements the most.
fn extent(limit: usize, agrees: impl Fn(usize) -> Option<bool>) -> usize {
    let (mut score, mut best, mut length) = (0i64, 0i64, 0);
    for at in 0..limit {
        match agrees(at) {
            Some(true) => score += 1,
            Some(false) => score -= 1,
            None => break,
        }
        if score > best {
            (best, length) = (score, at + 1);
        }
        if score < best - 1024 {
            break;
        }
    }
    length
}
