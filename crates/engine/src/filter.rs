//! Values of a listing's filters: names by regular expression, yes or no.
//!
//! Docker takes Go's RE2 for names; regex-lite's language is the same but for Unicode classes, and neither backtracks.

use crate::error::{Error, Result};
use regex_lite::RegexBuilder;
use std::collections::BTreeMap;

/// Largest program of an expression, bytes: `a{1000}{1000}` of a client is refused and fits nothing.
const PROGRAM: usize = 256 << 10;

/// The filters of a request, by name.
pub type Filters = BTreeMap<String, Vec<String>>;

/// Whether one of a filter's expressions is found in one of the names; so is every name without that filter. What is no
/// expression fits only itself, as in Docker.
pub fn any_name(filters: &Filters, filter: &str, names: &[&str]) -> bool {
    let fits = |pattern: &String| {
        names.contains(&pattern.as_str())
            || RegexBuilder::new(pattern)
                .size_limit(PROGRAM)
                .build()
                .is_ok_and(|expression| names.iter().any(|name| expression.is_match(name)))
    };
    filters.get(filter).is_none_or(|patterns| patterns.iter().any(fits))
}

/// A filter that is yes or no; `None` if it is not there.
pub fn flag(filters: &Filters, filter: &str) -> Result<Option<bool>> {
    let Some(values) = filters.get(filter).filter(|values| !values.is_empty()) else {
        return Ok(None);
    };
    let read = |value: &String| match value.as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    let first = read(&values[0]);
    match first.filter(|first| values.iter().all(|value| read(value) == Some(*first))) {
        Some(first) => Ok(Some(first)),
        None => Err(Error::invalid(format!(
            "invalid filter '{filter}=[{}]'",
            values.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filter: &str, values: &[&str]) -> Filters {
        let values = values.iter().map(|value| value.to_string()).collect();
        Filters::from([(filter.to_string(), values)])
    }

    #[test]
    fn names() {
        for (pattern, fits) in [
            ("eb", true),
            ("^/web-1$", true),
            ("^web-1$", true),
            ("^web-[0-9]+$", true),
            ("db|web", true),
            ("^eb", false),
            ("web2", false),
            ("web-1[", false),
            ("(a{1000}){1000}", false),
        ] {
            assert_eq!(
                any_name(&of("name", &[pattern]), "name", &["/web-1", "web-1"]),
                fits,
                "{pattern}"
            );
        }
        assert!(any_name(&Filters::new(), "name", &["x"]));
        assert!(any_name(&of("name", &["no", "x["]), "name", &["x["]));
    }

    #[test]
    fn flags() {
        assert_eq!(flag(&Filters::new(), "dangling").unwrap(), None);
        assert_eq!(flag(&of("dangling", &["1"]), "dangling").unwrap(), Some(true));
        assert_eq!(flag(&of("dangling", &["0", "false"]), "dangling").unwrap(), Some(false));
        for bad in [&["maybe"][..], &["1", "0"], &[""]] {
            assert!(flag(&of("dangling", bad), "dangling").is_err(), "{bad:?}");
        }
    }
}
