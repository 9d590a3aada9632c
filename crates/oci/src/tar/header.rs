//! The 512-byte header block: its fields, its number formats, its checksum.

use super::{BLOCK, Kind, Time};

/// A header block as read.
pub(super) struct Block<'a>(pub &'a [u8; BLOCK]);

/// The dialect of a header, told by its magic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

type Field = Result<i64, &'static str>;

impl<'a> Block<'a> {
    fn bytes(&self, at: usize, length: usize) -> &'a [u8] {
        &self.0[at..at + length]
    }

    pub fn dialect(&self) -> Dialect {
        match self.bytes(257, 8) {
            b"ustar\x0000" if self.bytes(508, 4) == b"tar\0" => Dialect::Star,
            b"ustar\x0000" => Dialect::Ustar,
            b"ustar  \0" => Dialect::Gnu,
            _ => Dialect::V7,
        }
    }

    /// Says if the checksum is right, counted over unsigned bytes or, as old Sun tars did, signed ones.
    pub fn checksum_holds(&self) -> bool {
        let Ok(claimed) = octal(self.bytes(148, 8)) else {
            return false;
        };
        let (mut sum, mut high) = sums(self.0);
        for &byte in self.bytes(148, 8) {
            sum = sum - i64::from(byte) + i64::from(b' ');
            high -= i64::from(byte >> 7);
        }
        let (unsigned, signed) = (sum, sum - 256 * high);
        claimed == unsigned || claimed == signed
    }

    pub fn mode(&self) -> Field {
        number(self.bytes(100, 8))
    }

    pub fn uid(&self) -> Field {
        number(self.bytes(108, 8))
    }

    pub fn gid(&self) -> Field {
        number(self.bytes(116, 8))
    }

    pub fn size(&self) -> Field {
        number(self.bytes(124, 12))
    }

    pub fn mtime(&self) -> Field {
        number(self.bytes(136, 12))
    }

    pub fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub fn link(&self) -> &'a [u8] {
        text(self.bytes(157, 100))
    }

    pub fn user(&self) -> &'a [u8] {
        if self.dialect() == Dialect::V7 {
            b""
        } else {
            text(self.bytes(265, 32))
        }
    }

    pub fn group(&self) -> &'a [u8] {
        if self.dialect() == Dialect::V7 {
            b""
        } else {
            text(self.bytes(297, 32))
        }
    }

    /// Major and minor device numbers.
    pub fn device(&self) -> Result<(i64, i64), &'static str> {
        if self.dialect() == Dialect::V7 {
            return Ok((0, 0));
        }
        Ok((number(self.bytes(329, 8))?, number(self.bytes(337, 8))?))
    }

    /// Access and change time, where the dialect has a place for them.
    pub fn other_times(&self) -> (Option<Time>, Option<Time>) {
        let (atime, ctime) = match self.dialect() {
            Dialect::Gnu if self.gnu_times_hold() => (self.bytes(345, 12), self.bytes(357, 12)),
            Dialect::Star => (self.bytes(476, 12), self.bytes(488, 12)),
            _ => return (None, None),
        };
        let time = |field: &[u8]| match number(field) {
            Ok(seconds) if field[0] != 0 => Some(Time {
                seconds,
                nanoseconds: 0,
            }),
            _ => None,
        };
        (time(atime), time(ctime))
    }

    fn gnu_times_hold(&self) -> bool {
        [self.bytes(345, 12), self.bytes(357, 12)]
            .iter()
            .all(|field| field[0] == 0 || number(field).is_ok())
    }

    /// The name with its prefix.
    pub fn name(&self) -> Vec<u8> {
        let prefix: &[u8] = match self.dialect() {
            Dialect::V7 => b"",
            Dialect::Ustar => text(self.bytes(345, 155)),
            Dialect::Star => text(self.bytes(345, 131)),
            // Go before 1.8 wrote a prefix here although GNU has none; Go's reader forgives it, so must we.
            Dialect::Gnu if self.gnu_times_hold() => b"",
            Dialect::Gnu => Some(text(self.bytes(345, 155)))
                .filter(|prefix| prefix.is_ascii())
                .unwrap_or_default(),
        };
        let name = text(self.bytes(0, 100));
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }

    /// The old GNU sparse map's first four entries, if more blocks follow, and the real size.
    pub fn gnu_sparse(&self) -> (&'a [u8], bool, Field) {
        (self.bytes(386, 96), self.0[482] != 0, number(self.bytes(483, 12)))
    }
}

/// The sum of a block's bytes, and how many of them are beyond 0x7f. Eight at a time: every header of a pull comes by
/// here, and at the size that this is compiled for no compiler does it.
fn sums(block: &[u8; BLOCK]) -> (i64, i64) {
    const LANES: u64 = 0x00ff_00ff_00ff_00ff;
    let (mut sum, mut high) = (0u64, 0u64);
    for word in block.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("chunks have 8 bytes"));
        // Four lanes of 16 bits, which 64 words times two bytes do not fill; eight lanes of 8 bits, 64 words times one.
        sum += (word & LANES) + (word >> 8 & LANES);
        high += word >> 7 & 0x0101_0101_0101_0101;
    }
    let lanes = |sum: u64| [sum, sum >> 16, sum >> 32, sum >> 48].map(|lane| (lane & 0xffff) as i64);
    let sum = lanes(sum).iter().sum();
    let high = lanes((high & LANES) + (high >> 8 & LANES)).iter().sum();
    (sum, high)
}

/// Says what a type flag means; headers without content have none whatever their size field says.
pub(super) fn kind_of(flag: u8, name: &[u8]) -> Kind {
    match flag {
        0 if name.ends_with(b"/") => Kind::Directory,
        // 7 is "contiguous", which POSIX says to treat as regular; S is GNU's sparse file.
        0 | b'0' | b'7' | b'S' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    }
}

/// The bytes of a field before its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Reads a number field: octal text, or base 256 when the top bit is set.
pub(super) fn number(field: &[u8]) -> Field {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    // Two's complement, big-endian, the top bit aside; bit 6 is the sign.
    let negative = field[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, &byte) in field.iter().enumerate() {
        let byte = match (at, negative) {
            (0, true) => byte | 0x80,
            (0, false) => byte & 0x7f,
            _ => byte,
        };
        value = value.checked_mul(256).ok_or("number too large")? | i64::from(byte);
    }
    Ok(value)
}

fn octal(field: &[u8]) -> Field {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !blank(byte)) else {
        return Ok(0);
    };
    let end = field
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(field.len(), |last| last + 1);
    let mut value = 0i64;
    for &byte in text(&field[start..end]) {
        let digit = match byte {
            b'0'..=b'7' => i64::from(byte - b'0'),
            _ => return Err("number is not octal"),
        };
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(digit))
            .ok_or("number too large")?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_octal_and_base_256() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"   644 \0"), Ok(0o644));
        assert_eq!(number(b"        "), Ok(0));
        assert_eq!(number(b"\x80\0\0\0\0\x20\0\0"), Ok(1 << 21));
        assert_eq!(number(&[0xff; 12]), Ok(-1));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0"), Ok(-256));
        assert!(number(b"0000648\0").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(number(b"-000001\0").is_err());
    }

    #[test]
    fn sums_are_those_of_single_bytes() {
        for seed in 0..20u32 {
            let block: [u8; BLOCK] = std::array::from_fn(|at| match seed {
                0 => 0xff,
                1 => 0x7f,
                _ => ((at as u32 + 1).wrapping_mul(seed.wrapping_mul(2_654_435_761)) >> 24) as u8,
            });
            let sum = block.iter().map(|&byte| i64::from(byte)).sum();
            let high = block.iter().map(|&byte| i64::from(byte >> 7)).sum();
            assert_eq!(sums(&block), (sum, high));
        }
    }
}
