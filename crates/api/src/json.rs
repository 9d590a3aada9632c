//! What Docker's JSON has beyond what crate `json` reads by itself.

use json::{Deserialize, Reader, Result};

/// Reads a string, or a list of strings: `Cmd` and `Entrypoint` may be either.
pub fn one_or_many(field: &mut Option<Vec<String>>, reader: &mut Reader<'_>) -> Result<()> {
    *field = match reader.peek() {
        b'"' => Some(vec![String::read(reader)?]),
        b'[' => Some(Vec::read(reader)?),
        _ => return Err(reader.unexpected("a string or a list of strings")),
    };
    Ok(())
}

/// Says whether a value is its type's zero, for fields that Go marks `omitempty`.
pub fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An empty object, the value of Docker's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, json::Serialize, json::Deserialize)]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;
    use json::from_slice;

    #[derive(Deserialize, Default, Debug, PartialEq)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        memory: i64,
    }

    #[derive(Deserialize, Default, Debug, PartialEq)]
    #[serde(default, rename_all = "PascalCase")]
    struct Outer {
        image: String,
        #[serde(deserialize_with = "one_or_many")]
        cmd: Option<Vec<String>>,
        host_config: Option<Inner>,
        env: Option<Vec<String>>,
    }

    #[test]
    fn reads_as_go_does() {
        let outer: Outer =
            from_slice(br#"{"IMAGE":"a","cmd":"sh","hostconfig":{"MEMORY":5,"x":null},"Env":null,"?":[1]}"#).unwrap();
        assert_eq!(outer.image, "a");
        assert_eq!(outer.cmd, Some(vec!["sh".into()]));
        assert_eq!(outer.host_config, Some(Inner { memory: 5 }));
        assert_eq!(outer.env, None);
        assert_eq!(from_slice::<Outer>(b"null").unwrap(), Outer::default());
    }

    #[test]
    fn wrong_types_are_errors() {
        for bad in [
            &br#"{"Image":5}"#[..],
            br#"{"HostConfig":"x"}"#,
            b"[]",
            b"",
            b"{",
            br#"{"Cmd":{"a":1}}"#,
        ] {
            assert!(from_slice::<Outer>(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(from_slice::<Outer>(deep.as_bytes()).is_err());
    }
}
