//! Encodes a stream: finds the cheapest way through a stretch of bytes by prices from the model, then codes it.

use super::matches::{Finder, Match};
use super::range::{Bit, Encoder as Range};
use super::{
    ALIGN_BITS, FIRST_ALIGNED_SLOT, LONGEST, Lengths, Model, SHORTEST, Tuning, after_literal, after_match, after_rep,
    after_short_rep, slot_of, slot_state,
};

/// Bytes whose ways are weighed against each other at once.
const STRETCH: usize = 4096;
const FAR: u32 = u32::MAX / 2;

/// One stream being encoded.
pub(crate) struct Encoder {
    model: Model,
    finder: Finder,
    /// Bytes encoded before `finder.bytes[0]`.
    dropped: u64,
    nodes: Vec<Node>,
    found: Vec<Match>,
    prices: Prices,
}

/// How a place is reached: from `from` by a step, at a price.
#[derive(Clone, Copy)]
struct Node {
    price: u32,
    from: u32,
    step: Step,
    state: u8,
    reps: [u32; 4],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Literal,
    ShortRep,
    Rep(u8),
    /// A distance less one.
    Match(u32),
    /// The repeated distance after a literal after a repeated distance of `u16` bytes.
    RepLiteralRep(u8, u16),
    /// The same distance after a literal after a match of `u16` bytes.
    MatchLiteralRep(u32, u16),
}

/// Prices that take long to add up, made anew now and then.
struct Prices {
    lengths: [Vec<[u32; LONGEST as usize + 1]>; 2],
    slots: [[u32; 64]; 4],
    near: [[u32; 128]; 4],
    align: [u32; 16],
    /// Stretches until they are made anew.
    fresh: u32,
}

impl Encoder {
    /// Makes the encoder of a stream whose decoder has a window of `window` bytes.
    pub fn new(tuning: Tuning, window: usize) -> Encoder {
        debug_assert!(window.is_power_of_two());
        Encoder {
            model: Model::new(tuning),
            finder: Finder::new(window),
            dropped: 0,
            nodes: Vec::new(),
            found: Vec::new(),
            prices: Prices {
                lengths: [Vec::new(), Vec::new()],
                slots: [[0; 64]; 4],
                near: [[0; 128]; 4],
                align: [0; 16],
                fresh: 0,
            },
        }
    }

    /// Encodes the next bytes to a block of their own. Each of `primes` is put into the window before the byte at its
    /// place.
    pub fn block(&mut self, bytes: &[u8], primes: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let mut range = Range::new();
        self.prices.fresh = 0;
        let mut done = 0;
        for (place, prime) in primes {
            self.code_all(&bytes[done..*place], &mut range);
            done = *place;
            self.push(prime);
            self.finder.skip_all();
        }
        self.code_all(&bytes[done..], &mut range);
        if bytes.is_empty() { Vec::new() } else { range.finish() }
    }

    fn push(&mut self, bytes: &[u8]) {
        let before = self.finder.at;
        self.finder.push(bytes);
        self.dropped += (before - self.finder.at) as u64;
    }

    fn code_all(&mut self, bytes: &[u8], range: &mut Range) {
        self.push(bytes);
        let end = self.finder.bytes.len();
        let mut at = self.finder.at;
        while at < end {
            at = self.stretch(at, end, range);
        }
    }

    /// Codes from `at` to where a stretch ends, and says where.
    fn stretch(&mut self, at: usize, end: usize, range: &mut Range) -> usize {
        if self.prices.fresh == 0 {
            self.prices.make(&self.model);
            self.prices.fresh = 48;
        }
        self.prices.fresh -= 1;
        let limit = (end - at).min(STRETCH);
        self.nodes.clear();
        let unreached = Node {
            price: FAR,
            from: 0,
            step: Step::Literal,
            state: 0,
            reps: [0; 4],
        };
        self.nodes.resize(limit + 1, unreached);
        self.nodes[0].price = 0;
        self.nodes[0].state = self.model.state as u8;
        self.nodes[0].reps = self.model.reps;
        let mut here = 0;
        // The places before the end of the stretch whose steps cannot be weighed to their end are left to the next.
        while here < limit {
            let mut found = std::mem::take(&mut self.found);
            self.finder.find(&mut found);
            self.settle(here);
            let long = self.relax(at, here, limit, end, &found);
            self.found = found;
            if let Some((length, step)) = long {
                self.emit(at, here, range);
                self.code(at + here, length, step, range);
                let stop = at + here + length as usize;
                while self.finder.at < stop {
                    self.finder.skip();
                }
                return stop;
            }
            here += 1;
        }
        self.settle(limit);
        self.emit(at, limit, range);
        at + limit
    }

    /// Works out state and repeated distances at a place from how it is reached.
    fn settle(&mut self, here: usize) {
        if here == 0 {
            return;
        }
        let node = self.nodes[here];
        let from = self.nodes[node.from as usize];
        let (mut state, mut reps) = (usize::from(from.state), from.reps);
        match node.step {
            Step::Literal => state = after_literal(state),
            Step::ShortRep => state = after_short_rep(state),
            Step::Rep(which) => {
                reps[..=usize::from(which)].rotate_right(1);
                state = after_rep(state);
            }
            Step::Match(distance) => {
                reps.rotate_right(1);
                reps[0] = distance;
                state = after_match(state);
            }
            Step::RepLiteralRep(which, _) => {
                reps[..=usize::from(which)].rotate_right(1);
                state = after_rep(after_literal(after_rep(state)));
            }
            Step::MatchLiteralRep(distance, _) => {
                reps.rotate_right(1);
                reps[0] = distance;
                state = after_rep(after_literal(after_match(state)));
            }
        }
        (self.nodes[here].state, self.nodes[here].reps) = (state as u8, reps);
    }

    fn reach(&mut self, to: usize, from: usize, price: u32, step: Step) {
        let node = &mut self.nodes[to];
        if price < node.price {
            (node.price, node.from, node.step) = (price, from as u32, step);
        }
    }

    fn literal_price(&self, place: usize, state: usize, rep0: u32) -> u32 {
        let bytes = &self.finder.bytes;
        let position = self.dropped + place as u64;
        let before = if position == 0 { 0 } else { bytes[place - 1] };
        let literals = &self.model.literals[self.model.literal_set(position, before)];
        let byte = usize::from(bytes[place]) | 0x100;
        let mut price = 0;
        if state >= 7 {
            let mut expected = usize::from(bytes[place - rep0 as usize - 1]) << 1;
            let mut offset = 0x100;
            for at in (0..8).rev() {
                let symbol = byte >> (at + 1);
                let bit = byte >> at & 1;
                let hint = expected & offset;
                price += literals[offset + hint + symbol].price(bit as u32);
                offset = if bit == 0 { offset & !hint } else { hint };
                expected <<= 1;
            }
        } else {
            for at in (0..8).rev() {
                price += literals[byte >> (at + 1)].price((byte >> at & 1) as u32);
            }
        }
        price
    }

    /// Weighs every step from a place. A match too long to be worth weighing is returned instead.
    fn relax(&mut self, at: usize, here: usize, limit: usize, end: usize, found: &[Match]) -> Option<(u32, Step)> {
        let place = at + here;
        let node = self.nodes[here];
        let (state, reps, price) = (usize::from(node.state), node.reps, node.price);
        let position = self.dropped + place as u64;
        let place_state = self.model.position_state(position);
        let longest = (end - place).min(LONGEST as usize);
        let room = limit - here;
        let model = &self.model;
        let no_match = price + model.is_match[state][place_state].price(0);
        let a_match = price + model.is_match[state][place_state].price(1);
        let a_rep = a_match + model.is_rep[state].price(1);
        let new_match = a_match + model.is_rep[state].price(0);
        let nice = self.finder.nice;

        let literal = no_match + self.literal_price(place, state, reps[0]);
        let same = position > u64::from(reps[0])
            && self.finder.bytes[place] == self.finder.bytes[place - reps[0] as usize - 1];
        let short = a_rep + self.model.is_rep0[state].price(0) + self.model.is_rep0_long[state][place_state].price(0);
        self.reach(here + 1, here, literal, Step::Literal);
        if same {
            self.reach(here + 1, here, short, Step::ShortRep);
        }
        if longest < 2 {
            return None;
        }

        let mut rep_longest = 0;
        for which in 0..4u8 {
            let distance = reps[usize::from(which)];
            if position <= u64::from(distance) {
                continue;
            }
            let length = self.finder.common(place, distance as usize, longest);
            if length < 2 {
                continue;
            }
            if length >= nice {
                return Some((length as u32, Step::Rep(which)));
            }
            rep_longest = rep_longest.max(length);
            let base = a_rep + self.model.rep_price(which, state, place_state);
            for to in 2..=length.min(room) {
                let total = base + self.prices.lengths[1][place_state][to];
                self.reach(here + to, here, total, Step::Rep(which));
            }
            if length < room {
                let before = base + self.prices.lengths[1][place_state][length];
                let step = Step::RepLiteralRep(which, length as u16);
                self.relax_after(at, here, limit, end, before, after_rep(state), distance, length, step);
            }
        }

        let last = found.last()?;
        if last.length as usize >= nice {
            return Some((last.length, Step::Match(last.distance)));
        }
        let mut to = 2;
        for &Match { length, distance } in found {
            let length = (length as usize).min(longest);
            let slot = slot_of(distance);
            while to <= length {
                if to <= room {
                    let total = new_match
                        + self.prices.lengths[0][place_state][to]
                        + self.prices.distance(distance, slot, to as u32);
                    self.reach(here + to, here, total, Step::Match(distance));
                }
                to += 1;
            }
            if length < room && length >= 2 {
                let before = new_match
                    + self.prices.lengths[0][place_state][length]
                    + self.prices.distance(distance, slot, length as u32);
                let step = Step::MatchLiteralRep(distance, length as u16);
                self.relax_after(at, here, limit, end, before, after_match(state), distance, length, step);
            }
        }
        None
    }

    /// Weighs a literal after a match, and after it the same distance again: one byte was changed in a copy.
    #[allow(clippy::too_many_arguments, reason = "one step of `relax`, taken in two places")]
    fn relax_after(
        &mut self,
        at: usize,
        here: usize,
        limit: usize,
        end: usize,
        before: u32,
        state: usize,
        distance: u32,
        length: usize,
        step: Step,
    ) {
        let place = at + here + length;
        let room = (end - place - 1).min(LONGEST as usize).min(limit - here - length - 1);
        if room < 2 {
            return;
        }
        let again = self.finder.common(place + 1, distance as usize, room);
        if again < 2 {
            return;
        }
        let position = self.dropped + place as u64;
        let model = &self.model;
        let literal = model.is_match[state][model.position_state(position)].price(0);
        let mut price = before + literal + self.literal_price(place, state, distance);
        let state = after_literal(state);
        let place_state = model.position_state(position + 1);
        price += model.is_match[state][place_state].price(1) + model.is_rep[state].price(1);
        price += model.rep_price(0, state, place_state) + self.prices.lengths[1][place_state][again];
        self.reach(here + length + 1 + again, here, price, step);
    }

    /// Codes the cheapest way to a place.
    fn emit(&mut self, at: usize, to: usize, range: &mut Range) {
        let mut way = Vec::new();
        let mut here = to;
        while here > 0 {
            way.push(here);
            here = self.nodes[here].from as usize;
        }
        for to in way.into_iter().rev() {
            let Node { from, step, .. } = self.nodes[to];
            let from = from as usize;
            let length = (to - from) as u32;
            match step {
                Step::RepLiteralRep(_, first) | Step::MatchLiteralRep(_, first) => {
                    let plain = match step {
                        Step::RepLiteralRep(which, _) => Step::Rep(which),
                        Step::MatchLiteralRep(distance, _) => Step::Match(distance),
                        other => other,
                    };
                    let first = u32::from(first);
                    self.code(at + from, first, plain, range);
                    self.code(at + from + first as usize, 1, Step::Literal, range);
                    let rest = length - first - 1;
                    self.code(at + to - rest as usize, rest, Step::Rep(0), range);
                }
                step => self.code(at + from, length, step, range),
            }
        }
    }

    /// Codes one step.
    fn code(&mut self, place: usize, length: u32, step: Step, range: &mut Range) {
        let position = self.dropped + place as u64;
        let model = &mut self.model;
        let state = model.state;
        let place_state = model.position_state(position);
        let is_match = &mut model.is_match[state][place_state];
        if step == Step::Literal {
            range.bit(is_match, 0);
            self.code_literal(place, position, range);
            return;
        }
        range.bit(is_match, 1);
        if let Step::Match(distance) = step {
            range.bit(&mut model.is_rep[state], 0);
            code_length(range, &mut model.match_lengths, place_state, length);
            code_distance(range, model, distance, length);
            model.reps.rotate_right(1);
            model.reps[0] = distance;
            model.state = after_match(state);
            return;
        }
        range.bit(&mut model.is_rep[state], 1);
        let which = match step {
            Step::Rep(which) => usize::from(which),
            _ => 0,
        };
        range.bit(&mut model.is_rep0[state], u32::from(which > 0));
        if which == 0 {
            let long = step != Step::ShortRep;
            range.bit(&mut model.is_rep0_long[state][place_state], u32::from(long));
            if !long {
                model.state = after_short_rep(state);
                return;
            }
        } else {
            range.bit(&mut model.is_rep1[state], u32::from(which > 1));
            if which > 1 {
                range.bit(&mut model.is_rep2[state], u32::from(which > 2));
            }
            model.reps[..=which].rotate_right(1);
        }
        code_length(range, &mut model.rep_lengths, place_state, length);
        model.state = after_rep(state);
    }

    fn code_literal(&mut self, place: usize, position: u64, range: &mut Range) {
        let bytes = &self.finder.bytes;
        let model = &mut self.model;
        let before = if position == 0 { 0 } else { bytes[place - 1] };
        let set = model.literal_set(position, before);
        let literals = &mut model.literals[set];
        let byte = usize::from(bytes[place]) | 0x100;
        if model.state >= 7 {
            let mut expected = usize::from(bytes[place - model.reps[0] as usize - 1]) << 1;
            let mut offset = 0x100;
            for at in (0..8).rev() {
                let bit = byte >> at & 1;
                let hint = expected & offset;
                range.bit(&mut literals[offset + hint + (byte >> (at + 1))], bit as u32);
                offset = if bit == 0 { offset & !hint } else { hint };
                expected <<= 1;
            }
        } else {
            for at in (0..8).rev() {
                range.bit(&mut literals[byte >> (at + 1)], (byte >> at & 1) as u32);
            }
        }
        model.state = after_literal(model.state);
    }
}

impl Model {
    /// What it costs to name a repeated distance, after it is known to be one.
    fn rep_price(&self, which: u8, state: usize, place_state: usize) -> u32 {
        if which == 0 {
            return self.is_rep0[state].price(0) + self.is_rep0_long[state][place_state].price(1);
        }
        let price = self.is_rep0[state].price(1) + self.is_rep1[state].price(u32::from(which > 1));
        match which {
            1 => price,
            _ => price + self.is_rep2[state].price(u32::from(which > 2)),
        }
    }
}

impl Prices {
    fn make(&mut self, model: &Model) {
        for (prices, lengths) in self.lengths.iter_mut().zip([&model.match_lengths, &model.rep_lengths]) {
            prices.resize(1 << model.tuning.position, [0; LONGEST as usize + 1]);
            for (place, prices) in prices.iter_mut().enumerate() {
                for (length, price) in prices.iter_mut().enumerate().skip(SHORTEST as usize) {
                    *price = length_price(lengths, place, length - SHORTEST as usize);
                }
            }
        }
        for (prices, models) in self.slots.iter_mut().zip(&model.slots) {
            for (slot, price) in prices.iter_mut().enumerate() {
                *price = tree_price(models, slot, 6);
                if slot as u32 >= FIRST_ALIGNED_SLOT {
                    *price += (slot as u32 / 2 - 1 - ALIGN_BITS) * 64;
                }
            }
        }
        for (set, prices) in self.near.iter_mut().enumerate() {
            for (distance, price) in prices.iter_mut().enumerate() {
                let slot = slot_of(distance as u32);
                *price = self.slots[set][slot as usize];
                if slot >= 4 {
                    let bits = slot / 2 - 1;
                    let base = (2 | slot & 1) << bits;
                    *price += reversed_price(&model.near[(base - slot) as usize..], distance as u32 - base, bits);
                }
            }
        }
        for (low, price) in self.align.iter_mut().enumerate() {
            *price = reversed_price(&model.align, low as u32, ALIGN_BITS);
        }
    }

    fn distance(&self, distance: u32, slot: u32, length: u32) -> u32 {
        let set = slot_state(length);
        if distance < 128 {
            self.near[set][distance as usize]
        } else {
            self.slots[set][slot as usize] + self.align[(distance & 15) as usize]
        }
    }
}

fn tree_price(models: &[Bit], value: usize, bits: u32) -> u32 {
    let symbol = value | 1 << bits;
    (0..bits)
        .map(|at| models[symbol >> (at + 1)].price((symbol >> at & 1) as u32))
        .sum()
}

fn reversed_price(models: &[Bit], value: u32, bits: u32) -> u32 {
    let (mut symbol, mut price) = (1usize, 0);
    for at in 0..bits {
        let bit = value >> at & 1;
        price += models[symbol].price(bit);
        symbol = symbol << 1 | bit as usize;
    }
    price
}

/// The price of a length less the shortest.
fn length_price(lengths: &Lengths, place: usize, length: usize) -> u32 {
    match length {
        0..8 => lengths.choice[0].price(0) + tree_price(&lengths.low[place], length, 3),
        8..16 => {
            lengths.choice[0].price(1) + lengths.choice[1].price(0) + tree_price(&lengths.mid[place], length - 8, 3)
        }
        _ => lengths.choice[0].price(1) + lengths.choice[1].price(1) + tree_price(&lengths.high, length - 16, 8),
    }
}

fn code_tree(range: &mut Range, models: &mut [Bit], value: u32, bits: u32) {
    let symbol = value as usize | 1 << bits;
    for at in (0..bits).rev() {
        range.bit(&mut models[symbol >> (at + 1)], (symbol >> at & 1) as u32);
    }
}

fn code_reversed(range: &mut Range, models: &mut [Bit], value: u32, bits: u32) {
    let mut symbol = 1usize;
    for at in 0..bits {
        let bit = value >> at & 1;
        range.bit(&mut models[symbol], bit);
        symbol = symbol << 1 | bit as usize;
    }
}

fn code_length(range: &mut Range, lengths: &mut Lengths, place: usize, length: u32) {
    let length = length - SHORTEST;
    range.bit(&mut lengths.choice[0], u32::from(length >= 8));
    if length < 8 {
        return code_tree(range, &mut lengths.low[place], length, 3);
    }
    range.bit(&mut lengths.choice[1], u32::from(length >= 16));
    match length {
        8..16 => code_tree(range, &mut lengths.mid[place], length - 8, 3),
        _ => code_tree(range, &mut lengths.high, length - 16, 8),
    }
}

fn code_distance(range: &mut Range, model: &mut Model, distance: u32, length: u32) {
    let slot = slot_of(distance);
    code_tree(range, &mut model.slots[slot_state(length)], slot, 6);
    if slot < 4 {
        return;
    }
    let bits = slot / 2 - 1;
    let base = (2 | slot & 1) << bits;
    let rest = distance - base;
    if slot < FIRST_ALIGNED_SLOT {
        code_reversed(range, &mut model.near[(base - slot) as usize..], rest, bits);
    } else {
        range.plain(rest >> ALIGN_BITS, bits - ALIGN_BITS);
        code_reversed(range, &mut model.align, rest & 15, ALIGN_BITS);
    }
}
