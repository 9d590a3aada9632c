//! Sizes, durations and moments as docker's users write them and as docker prints them.

use api::time::Time;
use std::time::Duration;

/// `About a minute`, `3 hours`: how long something took or is ago.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (duration.as_secs_f64() / 3600.0 + 0.5) as u64;
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".into(),
        (1, _, _) => "1 second".into(),
        (2..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a moment in seconds since 1970 is, with ` ago`.
pub fn ago(seconds: i64) -> String {
    let then = Time { seconds, nanos: 0 };
    format!("{} ago", human_duration(Time::now().since(then)))
}

/// `2026-11-23 18:20:48 +0000 UTC`, as Go prints a moment without a fraction.
pub fn created_at(seconds: i64) -> String {
    template::time(Time { seconds, nanos: 0 })
}

/// Reads a size in units of 1024: `64m`, `1.5GiB`, `4096`.
pub fn parse_size(text: &str) -> Result<i64, String> {
    let Some(last) = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ') else {
        return Err(format!("invalid size: '{text}'"));
    };
    let space = text.as_bytes()[last] == b' ';
    let (number, suffix) = (&text[..last + usize::from(!space)], &text[last + 1..]);
    let size: f64 = match number.parse() {
        Ok(size) if !number.starts_with(|c: char| c.is_alphabetic()) => size,
        _ => {
            return Err(format!(
                "strconv.ParseFloat: parsing {}: invalid syntax",
                api::quote::quote(number)
            ));
        }
    };
    if size < 0.0 {
        return Err(format!("invalid size: '{text}'"));
    }
    let suffix = if suffix.len() > 3 {
        suffix.to_string()
    } else {
        suffix.to_lowercase()
    };
    let bad = || format!("invalid suffix: '{suffix}'");
    let mut letters = suffix.chars();
    let power = match letters.next() {
        None => 0,
        Some('b') if suffix.len() == 1 => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        _ => return Err(bad()),
    };
    if !matches!(letters.as_str(), "" | "b" | "ib") {
        return Err(bad());
    }
    // The cast saturates; Go's wraps, and nobody wants that.
    Ok((size * 1024f64.powi(power)) as i64)
}

/// Reads `--since` and `--until`: a moment, or how long ago; gives what the API takes.
pub fn parse_moment(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "0" {
        return Ok(text.to_string());
    }
    // Whole seconds, as docker: what happened in this one is then not yet "until 0s".
    if let Ok(nanos) = api::moment::parse_duration(text) {
        let then = Time::now().as_nanos().saturating_sub(nanos);
        return Ok(then.div_euclid(1_000_000_000).to_string());
    }
    match Time::parse_query(text) {
        Some(_) if !text.contains('T') => Ok(text.to_string()),
        _ => api::moment::parse_moment(text).map(|time| format!("{}.{:09}", time.seconds, time.nanos)),
    }
}

/// Cuts an ID to 12 digits, without its algorithm.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// Cuts a text to a number of characters and marks that with an ellipsis.
pub fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_string();
    }
    let mut cut: String = text.chars().take(length - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        let hour = 3600;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (hour, "About an hour"),
            (2 * hour, "2 hours"),
            (47 * hour, "47 hours"),
            (48 * hour, "2 days"),
            (15 * 24 * hour, "2 weeks"),
            (90 * 24 * hour, "3 months"),
            (800 * 24 * hour, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in [
            ("64m", Ok(64 << 20)),
            ("64MB", Ok(64 << 20)),
            ("1.5GiB", Ok(3 << 29)),
            ("10", Ok(10)),
            ("10 k", Ok(10 << 10)),
            ("1x", Err("invalid suffix: 'x'")),
            ("1kx", Err("invalid suffix: 'kx'")),
            ("m", Err("invalid size: 'm'")),
            ("-1", Err("invalid size: '-1'")),
            ("a1", Err("strconv.ParseFloat: parsing \"a1\": invalid syntax")),
        ] {
            assert_eq!(parse_size(text), size.map_err(str::to_string), "{text}");
        }
    }

    #[test]
    fn moments() {
        for (text, want) in [
            ("2026-11-23T18:20:48Z", "1795458048.000000000"),
            ("2026-11-23T18:20:48.5", "1795458048.500000000"),
            ("2026-11-23", "1795392000.000000000"),
            ("1795458048", "1795458048"),
        ] {
            assert_eq!(parse_moment(text).as_deref(), Ok(want), "{text}");
        }
        assert!(parse_moment("42m").unwrap().parse::<i64>().unwrap() > 1_700_000_000);
        assert_eq!(parse_moment("0").unwrap(), "0");
        assert_eq!(
            parse_moment("x").unwrap_err(),
            "failed to parse value as time or duration: \"x\""
        );
    }
}
