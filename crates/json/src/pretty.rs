//! JSON for people: a member on each line.

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
