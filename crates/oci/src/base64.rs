//! Base64 (RFC 4648, section 4, padded) as Go's JSON writes byte strings, and as HTTP headers carry credentials.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Adds the text of some bytes. Zeros, which are most of a tar's headers, are passed in one look.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    let digit = |n: u32| DIGITS[(n & 63) as usize];
    let rest = bytes.chunks_exact(3).remainder();
    let before = out.len();
    out.resize(before + bytes.len() / 3 * 4, b'A');
    for (stretch, text) in bytes.chunks(12).zip(out[before..].chunks_mut(16)) {
        if stretch == [0; 12] {
            continue;
        }
        for (group, text) in stretch.chunks_exact(3).zip(text.chunks_exact_mut(4)) {
            let n = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
            text[0] = digit(n >> 18);
            text[1] = digit(n >> 12);
            text[2] = digit(n >> 6);
            text[3] = digit(n);
        }
    }
    match rest {
        [a] => {
            let n = u32::from(*a) << 16;
            out.extend_from_slice(&[digit(n >> 18), digit(n >> 12), b'=', b'=']);
        }
        [a, b] => {
            let n = u32::from(*a) << 16 | u32::from(*b) << 8;
            out.extend_from_slice(&[digit(n >> 18), digit(n >> 12), digit(n >> 6), b'=']);
        }
        _ => {}
    }
}

/// The text of some bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    encode_into(bytes, &mut out);
    String::from_utf8(out).expect("all digits are ASCII")
}

/// The bytes of a text, or nothing if it is not padded base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let pad = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let mut out = vec![0; text.len() / 4 * 3];
    let mut all = 0;
    for (stretch, out) in text.chunks(16).zip(out.chunks_mut(12)) {
        if stretch == [b'A'; 16] {
            continue;
        }
        for (group, bytes) in stretch.chunks_exact(4).zip(out.chunks_exact_mut(3)) {
            // Written out, as the checksum of tar-split is: this is run for every header of a base.
            let (a, b) = (VALUES[usize::from(group[0])], VALUES[usize::from(group[1])]);
            let (c, d) = (VALUES[usize::from(group[2])], VALUES[usize::from(group[3])]);
            all |= a | b | c | d;
            bytes[0] = a << 2 | b >> 4 & 3;
            bytes[1] = b << 4 | c >> 2 & 15;
            bytes[2] = c << 6 | d & 63;
        }
    }
    let unpadded = &text[..text.len() - pad];
    if all & NONE != 0 || (all & PAD != 0 && unpadded.contains(&b'=')) {
        return None;
    }
    out.truncate(out.len() - pad);
    Some(out)
}

/// The text of some bytes in the alphabet of URLs (section 5), padded.
pub fn encode_url(bytes: &[u8]) -> String {
    encode(bytes).replace('+', "-").replace('/', "_")
}

/// The bytes of a text that other people's programs wrote: in either alphabet, padded or not, with white space.
pub fn decode_any(text: &str) -> Option<Vec<u8>> {
    let mut plain: String = text
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n' | ' ' | '\t'))
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    plain.truncate(plain.trim_end_matches('=').len());
    while !plain.len().is_multiple_of(4) {
        plain.push('=');
    }
    decode(&plain)
}

/// Marks what is no digit.
const NONE: u8 = 0x80;
/// Marks padding, which counts as zeros.
const PAD: u8 = 0x40;

static VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut digit = 0;
    while digit < DIGITS.len() {
        values[DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    values[b'=' as usize] = PAD;
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for length in 0..50u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
            let zeros = vec![0; length.into()];
            assert_eq!(decode(&encode(&zeros)), Some(zeros));
        }
        let mixed = [&[0; 30][..], b"hi", &[0; 30]].concat();
        assert_eq!(encode(&mixed[..33]), format!("{}aGkA", "A".repeat(40)));
        assert_eq!(decode(&encode(&mixed)), Some(mixed));
        assert_eq!(encode(b"hi"), "aGk=");
        for bad in ["a", "====", "aGk", "aG=k", "a===", "aGk=aGk=", "aG k"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn from_anywhere() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("f", "Zg"),
            ("fo", "Zm8="),
            ("fo", "Zm8"),
            ("foob", "Zm9v\r\nYg"),
            ("f", "Zg="),
        ] {
            assert_eq!(decode_any(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(decode_any("-_-_"), decode("+/+/"));
        assert_eq!(
            decode_any(&encode_url(&[0xfb, 0xff, 0xfe, 1])).unwrap(),
            [0xfb, 0xff, 0xfe, 1]
        );
        for bad in ["a", "Zg==Zg", "Z!", "é"] {
            assert_eq!(decode_any(bad), None, "{bad}");
        }
    }
}
