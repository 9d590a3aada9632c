//! JSON for people, a member on each line; and what was so on one line again.

/// Indents JSON that is on one line, as it comes from [`crate::to_string`].
pub fn pretty(text: &str, step: &str) -> String {
    let (mut out, mut depth) = (String::with_capacity(text.len() * 2), 0usize);
    let (mut quoted, mut escaped) = (false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(step);
        }
    };
    for c in text.chars() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                depth += 1;
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                // Nothing was between: the line that was begun is taken back.
                let begun = out.trim_end().len();
                if out[..begun].ends_with(['{', '[']) {
                    out.truncate(begun);
                } else {
                    line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// JSON on one line as Go's `Marshal` leaves what a type wrote by itself: without white space, and with what means
/// something in HTML and what ends a line in JavaScript escaped. Both stand in strings only.
pub fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' if !quoted => continue,
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_one_line_as_go_writes() {
        for (text, line) in [
            (" { \"a b\" : [ 1.0 ,\r\n\t1e3 ] } ", r#"{"a b":[1.0,1e3]}"#),
            (
                r#"["a\" , <b>", "&" , "\\", " \\\" "]"#,
                r#"["a\" , \u003cb\u003e","\u0026","\\"," \\\" "]"#,
            ),
            ("\"\u{2028}\u{2029}\u{e9}\u{7f}\"", "\"\\u2028\\u2029\u{e9}\u{7f}\""),
        ] {
            assert_eq!(compact(text), line);
            assert_eq!(compact(line), line, "twice is once");
        }
    }
}
