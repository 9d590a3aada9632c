//! `WWW-Authenticate` challenges (RFC 9110 section 11.6.1), read leniently: registries write odd ones.

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case.
    pub scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The parameter of that (lower case) name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Parses the value of one header; it may hold several challenges.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let (word, after) = split_token(rest);
        if word.is_empty() {
            // Not a token: skip a character rather than give up on what follows.
            let mut chars = rest.chars();
            if chars.next().is_none() {
                return challenges;
            }
            rest = chars.as_str();
            continue;
        }
        let trimmed = after.trim_start();
        match (trimmed.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = split_value(value.trim_start());
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(value), None) => rest = split_value(value.trim_start()).1,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
        }
    }
}

/// A token of RFC 9110 section 5.6.2, and what follows.
fn split_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A quoted string without its quotes, or everything up to a comma or space.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub() {
        let found = parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull,push",error="insufficient_scope""#,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].parameter("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(
            found[0].parameter("scope"),
            Some("repository:library/busybox:pull,push")
        );
        assert_eq!(found[0].parameter("error"), Some("insufficient_scope"));
    }

    #[test]
    fn odd_ones() {
        let found = parse(r#"BASIC Realm = "a \"b\", c" , bearer realm=https://x/t , service=s"#);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].parameter("realm"), Some("a \"b\", c"));
        assert_eq!(found[1].parameter("realm"), Some("https://x/t"));
        assert_eq!(found[1].parameter("service"), Some("s"));
        assert_eq!(parse("Negotiate")[0].scheme, "negotiate");
        for nothing in ["", " , ", "=", "\"\"\"", "a=b", "é=\""] {
            assert!(parse(nothing).iter().all(|c| c.parameters.is_empty()), "{nothing}");
        }
        assert_eq!(
            parse("Bearer realm=\"unterminated")[0].parameter("realm"),
            Some("unterminated")
        );
    }
}
