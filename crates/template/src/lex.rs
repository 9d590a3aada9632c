//! Cuts a template into text and the tokens of its actions, as Go's `text/template/parse` does.

/// A token inside an action, or the text between actions.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text,
    Open,
    Close,
    Identifier,
    /// `.Name`.
    Field,
    /// `$name`, or `$`.
    Variable,
    Dot,
    Number,
    /// A quoted string, in its quotes.
    Quoted,
    RawQuoted,
    Char,
    Pipe,
    Declare,
    Assign,
    Comma,
    LeftParen,
    RightParen,
    /// Any other character, which no parser wants.
    Symbol,
    Space,
    End,
}

/// A token and where it begins, in bytes.
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    pub at: usize,
}

/// Why the text is no template, and where.
#[derive(Debug)]
pub struct LexError {
    pub at: usize,
    pub why: String,
}

/// Cuts a whole template.
pub fn lex(text: &str) -> (Vec<Token>, Option<LexError>) {
    let mut tokens = Vec::new();
    let error = run(text, &mut tokens).err();
    tokens.push(Token {
        kind: Kind::End,
        text: String::new(),
        at: text.len(),
    });
    (tokens, error)
}

fn push(tokens: &mut Vec<Token>, kind: Kind, text: &str, at: usize) {
    tokens.push(Token {
        kind,
        text: text.to_string(),
        at,
    });
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn run(text: &str, tokens: &mut Vec<Token>) -> Result<(), LexError> {
    let mut at = 0;
    let mut trim = false;
    loop {
        let rest = &text[at..];
        let open = rest.find("{{");
        let mut piece = &rest[..open.unwrap_or(rest.len())];
        let mut start = at;
        if trim {
            let cut = piece.trim_start_matches(SPACES);
            start += piece.len() - cut.len();
            piece = cut;
        }
        let Some(open) = open else {
            if !piece.is_empty() {
                push(tokens, Kind::Text, piece, start);
            }
            return Ok(());
        };
        let mut inside = at + open + 2;
        let after = &text[inside..];
        let left_trim = after.starts_with('-') && after[1..].starts_with(SPACES);
        if left_trim {
            piece = piece.trim_end_matches(SPACES);
            inside += 1;
        }
        if !piece.is_empty() {
            push(tokens, Kind::Text, piece, start);
        }
        let body = text[inside..].trim_start_matches(if left_trim { &SPACES[..] } else { &[] });
        if body.starts_with("/*") {
            let from = text.len() - body.len();
            let Some(end) = body.find("*/") else {
                return Err(LexError {
                    at: from,
                    why: "unclosed comment".into(),
                });
            };
            let mut close = from + end + 2;
            let tail = &text[close..];
            let trimmed = tail.strip_prefix(SPACES).is_some_and(|t| t.starts_with("-}}"));
            trim = trimmed;
            close += if trimmed { 2 } else { 0 };
            if !text[close..].starts_with("}}") {
                return Err(LexError {
                    at: close,
                    why: "comment ends before closing delimiter".into(),
                });
            }
            at = close + 2;
            continue;
        }
        push(tokens, Kind::Open, "{{", at + open);
        let (next, trimmed) = action(text, inside, tokens)?;
        at = next;
        trim = trimmed;
    }
}

/// Cuts one action; gives where it ends and whether it trims what follows.
fn action(text: &str, mut at: usize, tokens: &mut Vec<Token>) -> Result<(usize, bool), LexError> {
    let mut depth = 0;
    let fail = |at: usize, why: String| Err(LexError { at, why });
    loop {
        let rest = &text[at..];
        let trimmed = rest.starts_with(SPACES) && rest[1..].starts_with("-}}");
        if trimmed || rest.starts_with("}}") {
            if depth > 0 {
                return fail(at, "unclosed left paren".into());
            }
            let length = if trimmed { 4 } else { 2 };
            push(tokens, Kind::Close, "}}", at + length - 2);
            return Ok((at + length, trimmed));
        }
        let Some(c) = rest.chars().next() else {
            return fail(at, "unclosed action".into());
        };
        let next = rest[c.len_utf8()..].chars().next();
        let (kind, length) = match c {
            c if SPACES.contains(&c) => {
                let mut n = rest.len() - rest.trim_start_matches(SPACES).len();
                // A closing marker takes the last space with it.
                if rest[n..].starts_with("-}}") {
                    n -= 1;
                }
                (Kind::Space, n)
            }
            '=' => (Kind::Assign, 1),
            ':' if next == Some('=') => (Kind::Declare, 2),
            ':' => return fail(at, "expected :=".into()),
            '|' => (Kind::Pipe, 1),
            ',' => (Kind::Comma, 1),
            '(' => {
                depth += 1;
                (Kind::LeftParen, 1)
            }
            ')' => {
                if depth == 0 {
                    return fail(at, "unexpected right paren".into());
                }
                depth -= 1;
                (Kind::RightParen, 1)
            }
            '"' => (
                Kind::Quoted,
                quoted(rest, '"').ok_or(LexError {
                    at,
                    why: "unterminated quoted string".into(),
                })?,
            ),
            '\'' => (
                Kind::Char,
                quoted(rest, '\'').ok_or(LexError {
                    at,
                    why: "unterminated character constant".into(),
                })?,
            ),
            '`' => match rest[1..].find('`') {
                Some(end) => (Kind::RawQuoted, end + 2),
                None => return fail(at, "unterminated raw quoted string".into()),
            },
            '.' if !next.is_some_and(|c| c.is_ascii_digit()) => {
                let n = 1 + word(&rest[1..]);
                (if n == 1 { Kind::Dot } else { Kind::Field }, n)
            }
            '$' => (Kind::Variable, 1 + word(&rest[1..])),
            c if c.is_alphanumeric() && !c.is_ascii_digit() || c == '_' => (Kind::Identifier, word(rest)),
            c if c.is_ascii_digit() || "+-.".contains(c) => {
                let n = number(rest);
                if rest[n..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                    let n = n + word(&rest[n..]);
                    return fail(at, format!("bad number syntax: {}", api::quote::quote(&rest[..n])));
                }
                (Kind::Number, n)
            }
            c if c.is_ascii_graphic() => (Kind::Symbol, 1),
            c => {
                return fail(
                    at,
                    format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c)),
                );
            }
        };
        let end = at + length;
        if matches!(kind, Kind::Field | Kind::Variable | Kind::Identifier)
            && let Some(c) = text[end..].chars().next()
            && !(SPACES.contains(&c) || ".,|:=()".contains(c) || text[end..].starts_with("}}"))
        {
            return fail(end, format!("bad character U+{:04X} '{c}'", u32::from(c)));
        }
        push(tokens, kind, &rest[..length], at);
        at = end;
    }
}

/// The length of a name.
fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// The length of a quoted text with its quotes.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(i + 1),
            _ => {}
        }
    }
    None
}

fn number(text: &str) -> usize {
    let sign = usize::from(text.starts_with(['+', '-']));
    let rest = &text[sign..];
    if rest.len() > 1 && rest.starts_with('0') && rest[1..].starts_with(['x', 'X', 'o', 'O', 'b', 'B']) {
        return sign
            + 2
            + rest[2..]
                .find(|c: char| !c.is_ascii_hexdigit() && c != '_')
                .unwrap_or(rest.len() - 2);
    }
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit() && c != '_')
            .unwrap_or(text.len())
    };
    let mut n = digits(rest);
    if rest[n..].starts_with('.') {
        n += 1;
        n += digits(&rest[n..]);
    }
    if rest[n..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[n + 1..].starts_with(['+', '-']));
        let exponent = digits(&rest[n + 1 + sign..]);
        if exponent > 0 {
            n += 1 + sign + exponent;
        }
    }
    sign + n
}
