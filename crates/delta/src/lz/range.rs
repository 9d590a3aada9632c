//! The binary range coder: bits under probabilities that learn, and bytes.
//!
//! A range coder as in LZMA (Martin 1979; 32-bit range, carries resolved by the encoder), with two differences. A
//! probability is the mean of two estimates, one quick and one slow, which both start out by averaging; and a block's
//! end is cut: the encoder picks the value in its range with the most trailing zero bytes and leaves them out, the
//! decoder reads zeros past the end.

/// A probability that the next bit is 0, learned from those before: from the lowest 16 bits on, the quick estimate, the
/// slow one, the number of bits seen so far up to [`SEEN`], and the mean. In one word, for all of it is read and written
/// with every bit, and the mean with it, for the next bit waits for that.
#[derive(Clone, Copy)]
pub(super) struct Bit(u64);

/// Bits after which the slow estimate has its final rate.
const SEEN: usize = 120;
/// The quick estimate moves by at least this part (of 65536).
const QUICK: u32 = 4200;

/// 65536 / (n + 1.6): how far the n-th bit moves the quick and the slow estimate. There are more than are used, so that
/// no index of seven bits is beyond them.
static RATES: [(u16, u16); 128] = {
    let mut rates = [(0, 0); 128];
    let mut n = 0;
    while n < rates.len() {
        let rate = 65536 * 5 / (5 * n as u32 + 8);
        let quick = if rate > QUICK { rate } else { QUICK };
        rates[n] = (quick as u16, rate as u16);
        n += 1;
    }
    rates
};

/// Bits of precision of a mean probability.
pub(super) const PRECISION: u32 = 13;

impl Bit {
    pub const NEW: Bit = Bit::of(1 << 15, 1 << 15, 0);

    const fn of(quick: u32, slow: u32, seen: usize) -> Bit {
        let mean = (quick + slow) >> (17 - PRECISION);
        Bit(quick as u64 | (slow as u64) << 16 | (seen as u64) << 32 | (mean as u64) << 48)
    }

    /// The mean, never 0 nor 1 in [`PRECISION`] bits.
    #[inline(always)]
    pub fn zero(self) -> u32 {
        (self.0 >> 48) as u32
    }

    #[inline(always)]
    pub fn learn(&mut self, bit: u32) {
        let seen = (self.0 >> 32) as usize & 127;
        let (quick, slow) = RATES[seen];
        // Toward 0 the distance to 65535 shrinks, toward 1 the estimate itself.
        let turned = bit.wrapping_sub(1) & 0xffff;
        let toward = |estimate: u32, rate: u16| {
            let distance = (estimate & 0xffff) ^ turned;
            (distance - ((distance * u32::from(rate)) >> 16)) ^ turned
        };
        let (quick, slow) = (toward(self.0 as u32, quick), toward((self.0 >> 16) as u32, slow));
        *self = Bit::of(quick, slow, seen + usize::from(seen < SEEN));
    }
}

const TOP: u32 = 1 << 24;

/// Writes bits into a block of bytes.
pub(super) struct Encoder {
    low: u64,
    range: u32,
    cache: u8,
    /// Bytes held back because a carry may still change them; the first one never comes out.
    held: u64,
    first: bool,
    pub out: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder {
            low: 0,
            range: u32::MAX,
            cache: 0,
            held: 1,
            first: true,
            out: Vec::new(),
        }
    }

    #[inline]
    pub fn bit(&mut self, model: &mut Bit, bit: u32) {
        let bound = (self.range >> PRECISION) * model.zero();
        if bit == 0 {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        model.learn(bit);
        while self.range < TOP {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Writes the low `count` bits of a value, highest first, each as likely 0 as 1.
    pub fn plain(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            self.range >>= 1;
            if value >> at & 1 == 1 {
                self.low += u64::from(self.range);
            }
            while self.range < TOP {
                self.range <<= 8;
                self.shift();
            }
        }
    }

    fn shift(&mut self) {
        if self.low < 0xff00_0000 || self.low > 0xffff_ffff {
            let carry = (self.low >> 32) as u8;
            let mut byte = self.cache;
            loop {
                if !std::mem::take(&mut self.first) {
                    self.out.push(byte.wrapping_add(carry));
                }
                byte = 0xff;
                self.held -= 1;
                if self.held == 0 {
                    break;
                }
            }
            self.cache = (self.low >> 24) as u8;
        }
        self.held += 1;
        self.low = u64::from((self.low as u32) << 8);
    }

    /// Ends the block.
    pub fn finish(mut self) -> Vec<u8> {
        // Any value in [low, low + range) will do: the one with the most zero bits at its end.
        let top = self.low + u64::from(self.range) - 1;
        for zeros in (0..32).rev() {
            let value = top >> zeros << zeros;
            if value >= self.low {
                self.low = value;
                break;
            }
        }
        for _ in 0..5 {
            self.shift();
        }
        while self.out.last() == Some(&0) {
            self.out.pop();
        }
        self.out
    }
}

/// Reads bits from a block of bytes, and zeros after its end. Small enough to be taken apart into registers: whoever reads
/// many bits does so with a copy.
#[derive(Clone, Copy)]
pub(super) struct Decoder {
    range: u32,
    code: u32,
    at: usize,
}

impl Decoder {
    pub fn new(block: &[u8]) -> Decoder {
        let mut decoder = Decoder {
            range: u32::MAX,
            code: 0,
            at: 0,
        };
        for _ in 0..4 {
            decoder.shift(block);
        }
        decoder
    }

    #[inline(always)]
    fn shift(&mut self, block: &[u8]) {
        let byte = block.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        self.code = self.code << 8 | u32::from(byte);
    }

    #[inline(always)]
    fn normalize(&mut self, block: &[u8]) {
        // A probability has 13 bits and is at least 8: one shift may not be enough, two are.
        if self.range < TOP {
            self.range <<= 8;
            self.shift(block);
            if self.range < TOP {
                self.range <<= 8;
                self.shift(block);
            }
        }
    }

    /// A bit that is guessed well by what came before: the processor goes on with its guess.
    #[inline(always)]
    pub fn bit(&mut self, block: &[u8], model: &mut Bit) -> u32 {
        let bound = (self.range >> PRECISION) * model.zero();
        if self.code < bound {
            self.range = bound;
            model.learn(0);
            self.normalize(block);
            0
        } else {
            self.code -= bound;
            self.range -= bound;
            model.learn(1);
            self.normalize(block);
            1
        }
    }

    /// A bit that is guessed badly, without a branch.
    #[inline(always)]
    pub fn even_bit(&mut self, block: &[u8], model: &mut Bit) -> u32 {
        let bound = (self.range >> PRECISION) * model.zero();
        let bit = u32::from(self.code >= bound);
        let mask = bit.wrapping_neg();
        self.code -= bound & mask;
        self.range = (self.range.wrapping_sub(bound) & mask) | (bound & !mask);
        model.learn(bit);
        self.normalize(block);
        bit
    }

    #[inline(always)]
    pub fn plain(&mut self, block: &[u8], count: u32) -> u32 {
        let mut value = 0;
        for _ in 0..count {
            self.range >>= 1;
            let bit = u32::from(self.code >= self.range);
            self.code -= self.range & bit.wrapping_neg();
            value = value << 1 | bit;
            self.normalize(block);
        }
        value
    }
}

/// What a bit costs in 1/64 bit, by the high 9 bits of the probability of its value.
static PRICES: [u16; 512] = {
    let mut prices = [0; 512];
    let mut at = 0;
    while at < 512 {
        // log2 by squaring: of (at + 0.5) / 512, six bits after the point.
        let mut value = (2 * at as u64 + 1) << 20;
        let mut log = 0u32;
        // value / 2^30 is the probability; make it a number in [2^30, 2^31) and count.
        let mut whole = 0u32;
        while value < 1 << 30 {
            value <<= 1;
            whole += 1;
        }
        let mut step = 0;
        while step < 6 {
            value = (value * value) >> 30;
            log <<= 1;
            if value >= 1 << 31 {
                value >>= 1;
                log |= 1;
            }
            step += 1;
        }
        prices[at] = (whole * 64 - log) as u16;
        at += 1;
    }
    prices
};

impl Bit {
    /// What coding a bit would cost now, in 1/64 bit.
    #[inline(always)]
    pub fn price(self, bit: u32) -> u32 {
        let zero = self.zero();
        let of = if bit == 0 { zero } else { (1 << PRECISION) - zero };
        u32::from(PRICES[(of >> (PRECISION - 9)) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_likely_ones_are_cheap() {
        let bits: Vec<u32> = (0..20_000u32).map(|n| u32::from(n * n % 97 == 1)).collect();
        let mut encoder = Encoder::new();
        let mut models = [Bit::NEW; 2];
        for (at, &bit) in bits.iter().enumerate() {
            encoder.bit(&mut models[at & 1], bit);
            if at % 100 == 0 {
                encoder.plain(at as u32, 17);
            }
        }
        let block = encoder.finish();
        let entropy_bytes = 20_000.0 * 0.145 / 8.0 + 200.0 * 17.0 / 8.0;
        assert!(
            (block.len() as f64) < entropy_bytes * 1.1,
            "{} of {entropy_bytes}",
            block.len()
        );
        let mut decoder = Decoder::new(&block);
        let mut models = [Bit::NEW; 2];
        for (at, &bit) in bits.iter().enumerate() {
            assert_eq!(decoder.bit(&block, &mut models[at & 1]), bit);
            if at % 100 == 0 {
                assert_eq!(decoder.plain(&block, 17), at as u32);
            }
        }
    }

    #[test]
    fn every_short_block_comes_back() {
        for pattern in 0..1u32 << 12 {
            let mut encoder = Encoder::new();
            let mut model = Bit::NEW;
            for at in 0..12 {
                encoder.bit(&mut model, pattern >> at & 1);
            }
            let block = encoder.finish();
            assert!(block.len() <= 3);
            let (mut decoder, mut model) = (Decoder::new(&block), Bit::NEW);
            for at in 0..12 {
                let bit = match at % 2 {
                    0 => decoder.bit(&block, &mut model),
                    _ => decoder.even_bit(&block, &mut model),
                };
                assert_eq!(bit, pattern >> at & 1);
            }
        }
    }
}
