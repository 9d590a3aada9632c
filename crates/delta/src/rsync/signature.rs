//! Sums of a base's blocks, and the place of a block by its sums.

use super::rolling::Rolling;
use super::{BLOCK, SIGNATURE_MAGIC, Strong, strong};
use std::io::{self, Read, Write};

/// The sums of all blocks: 44 bytes a block at most, 86 MiB for a base of 1 GiB.
pub struct Signature {
    rolling: Vec<u32>,
    strong: Vec<Strong>,
    /// Open addressing by the rolling sum; a block's number plus 1. Of equal blocks only the first is in.
    table: Vec<u32>,
}

impl Signature {
    /// Reads a base to its end. `bytes` is about how many there are: memory is taken for so many.
    pub fn read(base: &mut dyn Read, bytes: u64) -> io::Result<Signature> {
        let expected = usize::try_from(bytes.div_ceil(BLOCK as u64)).unwrap_or(0).min(1 << 24);
        let mut signature = Signature {
            rolling: Vec::with_capacity(expected),
            strong: Vec::with_capacity(expected),
            table: Vec::new(),
        };
        let mut buffer = vec![0; 128 * BLOCK];
        loop {
            let filled = fill(base, &mut buffer)?;
            for block in buffer[..filled].chunks(BLOCK) {
                signature.rolling.push(Rolling::of(block).value());
                signature.strong.push(strong(block));
            }
            if filled < buffer.len() {
                break;
            }
        }
        if u32::try_from(signature.rolling.len()).is_err() {
            return Err(io::Error::other("base too large for a signature"));
        }
        signature.index();
        Ok(signature)
    }

    fn index(&mut self) {
        let size = (self.rolling.len() * 3 / 2 + 2).next_power_of_two();
        self.table = vec![0; size];
        for block in 0..self.rolling.len() {
            let mut slot = self.slot(self.rolling[block]);
            loop {
                let known = self.table[slot] as usize;
                if known == 0 {
                    self.table[slot] = block as u32 + 1;
                    break;
                }
                if self.rolling[known - 1] == self.rolling[block] && self.strong[known - 1] == self.strong[block] {
                    break;
                }
                slot = (slot + 1) & (size - 1);
            }
        }
    }

    fn slot(&self, rolling: u32) -> usize {
        let bits = self.table.len().trailing_zeros();
        (u64::from(rolling.wrapping_mul(0x9e37_79b1)) << bits >> 32) as usize
    }

    /// The place in the base of a block with these sums. The strong one is asked for only if the other is known.
    pub(super) fn find(&self, rolling: u32, strong: impl Fn() -> Strong) -> Option<u64> {
        let mut slot = self.slot(rolling);
        let mut wanted = None;
        loop {
            let block = (self.table[slot] as usize).checked_sub(1)?;
            if self.rolling[block] == rolling && self.strong[block] == *wanted.get_or_insert_with(&strong) {
                return Some(block as u64 * BLOCK as u64);
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
    }

    /// Writes it in librsync's format.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&SIGNATURE_MAGIC)?;
        out.write_all(&(BLOCK as u32).to_be_bytes())?;
        out.write_all(&(size_of::<Strong>() as u32).to_be_bytes())?;
        for (rolling, strong) in self.rolling.iter().zip(&self.strong) {
            out.write_all(&rolling.to_be_bytes())?;
            out.write_all(strong)?;
        }
        Ok(())
    }
}

/// Reads until a buffer is full or the stream at its end.
pub(super) fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
