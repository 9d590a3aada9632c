//! Times as text: RFC 3339 with nanoseconds in UTC, trailing zeros cut as Go prints them.
//!
//! Seconds are `i64` from 1970, years 1 to 9999; nothing here is affected by 2038.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Go's zero time prints as; Docker's "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// A moment: seconds since 1970 and nanoseconds below a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

impl Time {
    /// The wall clock.
    pub fn now() -> Time {
        Time::of(SystemTime::now())
    }

    /// The moment of a system time; before 1970 is 1970.
    pub fn of(time: SystemTime) -> Time {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Time {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }

    /// The moment as the system's clock has it; 1970 for what it cannot hold.
    pub fn to_system(self) -> SystemTime {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let start = match self.seconds < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(whole),
            false => SystemTime::UNIX_EPOCH.checked_add(whole),
        };
        let moment = start.and_then(|start| start.checked_add(Duration::from_nanos(self.nanos.into())));
        moment.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The same without what is below a second.
    pub fn whole_seconds(self) -> Time {
        Time { nanos: 0, ..self }
    }

    /// Nanoseconds since 1970, saturating in 2262.
    pub fn as_nanos(self) -> i64 {
        self.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.nanos))
    }

    /// The moment so many nanoseconds after 1970, or before it.
    pub fn of_nanos(nanos: i64) -> Time {
        Time {
            seconds: nanos.div_euclid(1_000_000_000),
            nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
        }
    }

    /// The time that passed from `earlier` until this; zero if it lies behind.
    pub fn since(self, earlier: Time) -> Duration {
        let nanos = (i128::from(self.seconds) - i128::from(earlier.seconds)) * 1_000_000_000 + i128::from(self.nanos)
            - i128::from(earlier.nanos);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// `2026-11-23T18:20:48.914876328Z`.
    pub fn to_rfc3339(self) -> String {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}");
        if self.nanos != 0 {
            let fraction = format!("{:09}", self.nanos);
            text.push('.');
            text.push_str(fraction.trim_end_matches('0'));
        }
        text.push('Z');
        text
    }

    /// Parses RFC 3339 with any fraction and offset; `None` if it is not that.
    pub fn parse(text: &str) -> Option<Time> {
        let b = text.as_bytes();
        if b.len() < 20 || !text.is_ascii() || b[4] != b'-' || b[7] != b'-' || b[13] != b':' || b[16] != b':' {
            return None;
        }
        let num = |range: std::ops::Range<usize>| -> Option<i64> {
            let part = &text[range];
            part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let (year, month, day) = (num(0..4)?, num(5..7)?, num(8..10)?);
        let (h, m, s) = (num(11..13)?, num(14..16)?, num(17..19)?);
        if !matches!(b[10], b'T' | b't' | b' ') || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        if h > 23 || m > 59 || s > 60 {
            return None;
        }
        let mut rest = &text[19..];
        let mut nanos = 0;
        if let Some(tail) = rest.strip_prefix('.') {
            let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            let mut fraction = tail[..digits.min(9)].to_string();
            while fraction.len() < 9 {
                fraction.push('0');
            }
            nanos = fraction.parse().ok()?;
            rest = &tail[digits..];
        }
        let offset = match rest.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|c| c.is_ascii_digit()) => {
                let digit = |c: &u8| i64::from(c - b'0');
                let value = (digit(h1) * 10 + digit(h2)) * 3600 + (digit(m1) * 10 + digit(m2)) * 60;
                if *sign == b'-' { -value } else { value }
            }
            _ => return None,
        };
        let seconds = days(year, month, day) * 86_400 + h * 3600 + m * 60 + s - offset;
        Some(Time { seconds, nanos })
    }

    /// Parses what `--since` and `--until` send: seconds with an optional fraction, or RFC 3339.
    pub fn parse_query(text: &str) -> Option<Time> {
        if let Some(time) = Time::parse(text) {
            return Some(time);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|c| c.is_ascii_digit()) || fraction.len() > 9 {
            return None;
        }
        let nanos = format!("{fraction:0<9}").parse().ok()?;
        Some(Time {
            seconds: whole.parse().ok()?,
            nanos,
        })
    }
}

/// Now, as text.
pub fn now() -> String {
    Time::now().to_rfc3339()
}

/// Days since 1970 of a date in the Gregorian calendar, by counting eras of 400 years from a March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a number of days since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-11-23T18:20:48.914876328Z", 1_795_458_048, 914_876_328),
            ("2042-03-01T00:00:00.5Z", 2277244800, 500_000_000),
            ("2000-02-29T23:59:59Z", 951_868_799, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
            (ZERO, -62_135_596_800, 0),
        ] {
            let time = Time { seconds, nanos };
            assert_eq!(time.to_rfc3339(), text);
            assert_eq!(Time::parse(text), Some(time));
        }
        assert_eq!(Time::parse("2026-11-23T20:20:48+02:00").unwrap().seconds, 1_795_458_048);
        for bad in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(Time::parse(bad), None, "{bad}");
        }
        assert_eq!(
            Time::parse_query("12.5"),
            Some(Time {
                seconds: 12,
                nanos: 500_000_000
            })
        );
    }
}
