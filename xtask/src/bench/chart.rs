//! The chart of updates' sizes, as SVG: bars on a logarithmic scale. It is this page of text; a plotting crate would
//! bring some thirty packages into the lock file for it.

use std::fmt::Write;

/// A case: full pull, balenaEngine's delta, ours; in bytes.
pub struct Bars {
    pub name: String,
    pub about: &'static str,
    pub values: [f64; 3],
}

const NAMES: [&str; 3] = ["full pull (gzip)", "balenaEngine's delta", "our delta"];
const COLOURS: [&str; 3] = ["#b8bec8", "#e9a13b", "#1f7a5c"];
const LEFT: f64 = 230.0;
const WIDTH: f64 = 820.0;
const BAR: f64 = 13.0;
const GROUP: f64 = 56.0;
/// The scale: from 1 kB to 100 MB.
const DECADES: (f64, f64) = (3.0, 8.0);

fn x(bytes: f64) -> f64 {
    let part = (bytes.max(1.0).log10() - DECADES.0) / (DECADES.1 - DECADES.0);
    LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - 70.0)
}

fn shown(bytes: f64) -> String {
    match bytes {
        large if large >= 1e6 => format!("{:.1} MB", large / 1e6),
        middle if middle >= 1e4 => format!("{:.0} kB", middle / 1e3),
        small => format!("{:.1} kB", small / 1e3),
    }
}

/// Draws it.
pub fn svg(cases: &[Bars]) -> String {
    let height = 70.0 + GROUP * cases.len() as f64 + 30.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" fill=\"#222\">Bytes on the wire for one update (logarithmic)</text>\n"
    );
    let mut line = |text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{text}");
    };
    for (at, (name, colour)) in NAMES.iter().zip(COLOURS).enumerate() {
        let left = 16.0 + 170.0 * at as f64;
        line(format!(
            "<rect x=\"{left}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        ));
        line(format!(
            "<text x=\"{}\" y=\"46\" fill=\"#444\">{name}</text>",
            left + 18.0
        ));
    }
    let bottom = 62.0 + GROUP * cases.len() as f64;
    for (decade, label) in [
        (3, "1 kB"),
        (4, "10 kB"),
        (5, "100 kB"),
        (6, "1 MB"),
        (7, "10 MB"),
        (8, "100 MB"),
    ] {
        let at = x(10f64.powi(decade));
        line(format!(
            "<line x1=\"{at:.1}\" y1=\"60\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#e3e6ea\"/>"
        ));
        line(format!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{label}</text>",
            bottom + 18.0
        ));
    }
    for (number, case) in cases.iter().enumerate() {
        let top = 68.0 + GROUP * number as f64;
        line(format!(
            "<text x=\"16\" y=\"{}\" fill=\"#222\" font-weight=\"bold\">{}</text>",
            top + 16.0,
            case.name
        ));
        line(format!(
            "<text x=\"16\" y=\"{}\" fill=\"#666\" font-size=\"11\">{}</text>",
            top + 32.0,
            case.about
        ));
        for (at, (value, colour)) in case.values.iter().zip(COLOURS).enumerate() {
            let y = top + (BAR + 2.0) * at as f64;
            let end = x(*value);
            line(format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
                end - LEFT
            ));
            let mut text = shown(*value);
            if at > 0 {
                let _ = write!(text, ", 1/{:.0}", case.values[0] / value);
            }
            line(format!(
                "<text x=\"{:.1}\" y=\"{}\" fill=\"#333\" font-size=\"11\">{text}</text>",
                end + 5.0,
                y + 11.0
            ));
        }
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_in_the_picture() {
        assert!((x(1e3) - LEFT).abs() < 1e-9 && x(1.0) == x(1e3) && x(1e12) == x(1e8));
        let case = Bars {
            name: "a".into(),
            about: "b",
            values: [2e7, 2e6, 5e5],
        };
        let text = svg(&[case]);
        assert!(text.contains("20.0 MB") && text.contains("500 kB, 1/40"));
    }
}
