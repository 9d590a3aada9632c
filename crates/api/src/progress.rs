//! The stream of JSON lines in which long work reports: pull, push, load, build, delta.

use crate::json::is_zero;
use json::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "is_zero")]
    pub stream: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<Detail>,
    /// The bar as text, for clients that do not draw.
    #[serde(skip_serializing_if = "is_zero")]
    pub progress: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far a piece of work is, in bytes unless `units` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
    pub hide_counts: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub units: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    pub message: String,
}

impl Message {
    /// A line of status about `id`; an empty `id` is about the whole.
    pub fn status(id: &str, status: impl Into<String>) -> Message {
        Message {
            id: id.into(),
            status: status.into(),
            // Docker writes an empty object on lines that have an ID.
            progress_detail: (!id.is_empty()).then(Detail::default),
            ..Message::default()
        }
    }

    /// A line that says how far `id` is, with the bar that Docker's clients print when they do not draw.
    pub fn bytes(id: &str, status: &str, current: u64, total: u64) -> Message {
        let (current, total) = (clamp(current), clamp(total));
        Message {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(Detail {
                current,
                total,
                ..Detail::default()
            }),
            progress: bar(current, total),
            ..Message::default()
        }
    }

    /// The line that ends a stream that failed.
    pub fn error(message: impl Into<String>) -> Message {
        let message = message.into();
        Message {
            error_detail: Some(ErrorDetail {
                code: 0,
                message: message.clone(),
            }),
            error: message,
            ..Message::default()
        }
    }

    /// The line and its end, CR LF as Docker writes it.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = json::to_vec(self);
        line.extend_from_slice(b"\r\n");
        line
    }
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Docker's bar of 50 characters with sizes behind it.
pub fn bar(current: i64, total: i64) -> String {
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let now = human(current);
    if total <= 0 || current > total {
        return format!("{now:>8}");
    }
    let percent = usize::try_from(i128::from(current) * 100 / i128::from(total) / 2)
        .unwrap_or(50)
        .min(50);
    let bar = if percent < 50 {
        format!("[{}>{}] ", "=".repeat(percent), " ".repeat(49 - percent + 1))
    } else {
        format!("[{}>] ", "=".repeat(50))
    };
    format!("{bar} {now:>7}/{}", human(total))
}

/// Sizes in powers of 1000 with four significant digits, as Docker prints them: `1.984MB`.
pub fn human(bytes: i64) -> String {
    human_precision(bytes, 4)
}

/// The same with another number of significant digits.
pub fn human_precision(bytes: i64, digits: usize) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit < UNITS.len() - 1 {
        size /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), UNITS[unit])
}

/// `%.{digits}g` of C for values from 0 to 1000.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor().max(0.0) as usize;
    let decimals = digits.saturating_sub(magnitude + 1);
    let text = format!("{value:.decimals$}");
    // Rounding may have carried into another digit: 9.9996 is 10.00, which has one digit too many.
    let text = match text.trim_start_matches('-').find('.').unwrap_or(text.len()) {
        whole if whole > magnitude + 1 && decimals > 0 => format!("{value:.0$}", decimals - 1),
        _ => text,
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.024kB"),
            (1_984_172, "1.984MB"),
            (9_999_600, "10MB"),
            (999_999, "1000kB"),
            (55_200_000, "55.2MB"),
            (1_100_000_000, "1.1GB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human_precision(1_984_172, 3), "1.98MB");
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0, 0), "");
        assert_eq!(
            bar(512, 1024),
            format!("[{}>{}]     512B/1.024kB", "=".repeat(25), " ".repeat(25))
        );
        assert_eq!(bar(1024, 1024), format!("[{}>]  1.024kB/1.024kB", "=".repeat(50)));
        assert_eq!(bar(5, 0), "      5B");
    }

    #[test]
    fn lines() {
        assert_eq!(
            String::from_utf8(Message::status("abc", "Pulling fs layer").to_line()).unwrap(),
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            String::from_utf8(Message::error("no").to_line()).unwrap(),
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }
}
