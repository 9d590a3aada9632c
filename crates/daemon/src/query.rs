//! Query strings: `a=1&b=x%20y`, decoded; a name's first value counts, but all can be had.

use engine::error::{Error, Result};
use std::collections::BTreeMap;

/// A parsed query.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, Vec<String>>);

/// Filters as Docker sends them: names, each with the values that any may match.
pub type Filters = BTreeMap<String, Vec<String>>;

impl Query {
    /// Parses a query string without its `?`.
    pub fn parse(text: &str) -> Query {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(name, true)).or_default().push(decode(value, true));
        }
        Query(map)
    }

    /// A value, if the name occurs.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.first()).map(String::as_str)
    }

    /// A value, or the empty text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Docker's boolean: absent, empty, `0`, `no`, `false`, `none` are false, anything else is true.
    pub fn flag(&self, name: &str) -> bool {
        !matches!(
            self.text(name).trim().to_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// A number; absent is `None`, anything else is an error.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Error::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))),
        }
    }

    /// `filters`: a JSON object of lists, or, from old clients, of objects whose keys are the values.
    pub fn filters(&self, known: &[&str]) -> Result<Filters> {
        let text = self.text("filters");
        if text.is_empty() {
            return Ok(Filters::new());
        }
        let bad = || Error::invalid(format!("invalid filter '{text}'"));
        let value: serde_json::Value = json::from_str(text).map_err(|_| bad())?;
        let mut filters = Filters::new();
        for (name, values) in value.as_object().ok_or_else(bad)? {
            let list = match values {
                serde_json::Value::Array(list) => list
                    .iter()
                    .map(|v| v.as_str().map(str::to_string).ok_or_else(bad))
                    .collect::<Result<_>>()?,
                serde_json::Value::Object(map) => map
                    .iter()
                    .filter(|(_, on)| on.as_bool() == Some(true))
                    .map(|(key, _)| key.clone())
                    .collect(),
                _ => return Err(bad()),
            };
            if !known.contains(&name.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{name}'")));
            }
            filters.insert(name.clone(), list);
        }
        Ok(filters)
    }
}

/// Undoes percent encoding; `plus` says whether `+` is a space. What is not valid UTF-8 is replaced.
pub fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |b: u8| char::from(b).to_digit(16);
        match bytes[at] {
            b'%' if at + 2 < bytes.len() && hex(bytes[at + 1]).is_some() && hex(bytes[at + 2]).is_some() => {
                let value = hex(bytes[at + 1]).unwrap_or(0) * 16 + hex(bytes[at + 2]).unwrap_or(0);
                out.push(u8::try_from(value).unwrap_or(b'?'));
                at += 3;
                continue;
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let query = Query::parse("all=1&name=a%20b+c&t=x&t=y&flag&bad=%zz&end=%4");
        assert_eq!(query.text("name"), "a b c");
        assert_eq!(query.all("t"), ["x", "y"]);
        assert!(query.flag("all") && !query.flag("flag") && !query.flag("none"));
        assert_eq!((query.text("bad"), query.text("end")), ("%zz", "%4"));
        assert!(query.number("name").is_err());
    }

    #[test]
    fn filters_in_both_shapes() {
        for text in [
            r#"{"label":["a=1","b"]}"#,
            r#"{"label":{"a=1":true,"b":true,"c":false}}"#,
        ] {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            let filters = Query::parse(&format!("filters={encoded}")).filters(&["label"]).unwrap();
            assert_eq!(filters["label"], ["a=1", "b"]);
        }
        for bad in [
            "filters=x",
            "filters=[]",
            r#"filters={"nope":["x"]}"#,
            r#"filters={"label":[1]}"#,
        ] {
            assert!(Query::parse(bad).filters(&["label"]).is_err(), "{bad}");
        }
    }
}
