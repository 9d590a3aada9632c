//! How long a server asks us to wait: `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads the header's value; a date that is past is no wait. `None` for what is neither.
pub fn read(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(date(value)?.duration_since(now).unwrap_or_default()),
    }
}

/// The form of a date that may be sent, `Sun, 06 Nov 1994 08:49:37 GMT`; the two obsolete ones are not read.
fn date(text: &str) -> Option<SystemTime> {
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<&str> = rest.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second, "GMT"] = parts.as_slice() else {
        return None;
    };
    let number = |text: &str, most: u64| text.parse::<u64>().ok().filter(|number| *number <= most);
    let month = MONTHS.iter().position(|name| name == month)?;
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    // Days from a year's beginning, and the leap days of all years before it.
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let before: u64 = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][..month].iter().sum();
    let of_year = before + u64::from(month > 1 && leap(year)) + day.checked_sub(1)?;
    let years = year.checked_sub(1970)?;
    let past = year - 1;
    let leaps = (past / 4 - past / 100 + past / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let days = years * 365 + leaps + of_year;
    let seconds = days * 86_400 + number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn seconds_or_a_date() {
        let then = at(784_111_777);
        assert_eq!(read(" 120 ", then), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT", then), Some(Duration::ZERO));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:50:07 GMT", then),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:00 GMT", then),
            Some(Duration::ZERO),
            "past"
        );
        assert_eq!(date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(at(1_709_208_000)));
        assert_eq!(date("Fri, 01 Mar 2024 00:00:00 GMT"), Some(at(1_709_251_200)));
        assert_eq!(date("Wed, 01 Jan 2042 00:00:00 GMT"), Some(at(2_272_147_200)));
    }

    #[test]
    fn neither() {
        for text in [
            "",
            "soon",
            "-1",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 99999999999999999999 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text, at(0)), None, "{text}");
        }
    }
}
