//! Sizes as people write them: `10m`, `1.5 GiB`. Units are of 1000 or of 1024, as Docker has it for each option.

/// A size with units of 1024, as memory is given.
pub fn binary(text: &str) -> Result<u64, String> {
    parse(text, 1024.0)
}

/// A size with units of 1000, as the sizes of files are given.
pub fn decimal(text: &str) -> Result<u64, String> {
    parse(text, 1000.0)
}

/// The errors' texts are Docker's.
fn parse(text: &str, unit: f64) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    let (number, suffix) = text.split_at(last.ok_or_else(invalid)? + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    // Rust reads `1_0` no more than Go does with decimals, but `inf` and `nan`, which have no digit.
    let size: f64 = number
        .parse()
        .map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
    if size < 0.0 || number.starts_with('-') {
        return Err(invalid());
    }
    let suffix = suffix.to_ascii_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    let bytes = size * unit.powi(power);
    // What no disk holds.
    match bytes < 9e18 {
        true => Ok(bytes as u64),
        false => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, two, ten) in [
            ("512", 512, 512),
            ("10k", 10 << 10, 10_000),
            ("1.5m", 3 << 19, 1_500_000),
            ("1gb", 1 << 30, 1_000_000_000),
            ("2 MiB", 2 << 20, 2_000_000),
            ("7B", 7, 7),
            ("0", 0, 0),
        ] {
            assert_eq!(binary(text), Ok(two), "{text}");
            assert_eq!(decimal(text), Ok(ten), "{text}");
        }
        for (bad, why) in [
            ("", "invalid size: ''"),
            ("x", "invalid size: 'x'"),
            ("-1", "invalid size: '-1'"),
            ("1q", "invalid suffix: 'q'"),
            ("1kx", "invalid suffix: 'kx'"),
            ("1.2.3", "strconv.ParseFloat: parsing \"1.2.3\": invalid syntax"),
            ("99999999999t", "invalid size: '99999999999t'"),
            ("inf", "invalid size: 'inf'"),
        ] {
            assert_eq!(decimal(bad), Err(why.to_owned()), "{bad}");
        }
    }
}
