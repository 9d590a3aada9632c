//! CRC-64 with the ISO 3309 polynomial, as Go's `hash/crc64` computes it: reflected, all ones in, inverted out.

const POLYNOMIAL: u64 = 0xD800_0000_0000_0000;

/// Sixteen bytes a step: a table for each distance from the end of the step. 32 KiB.
static TABLES: [[u64; 256]; 16] = tables();

const fn tables() -> [[u64; 256]; 16] {
    let mut tables = [[0u64; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 16 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Eight bytes that lie `distance` bytes before the end of a step. Written out: a loop is what it stays when a binary is
/// to be small, and this is run for every byte of every layer.
#[inline(always)]
fn eight(word: u64, distance: usize) -> u64 {
    let of = |at: usize, byte: u64| TABLES[distance + at][(byte & 0xff) as usize];
    of(7, word)
        ^ of(6, word >> 8)
        ^ of(5, word >> 16)
        ^ of(4, word >> 24)
        ^ of(3, word >> 32)
        ^ of(2, word >> 40)
        ^ of(1, word >> 48)
        ^ of(0, word >> 56)
}

/// A running checksum.
#[derive(Clone, Default)]
pub struct Crc64(u64);

impl Crc64 {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = !self.0;
        let mut steps = bytes.chunks_exact(16);
        for step in &mut steps {
            let (low, high) = step.split_at(8);
            let low = crc ^ u64::from_le_bytes(low.try_into().expect("a half of a step"));
            let high = u64::from_le_bytes(high.try_into().expect("the other half"));
            crc = eight(low, 8) ^ eight(high, 0);
        }
        for &byte in steps.remainder() {
            crc = TABLES[0][usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
        }
        self.0 = !crc;
    }

    /// The checksum so far.
    pub fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_as_go() {
        let mut crc = Crc64::default();
        crc.update(b"123456789");
        assert_eq!(crc.value(), 0xB909_56C7_75A4_1001);
        let text: Vec<u8> = (0..1000u32).map(|n| (n * 7) as u8).collect();
        let mut whole = Crc64::default();
        whole.update(&text);
        let mut parts = Crc64::default();
        for part in text.chunks(7) {
            parts.update(part);
        }
        assert_eq!(whole.value(), parts.value());
    }
}
