//! Finds earlier occurrences of what comes next, for the encoder: a binary tree for each hash of four bytes, and the
//! last place of each hash of two and of three.

use super::LONGEST;

/// A match: `length` bytes as `distance + 1` bytes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub length: u32,
    pub distance: u32,
}

/// The window's bytes and the search structures over them.
pub(super) struct Finder {
    /// The window and what is to be encoded.
    pub bytes: Vec<u8>,
    /// Place of the next byte to be searched for.
    pub at: usize,
    window: usize,
    /// Bytes let go of, for a place's slot in the tree.
    gone: usize,
    by_two: Vec<u32>,
    by_three: Vec<u32>,
    by_four: Vec<u32>,
    /// For each place, modulo the window, its smaller and its larger subtree. 0 is none: places count from 1.
    tree: Vec<[u32; 2]>,
    four_bits: u32,
    depth: u32,
    /// Matches at least this long are taken without looking further.
    pub nice: usize,
}

const THREE_BITS: u32 = 16;
/// Places looked at for one match.
const DEPTH: u32 = 24;
/// Bytes entered at once from which on it is done less thoroughly.
const LARGE: usize = 1 << 20;

impl Finder {
    pub fn new(window: usize) -> Finder {
        Finder {
            bytes: Vec::new(),
            at: 0,
            window,
            gone: 0,
            by_two: vec![0; 1 << 16],
            by_three: vec![0; 1 << THREE_BITS],
            by_four: Vec::new(),
            tree: Vec::new(),
            four_bits: 0,
            depth: DEPTH,
            nice: 160,
        }
    }

    /// Adds what is to be encoded next, letting go of what has left the window.
    pub fn push(&mut self, more: &[u8]) {
        if self.at > self.window + self.window / 2 + (1 << 16) {
            let gone = self.at - self.window;
            self.bytes.drain(..gone);
            self.at -= gone;
            self.gone = (self.gone + gone) & (self.window - 1);
            let gone = u32::try_from(gone).unwrap_or(u32::MAX);
            let lists = [&mut self.by_two, &mut self.by_three, &mut self.by_four];
            let places = lists.into_iter().flatten().chain(self.tree.as_flattened_mut());
            places.for_each(|place| *place = place.saturating_sub(gone));
        }
        self.bytes.extend_from_slice(more);
        if self.tree.len() < self.window && self.bytes.len() > self.tree.len() {
            let wanted = self.bytes.len().next_power_of_two().max(self.tree.len() * 4);
            self.grow(wanted.clamp(1 << 12, self.window));
        }
    }

    /// Tables follow what is really there; the old places are entered again.
    fn grow(&mut self, size: usize) {
        self.four_bits = size.ilog2().clamp(10, 22);
        self.by_four = vec![0; 1 << self.four_bits];
        self.by_two.fill(0);
        self.by_three.fill(0);
        self.tree = vec![[0; 2]; size];
        let end = std::mem::take(&mut self.at);
        while self.at < end {
            self.skip();
        }
    }

    fn four(&self, at: usize) -> usize {
        let bytes = &self.bytes[at..at + 4];
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        (word.wrapping_mul(0x9e37_79b1) >> (32 - self.four_bits)) as usize
    }

    fn short(&self, at: usize) -> (usize, usize) {
        let bytes = &self.bytes[at..at + 3];
        let two = u32::from(bytes[0]) << 8 | u32::from(bytes[1]);
        let three = (two << 8 | u32::from(bytes[2])).wrapping_mul(0x9e37_79b1) >> (32 - THREE_BITS);
        (two as usize, three as usize)
    }

    /// How many bytes at `at` equal those `distance + 1` before, up to `limit`.
    pub fn common(&self, at: usize, distance: usize, limit: usize) -> usize {
        let (now, then) = (&self.bytes[at..at + limit], &self.bytes[at - distance - 1..]);
        common(now, then)
    }

    /// Enters the next place without looking for its matches.
    pub fn skip(&mut self) {
        self.search(|_| {});
    }

    /// Enters all that was pushed, less thoroughly.
    pub fn skip_all(&mut self) {
        // A large file costs too much otherwise, and small ones have few places to go through.
        let depth = if self.bytes.len() - self.at > LARGE { 4 } else { 16 };
        let depth = std::mem::replace(&mut self.depth, depth);
        while self.at < self.bytes.len() {
            self.skip();
        }
        self.depth = depth;
    }

    /// Finds the matches at the next place, each longer and farther than the one before, and goes on.
    pub fn find(&mut self, found: &mut Vec<Match>) {
        found.clear();
        self.search(|a_match| found.push(a_match));
    }

    fn search(&mut self, mut found: impl FnMut(Match)) {
        let at = self.at;
        self.at += 1;
        let limit = (self.bytes.len() - at).min(LONGEST as usize);
        if limit < 4 {
            return;
        }
        let place = u32::try_from(at + 1).expect("the buffer is drained long before");
        let window = self.window.min(self.tree.len());
        let reach = |then: u32| then != 0 && ((place - then) as usize) < window;
        let mut best = 1;
        let (two, three) = self.short(at);
        for (table, hash) in [(0, two), (1, three)] {
            let slot = if table == 0 {
                &mut self.by_two[hash]
            } else {
                &mut self.by_three[hash]
            };
            let then = std::mem::replace(slot, place);
            if reach(then) && best < 3 {
                let distance = (place - then - 1) as usize;
                let length = self.common(at, distance, limit);
                if length > best {
                    best = length;
                    found(Match {
                        length: length as u32,
                        distance: distance as u32,
                    });
                }
            }
        }
        let hash = self.four(at);
        let mut then = std::mem::replace(&mut self.by_four[hash], place);
        let mask = self.tree.len() - 1;
        // The two places in the tree where the next smaller and the next larger one belong.
        let (mut smaller, mut larger) = (((at + self.gone) & mask, 0), ((at + self.gone) & mask, 1));
        for _ in 0..self.depth {
            if !reach(then) {
                break;
            }
            let distance = (place - then - 1) as usize;
            let from = at - distance - 1;
            // From the first byte: where a block ended, an order was decided on the few bytes there were, so that what
            // lies below a node need not begin like it.
            let length = common(&self.bytes[at..at + limit], &self.bytes[from..]);
            if length > best {
                best = length;
                found(Match {
                    length: length as u32,
                    distance: distance as u32,
                });
            }
            let node = (from + self.gone) & mask;
            if length == limit || length >= self.nice {
                self.tree[smaller.0][smaller.1] = self.tree[node][0];
                self.tree[larger.0][larger.1] = self.tree[node][1];
                return;
            }
            if self.bytes[from + length] < self.bytes[at + length] {
                self.tree[smaller.0][smaller.1] = then;
                smaller = (node, 1);
                then = self.tree[node][1];
            } else {
                self.tree[larger.0][larger.1] = then;
                larger = (node, 0);
                then = self.tree[node][0];
            }
        }
        self.tree[smaller.0][smaller.1] = 0;
        self.tree[larger.0][larger.1] = 0;
    }
}

/// Length of what two byte strings begin with alike.
pub(crate) fn common(one: &[u8], other: &[u8]) -> usize {
    let limit = one.len().min(other.len());
    let (one, other) = (&one[..limit], &other[..limit]);
    let mut at = 0;
    let words = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    while at + 8 <= limit {
        let differ = words(&one[at..at + 8]) ^ words(&other[at..at + 8]);
        if differ != 0 {
            return at + differ.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < limit && one[at] == other[at] {
        at += 1;
    }
    at
}
