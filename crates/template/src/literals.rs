//! Numbers and strings as templates write them.

use super::parse::Number;

/// Reads a number; `1e3` and `1.0` are floats, hexadecimal and its like are whole.
pub fn number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    if let Some(n) = parse_int(&plain) {
        return Some(Number::Int(n));
    }
    if let Ok(n) = plain.parse::<u64>() {
        return Some(Number::Uint(n));
    }
    let float: f64 = plain.parse().ok()?;
    // 1e3 is a whole number as well.
    if float.fract() == 0.0 && float.abs() < 9e15 {
        return Some(if plain.contains(['.', 'e', 'E']) {
            Number::Float(float)
        } else {
            Number::Int(float as i64)
        });
    }
    float.is_finite().then_some(Number::Float(float))
}

/// Reads Go's escapes; `None` if there is one that Go has not.
pub fn unescape(text: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.clone().next()? {
            'x' => {
                chars.next();
                let text: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&text, 16).ok()?);
                continue;
            }
            'u' | 'U' => {
                let long = chars.next()? == 'U';
                let digits: String = chars.by_ref().take(if long { 8 } else { 4 }).collect();
                let c = char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            '0'..='7' => {
                let digits: String = chars.by_ref().take(3).collect();
                out.push(u8::from_str_radix(&digits, 8).ok()?);
                continue;
            }
            _ => {}
        }
        out.push(match chars.next()? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' => b'"',
            '\'' => b'\'',
            _ => return None,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// Reads what Go's `strconv.ParseInt` reads with base 0.
pub fn parse_int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}
