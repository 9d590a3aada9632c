//! JSON as Go's decoder reads it: field names match in any case, `null` is the zero value, unknown is ignored.
//!
//! Docker's clients rely on all three. The parsed document is held as a value of bounded size first (the body's
//! limit bounds it), then read into types through a deserializer that folds the case of struct fields and leaves
//! out nulls, so that `#[serde(default)]` supplies the zero.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Error, Value};

/// Reads a whole document.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let value: Value = serde_json::from_slice(bytes)?;
    T::deserialize(Go(value))
}

/// Reads a document that was parsed before.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Go(value))
}

/// Reads a string, or a list of strings: `Cmd` and `Entrypoint` may be either.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Option<Vec<String>>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a list of strings")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.into()]))
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
            Ok(Some(list))
        }
    }
    deserializer.deserialize_any(Either)
}

/// Reads `null` as the zero value.
pub fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Says whether a value is its type's zero, for fields that Go marks `omitempty`.
pub fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An empty object, the value of Docker's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}

struct Go(Value);

impl<'de> IntoDeserializer<'de, Error> for Go {
    type Deserializer = Go;
    fn into_deserializer(self) -> Go {
        self
    }
}

impl<'de> Deserializer<'de> for Go {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Go))),
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(
                map.into_iter().map(|(key, value)| (key, Go(value))),
            )),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Go(value)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => {
                visitor.visit_map(MapDeserializer::new(map.into_iter().filter_map(|(key, value)| {
                    if value.is_null() {
                        return None;
                    }
                    // The exact name wins the cheap way; Go falls back to folding the case.
                    let known = fields
                        .iter()
                        .find(|f| **f == key)
                        .or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(&key)));
                    known.map(|field| (*field, Go(value)))
                })))
            }
            Value::Null => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, Go)>())),
            other => Err(de::Error::custom(format_args!(
                "json: cannot unmarshal {} into Go value of type {name}",
                kind(&other)
            ))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

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
