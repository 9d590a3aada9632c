//! Durations and moments as people give them: `1h30m`, `2026-11-23`, `10m` for ten minutes ago.

use crate::quote::quote;
use crate::time::Time;

/// Reads Go's durations, `1h30m`, `1.5s`, `100ms`, into nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let value: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote(other),
                    quote(text)
                ));
            }
        };
        total += value * unit;
        rest = &rest[end..];
    }
    if total >= 9.3e18 {
        return Err(invalid());
    }
    Ok((sign * total).round() as i64)
}

/// Reads a moment: how long ago, a date with or without a time of day and a zone, or seconds since 1970.
pub fn parse_moment(text: &str) -> Result<Time, String> {
    if text != "0"
        && let Ok(nanos) = parse_duration(text)
    {
        let then = Time::now().as_nanos().saturating_sub(nanos);
        return Ok(Time::of_nanos(then));
    }
    // Dates without a zone are taken as UTC; a device's zone is that or nobody's business.
    let bare = text.trim_end_matches('Z');
    let tries = [
        text.to_string(),
        format!("{bare}Z"),
        format!("{bare}:00Z"),
        format!("{bare}:00:00Z"),
        format!("{bare}T00:00:00Z"),
    ];
    let date = tries.iter().find_map(|text| Time::parse(text));
    date.or_else(|| Time::parse_query(text))
        .ok_or_else(|| format!("failed to parse value as time or duration: {}", quote(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration("-1.5s"), Ok(-1_500_000_000));
        assert_eq!(parse_duration("0"), Ok(0));
        assert_eq!(parse_duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert_eq!(
            parse_duration("5y").unwrap_err(),
            "time: unknown unit \"y\" in duration \"5y\""
        );
        assert_eq!(parse_duration("").unwrap_err(), "time: invalid duration \"\"");
    }

    #[test]
    fn moments() {
        for (text, seconds) in [
            ("2026-11-23T18:20:48Z", 1_795_458_048),
            ("2026-11-23T18:20", 1_795_458_000),
            ("2026-11-23T18", 1_795_456_800),
            ("2026-11-23", 1_795_392_000),
            ("1795458048", 1_795_458_048),
            ("2042-01-01", 2_272_147_200),
        ] {
            assert_eq!(parse_moment(text).map(|time| time.seconds), Ok(seconds), "{text}");
        }
        let then = parse_moment("10m").unwrap();
        let ago = Time::now().since(then).as_secs();
        assert!((600..700).contains(&ago), "{ago}");
        assert!(parse_moment("x").is_err() && parse_moment("10").is_ok());
    }
}
