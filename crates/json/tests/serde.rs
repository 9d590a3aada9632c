//! Whatever serde_json makes of a document, this crate makes of it too.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // serde_json reads decimals to the last bit only when it is asked to; quarters are exact.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
        ".{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Whether two values are one, but for the last bit of decimals, which serde_json reads exactly only when it is asked to.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let there = |(name, one): (&String, &Value)| other.get(name).is_some_and(|other| alike(one, other));
            one.len() == other.len() && one.iter().all(there)
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else {
                return false;
            };
            one == other || (one - other).abs() <= (other.abs() * f64::EPSILON).max(f64::MIN_POSITIVE)
        }
        _ => one == other,
    }
}

fn same(text: &[u8]) {
    let (ours, theirs) = (json::from_slice::<Value>(text), serde_json::from_slice::<Value>(text));
    let shown = String::from_utf8_lossy(text);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => assert!(alike(&ours, &theirs), "{shown}: {ours:?} but {theirs:?}"),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{shown}: {ours:?} but {theirs:?}"),
    }
    let skipped = json::from_slice::<json::Ignored>(text).is_ok();
    // What is skipped is checked, but for how large its numbers are.
    assert!(skipped || serde_json::from_slice::<Value>(text).is_err(), "{shown}");
}

proptest! {
    #[test]
    fn values_are_written_and_read_alike(value in values()) {
        let text = json::to_string(&value);
        prop_assert_eq!(&text, &serde_json::to_string(&value).unwrap());
        prop_assert_eq!(json::to_value(&value), value.clone());
        same(text.as_bytes());
        same(serde_json::to_string_pretty(&value).unwrap().as_bytes());
        let pretty = json::pretty(&text, "  ");
        prop_assert_eq!(pretty, serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn damage_is_found_alike(value in values(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut text = json::to_vec(&value);
        let at = at.index(text.len());
        match cut {
            true => text.truncate(at),
            false => text[at] = byte,
        }
        same(&text);
    }

    #[test]
    fn soup_of_tokens(tokens in vec(prop::sample::select(TOKENS), 0..12)) {
        same(tokens.concat().as_bytes());
    }
}

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\"",
    "\"",
    "\\",
    "\\u00e9",
    "\\ud83e\\udd80",
    "\\ud83e",
    "\\udd80",
    "\\n",
    "\\x",
    "0",
    "1",
    "-",
    "-0",
    "+",
    ".",
    "0.5",
    "1e3",
    "E",
    "1e999",
    "01",
    "true",
    "false",
    "null",
    "nul",
    " ",
    "\n",
    "\t",
    "\u{b}",
    "\0",
    "é",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "x",
];
