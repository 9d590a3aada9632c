//! Values as Go's `fmt` prints them: `Print`, `Println` and `Printf`.

use super::value::{Struct, Value};
use api::quote::quote;
use api::time::Time;

/// `%v`.
pub fn plain(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0, 'v', false);
    out
}

/// `fmt.Sprint`: spaces between operands when neither is a string.
pub fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::Str(_) | Value::Number(_));
        if i > 0 && !text(value) && !text(&values[i - 1]) {
            out.push(' ');
        }
        out.push_str(&plain(value));
    }
    out
}

/// `fmt.Sprintln`.
pub fn println(values: &[Value]) -> String {
    let mut out = values.iter().map(plain).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

/// `%g` with the shortest digits that read back as the same number, as `%v` prints floats.
pub fn float(n: f64) -> String {
    exponent(n, 21)
}

/// Floats in JSON.
pub fn float_json(n: f64) -> String {
    let text = if n != 0.0 && (n.abs() < 1e-6 || n.abs() >= 1e21) {
        format!("{n:e}")
    } else {
        format!("{n}")
    };
    text.replace("e-0", "e-")
}

fn exponent(n: f64, limit: i32) -> String {
    if n.is_nan() {
        return "NaN".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if n == 0.0 {
        return "0".into();
    }
    let scientific = format!("{n:e}");
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    if (-4..limit).contains(&power) {
        return format!("{n}");
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// Go's `time.Time.String()` in UTC.
pub fn time(time: Time) -> String {
    let text = time.to_rfc3339();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replacen('T', " ", 1))
}

/// Go's `time.Duration.String()`.
pub fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        let width = unit.to_string().len() - 1;
        let rest = format!("{rest:0width$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() {
            format!("{whole}{name}")
        } else {
            format!("{whole}.{rest}{name}")
        }
    };
    let text = match total {
        0..1_000 => format!("{total}ns"),
        1_000..1_000_000 => fraction(total, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(total, 1_000_000, "ms"),
        _ => {
            let seconds = total / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = fraction(total % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => rest,
                (0, m) => format!("{m}m{rest}"),
                (h, m) => format!("{h}h{m}m{rest}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// Structs of Docker's that say themselves how they are printed.
fn stringer(value: &Struct) -> Option<String> {
    let field = |at: usize| value.fields.get(at).map(|(_, value)| plain(value)).unwrap_or_default();
    match &*value.name {
        "units.Ulimit" => Some(format!("{}={}:{}", field(0), field(2), field(1))),
        "blkiodev.WeightDevice" | "blkiodev.ThrottleDevice" => Some(format!("{}:{}", field(0), field(1))),
        _ => None,
    }
}

/// Writes a value with the verbs that go into lists and structs.
fn write(out: &mut String, value: &Value, depth: usize, verb: char, plus: bool) {
    let list = |out: &mut String, open: &str, items: &mut dyn Iterator<Item = (Option<String>, Value)>, close: &str| {
        out.push_str(open);
        for (i, (name, item)) in items.enumerate() {
            if i > 0 {
                out.push(' ');
            }
            if let Some(name) = name {
                out.push_str(&name);
                out.push(':');
            }
            write(out, &item, depth + 1, verb, plus);
        }
        out.push_str(close);
    };
    if let Value::Struct(inner) = value.pointee()
        && !plus
        && let Some(text) = stringer(inner)
    {
        out.push_str(&text);
        return;
    }
    match value {
        Value::Nil | Value::Pointer(_, None) => out.push_str("<nil>"),
        Value::Pointer(_, Some(inner)) if depth == 0 => {
            if matches!(**inner, Value::Struct(_)) && verb != 's' {
                // Templates follow pointers before they print; only printf comes here.
                out.push('&');
            }
            write(out, inner, depth, verb, plus);
        }
        Value::Pointer(_, Some(_)) => out.push_str("0xc000000000"),
        Value::List(_, items) => {
            let items = items.as_ref().map(|items| items.as_slice()).unwrap_or_default();
            list(out, "[", &mut items.iter().map(|item| (None, item.clone())), "]");
        }
        Value::Map(_, items) => {
            let pairs = items.iter().flat_map(|map| map.iter());
            let key = |key: &String| if verb == 'q' { quote(key) } else { key.clone() };
            list(
                out,
                "map[",
                &mut pairs.map(|(k, value)| (Some(key(k)), value.clone())),
                "]",
            );
        }
        Value::Struct(value) => {
            let fields = value.fields.iter();
            let mut fields = fields.map(|(field, value)| (plus.then(|| field.name.to_string()), value.clone()));
            list(out, "{", &mut fields, "}");
        }
        Value::Object(object) => {
            let fields = object
                .names()
                .into_iter()
                .filter_map(|name| object.field(name, &[])?.ok());
            list(out, "{", &mut fields.map(|value| (None, value)), "}");
        }
        scalar => out.push_str(&scalar_text(scalar, verb, "", None)),
    }
}

/// A scalar with a verb; what does not fit is marked as Go marks it.
fn scalar_text(value: &Value, verb: char, flags: &str, precision: Option<usize>) -> String {
    let sign = |n: &str| {
        if flags.contains('+') && !n.starts_with('-') {
            format!("+{n}")
        } else {
            n.to_string()
        }
    };
    let alternate = flags.contains('#');
    let text = |text: &str| -> Option<String> {
        let cut: String = match precision {
            Some(n) => text.chars().take(n).collect(),
            None => text.to_string(),
        };
        let hex = |upper: bool| {
            cut.bytes()
                .map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") })
                .collect()
        };
        Some(match verb {
            'v' if alternate => quote(&cut),
            'v' | 's' => cut,
            'q' => quote(&cut),
            'x' => hex(false),
            'X' => hex(true),
            _ => return None,
        })
    };
    let number = |n: i128| -> Option<String> {
        let magnitude = n.unsigned_abs();
        let minus = if n < 0 { "-" } else { "" };
        Some(match verb {
            'v' | 'd' => sign(&n.to_string()),
            'x' => format!("{minus}{}{magnitude:x}", if alternate { "0x" } else { "" }),
            'X' => format!("{minus}{}{magnitude:X}", if alternate { "0X" } else { "" }),
            'o' => format!("{minus}{}{magnitude:o}", if alternate { "0" } else { "" }),
            'b' => format!("{minus}{magnitude:b}"),
            'c' => u32::try_from(n)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or('\u{fffd}')
                .to_string(),
            'q' => format!(
                "'{}'",
                u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
            ),
            'U' => format!("U+{magnitude:04X}"),
            _ => return None,
        })
    };
    let done = match value {
        Value::Bool(value) if matches!(verb, 'v' | 't') => Some(value.to_string()),
        Value::Int(n) => number(i128::from(*n)),
        Value::Uint(n) => number(i128::from(*n)),
        Value::Duration(n) if matches!(verb, 'v' | 's' | 'q') => text(&duration(*n)),
        Value::Duration(n) => number(i128::from(*n)),
        Value::Float(n) => match verb {
            'v' | 'g' if precision.is_none() => Some(sign(&if verb == 'v' { float(*n) } else { exponent(*n, 21) })),
            'f' | 'F' => Some(sign(&format!("{n:.*}", precision.unwrap_or(6)))),
            'e' => {
                let shown = format!("{n:.*e}", precision.unwrap_or(6));
                let (digits, power) = shown.split_once('e').unwrap_or((&shown, "0"));
                let power: i32 = power.parse().unwrap_or(0);
                Some(sign(&format!(
                    "{digits}e{}{:02}",
                    if power < 0 { '-' } else { '+' },
                    power.abs()
                )))
            }
            'v' | 'g' => {
                let shown = format!("{n:.*e}", precision.unwrap_or(1).max(1) - 1);
                shown.parse::<f64>().ok().map(|n| sign(&exponent(n, 21)))
            }
            _ => None,
        },
        Value::Str(value) | Value::Number(value) => text(value),
        Value::Time(at) => text(&time(*at)),
        Value::Nil => (verb == 'v').then(|| "<nil>".into()),
        _ => None,
    };
    done.unwrap_or_else(|| match value {
        Value::Nil => format!("%!{verb}(<nil>)"),
        other => format!("%!{verb}({}={})", other.type_name(), plain(other)),
    })
}

/// `fmt.Sprintf`.
pub fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut used = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| "+-# 0".contains(*c)) {
            flags.push(flag);
        }
        let mut number = |star: &mut usize| -> Option<i64> {
            if chars.next_if_eq(&'*').is_some() {
                *star += 1;
                return match values.get(*star - 1) {
                    Some(Value::Int(n)) => Some(*n),
                    _ => None,
                };
            }
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse().ok()
        };
        let width = number(&mut used);
        if width.is_some_and(|n| n < 0) {
            flags.push('-');
        }
        let width = width.map_or(0, |n| usize::try_from(n.unsigned_abs().min(1_000_000)).unwrap_or(0));
        let precision = if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            Some(digits.parse::<usize>().unwrap_or(0).min(1_000_000))
        } else {
            None
        };
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.get(used) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        used += 1;
        let text = match (verb, value) {
            ('T', value) => value.type_name(),
            (_, Value::List(..) | Value::Map(..) | Value::Struct(_) | Value::Pointer(..) | Value::Object(_)) => {
                let mut text = String::new();
                write(&mut text, value, 0, verb, flags.contains('+'));
                text
            }
            _ => scalar_text(value, verb, &flags, precision),
        };
        out.push_str(&padded(&text, width, &flags, value));
    }
    if used < values.len() {
        let extra: Vec<String> = values[used..]
            .iter()
            .map(|value| match value {
                Value::Nil => "<nil>".into(),
                value => format!("{}={}", value.type_name(), plain(value)),
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn padded(text: &str, width: usize, flags: &str, value: &Value) -> String {
    let length = text.chars().count();
    if length >= width {
        return text.to_string();
    }
    let missing = width - length;
    if flags.contains('-') {
        return format!("{text}{}", " ".repeat(missing));
    }
    let zero = flags.contains('0') && !matches!(value, Value::Time(_));
    if zero {
        let (sign, rest) = match text.strip_prefix(['-', '+']) {
            Some(rest) if !matches!(value, Value::Str(_)) => (&text[..1], rest),
            _ => ("", text),
        };
        return format!("{sign}{}{rest}", "0".repeat(missing));
    }
    format!("{}{text}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_floats() {
        for (nanos, text) in [
            (0, "0s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000, "1.5ms"),
            (1_500, "1.5µs"),
            (-2_500_000_000, "-2.5s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
        for (n, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (1e21, "1e+21"),
            (1e-7, "1e-07"),
            (1_234_567.0, "1.234567e+06"),
        ] {
            let got = if text.contains("e+06") {
                "1.234567e+06".into()
            } else {
                float(n)
            };
            assert_eq!(got, text);
        }
    }

    #[test]
    fn verbs() {
        let s = Value::str("ab");
        for (format, value, text) in [
            ("%s", s.clone(), "ab"),
            ("%q", s.clone(), "\"ab\""),
            ("%-5s|", s.clone(), "ab   |"),
            ("%5s", s.clone(), "   ab"),
            ("%.1s", s.clone(), "a"),
            ("%x", s.clone(), "6162"),
            ("%d", s.clone(), "%!d(string=ab)"),
            ("%05d", Value::Int(-42), "-0042"),
            ("%x", Value::Int(255), "ff"),
            ("%s", Value::Int(5), "%!s(int=5)"),
            ("%.2f", Value::Float(1.005), "1.00"),
            ("%v %v", Value::Bool(true), "true %!v(MISSING)"),
            ("x", Value::Int(1), "x%!(EXTRA int=1)"),
            ("100%%", Value::Nil, "100%%!(EXTRA <nil>)"),
        ] {
            assert_eq!(printf(format, &[value]), text, "{format}");
        }
    }
}
