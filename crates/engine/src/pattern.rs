//! Shell patterns as Go's `path.Match` has them: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]` are one character, `\`
//! takes the next one as it is. Matching is linear in the product of the lengths.

use crate::error::{Error, Result};

/// A pattern that is well formed.
pub struct Pattern(Vec<Token>);

enum Token {
    /// Characters, as many as there are, but no slash.
    Star,
    /// One that is no slash.
    Any,
    One(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Reads a pattern; what is wrong with one is told in Go's words.
    pub fn parse(text: &str) -> Result<Pattern> {
        let wrong = || Error::invalid("syntax error in pattern");
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::One(rest.next().ok_or_else(wrong)?),
                '[' => {
                    let negated = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                        let low = in_class(&mut rest).ok_or_else(wrong)?;
                        let high = match rest.next_if_eq(&'-') {
                            Some(_) => in_class(&mut rest).ok_or_else(wrong)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Token::Class { negated, ranges }
                }
                c => Token::One(c),
            });
        }
        Ok(Pattern(tokens))
    }

    /// Says if all of a text matches.
    pub fn matches(&self, text: &str) -> bool {
        let tokens = &self.0;
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        // The last star, and where what it does not take begins.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match tokens.get(p) {
                Some(Token::Star) => {
                    star = Some((p, t));
                    p += 1;
                    continue;
                }
                Some(token) if token.takes(text[t]) => {
                    (p, t) = (p + 1, t + 1);
                    continue;
                }
                _ => {}
            }
            match star {
                Some((at, from)) if text[from] != '/' => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                _ => return false,
            }
        }
        tokens[p..].iter().all(|token| matches!(token, Token::Star))
    }
}

impl Token {
    fn takes(&self, one: char) -> bool {
        match self {
            Token::Star => false,
            Token::Any => one != '/',
            Token::One(c) => *c == one,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&one)) != *negated
            }
        }
    }
}

/// One end of a range in a class.
fn in_class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_matches() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "x", false),
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "a/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            (r"[\]a]", "]", true),
            (r"[\-x]", "-", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("a[", "a", false),
        ] {
            if let Ok(parsed) = Pattern::parse(pattern) {
                assert_eq!(parsed.matches(text), expected, "{pattern} {text}");
            }
        }
        for wrong in [
            "[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "[^bc", "a[", "a\\", "[\\",
        ] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
        let many = Pattern::parse(&"*a".repeat(30)).unwrap();
        assert!(!many.matches(&"b".repeat(10_000)));
    }
}
