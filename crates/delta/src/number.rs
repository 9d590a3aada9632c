//! Numbers in a delta: LEB128, seven bits a byte, lowest first; signed ones folded so that small ones stay small.

use crate::error::Error;

/// Adds a number.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number by a source of bytes. One that does not fit 64 bits is refused.
pub(crate) fn get(mut next: impl FnMut() -> Result<u8, Error>) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = next()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::Format("a number is too large"))
}

/// 0, -1, 1, -2 … as 0, 1, 2, 3 …
pub(crate) fn fold(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The number that [`fold`] made this of.
pub(crate) fn unfold(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<u64, Error> {
        let mut bytes = bytes.iter();
        get(|| bytes.next().copied().ok_or(Error::Format("end")))
    }

    #[test]
    fn numbers_come_back_and_too_large_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(read(&bytes).unwrap(), value);
            assert!(read(&bytes[..bytes.len() - 1]).is_err());
            assert_eq!(fold(unfold(value)), value);
        }
        assert!(read(&[0xff; 10]).is_err());
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).is_err());
        assert_eq!((fold(0), fold(-1), fold(1), fold(i64::MIN)), (0, 1, 2, u64::MAX));
    }
}
