//! The rolling sum of librsync: two sums modulo 2^16 over bytes that are each 31 more.

const OFFSET: u32 = 31;

/// The sum of a window.
#[derive(Clone, Copy, Default)]
pub(super) struct Rolling {
    count: u32,
    one: u32,
    two: u32,
}

impl Rolling {
    pub fn of(bytes: &[u8]) -> Rolling {
        let mut sum = Rolling::default();
        for &byte in bytes {
            sum.one = sum.one.wrapping_add(u32::from(byte) + OFFSET);
            sum.two = sum.two.wrapping_add(sum.one);
        }
        sum.count = bytes.len() as u32;
        sum
    }

    /// Takes the first byte out of the window, and another in at its end.
    pub fn rotate(&mut self, out: u8, into: u8) {
        let (out, into) = (u32::from(out), u32::from(into));
        self.one = self.one.wrapping_add(into).wrapping_sub(out);
        self.two = self
            .two
            .wrapping_add(self.one)
            .wrapping_sub(self.count.wrapping_mul(out + OFFSET));
    }

    /// Takes the first byte out of the window.
    pub fn roll_out(&mut self, out: u8) {
        let out = u32::from(out) + OFFSET;
        self.one = self.one.wrapping_sub(out);
        self.two = self.two.wrapping_sub(self.count.wrapping_mul(out));
        self.count -= 1;
    }

    pub fn value(self) -> u32 {
        self.two << 16 | self.one & 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolls_to_what_it_is_made_of() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| ((n * n) >> 3) as u8).collect();
        let mut sum = Rolling::of(&bytes[..512]);
        for at in 0..bytes.len() - 512 {
            assert_eq!(sum.value(), Rolling::of(&bytes[at..at + 512]).value());
            sum.rotate(bytes[at], bytes[at + 512]);
        }
        for at in bytes.len() - 512..bytes.len() {
            assert_eq!(sum.value(), Rolling::of(&bytes[at..]).value());
            sum.roll_out(bytes[at]);
        }
    }
}
