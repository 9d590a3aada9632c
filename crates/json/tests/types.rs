//! What types are read from and written as: Go's rules, and serde's words where errors are shown to people.

use json::{Deserialize, Ignored, Raw, Serialize, from_slice, from_str, to_string};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize, Serialize, Default, Debug, PartialEq)]
#[serde(rename_all = "PascalCase", default)]
struct Filled {
    memory: i64,
    #[serde(rename = "CPUs", alias = "cores")]
    cpus: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    labels: BTreeMap<String, String>,
    inner: Option<Box<Filled>>,
    #[serde(skip)]
    own: bool,
}

#[derive(Deserialize, Serialize, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Made {
    media_type: String,
    r#type: Option<u64>,
    #[serde(default)]
    pair: Option<(String, bool)>,
    #[serde(default)]
    rest: Value,
}

#[derive(Deserialize, Serialize, Debug, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Choice {
    Nothing,
    JsonFile { max_size: u64, path: Option<String> },
}

#[derive(Deserialize, Serialize, Debug, PartialEq)]
struct Name(String);

#[test]
fn names_match_in_any_case_and_the_later_counts() {
    let read: Filled = from_str(r#"{"MEMORY":1,"memory":2,"Cores":3,"cpus":4,"?":{"a":[1,{}]},"Own":true}"#).unwrap();
    assert_eq!((read.memory, read.cpus, read.own), (2, 4, false));
    // The exact name is looked for first, so that fields that differ in case only are told apart.
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Twins {
        id: u8,
        #[serde(rename = "ID")]
        upper: u8,
    }
    let read: Twins = from_str(r#"{"ID":1,"id":2}"#).unwrap();
    assert_eq!((read.id, read.upper), (2, 1));
}

#[test]
fn null_leaves_a_field_as_it_is() {
    let read: Filled = from_str(r#"{"Memory":null,"Labels":null,"Env":null,"Inner":null}"#).unwrap();
    assert_eq!(read, Filled::default());
    assert_eq!(from_str::<Filled>("null").unwrap(), Filled::default());
    assert_eq!(
        from_str::<Filled>(r#"{"Inner":{"Inner":null}}"#).unwrap().inner,
        Some(Box::default())
    );
    assert_eq!(
        from_str::<Made>(r#"{"mediaType":null}"#).unwrap_err().to_string(),
        "missing field `mediaType`"
    );
    assert_eq!(from_str::<Vec<Option<u8>>>("[1,null]").unwrap(), [Some(1), None]);
}

#[test]
fn what_is_written_is_read_back() {
    let made = Made {
        media_type: "a \"b\" \\ \n\u{1}\u{7f}é🦀".into(),
        r#type: Some(u64::MAX),
        pair: Some(("x".into(), true)),
        rest: json!({"a": [1, -1, 0.5, "x", null, {}], "b": []}),
    };
    let text = to_string(&made);
    assert_eq!(
        text,
        r#"{"mediaType":"a \"b\" \\ \n\u0001é🦀","type":18446744073709551615,"pair":["x",true],"rest":{"a":[1,-1,0.5,"x",null,{}],"b":[]}}"#
            .replace("\\u0001é", "\\u0001\u{7f}é")
    );
    assert_eq!(from_str::<Made>(&text).unwrap(), made);
    let filled = Filled {
        memory: i64::MIN,
        labels: [("a".to_string(), "b".to_string())].into(),
        own: true,
        ..Filled::default()
    };
    let text = to_string(&filled);
    assert_eq!(
        text,
        r#"{"Memory":-9223372036854775808,"CPUs":0,"Labels":{"a":"b"},"Inner":null}"#
    );
    let read: Filled = from_str(&text).unwrap();
    assert_eq!(read, Filled { own: false, ..filled });
    assert_eq!(from_str::<Name>(&to_string(&Name("x".into()))).unwrap().0, "x");
    assert_eq!(to_string(&[f64::NAN, 0.1, 1e21, -0.0]), "[null,0.1,1e+21,-0.0]");
}

#[test]
fn enums_are_tagged_from_outside() {
    let choice = Choice::JsonFile {
        max_size: 1,
        path: None,
    };
    assert_eq!(to_string(&choice), r#"{"json-file":{"max_size":1,"path":null}}"#);
    assert_eq!(from_str::<Choice>(&to_string(&choice)).unwrap(), choice);
    assert_eq!(from_str::<Choice>(r#"{"json-file":{"max_size":1}}"#).unwrap(), choice);
    assert_eq!(to_string(&Choice::Nothing), r#""nothing""#);
    assert_eq!(from_str::<Choice>(r#""nothing""#).unwrap(), Choice::Nothing);
    assert_eq!(from_str::<Choice>(r#"{"nothing":null}"#).unwrap(), Choice::Nothing);
    for bad in [
        r#""json-file""#,
        r#""other""#,
        r#"{"nothing":1}"#,
        r#"{"json-file":{"max_size":1},"nothing":null}"#,
        r#"{"json-file":[1]}"#,
        "{}",
        "1",
    ] {
        assert!(from_str::<Choice>(bad).is_err(), "{bad}");
    }
}

#[test]
fn errors_say_what_was_found_and_what_was_wanted() {
    let why = |text: &str| from_str::<Filled>(text).unwrap_err().to_string();
    assert_eq!(why("[]"), "json: cannot unmarshal array into Go value of type Filled");
    assert_eq!(
        why(r#"{"Inner":"x"}"#),
        "json: cannot unmarshal string into Go value of type Filled"
    );
    assert_eq!(why(r#"{"Memory":"5"}"#), "invalid type: string, expected i64");
    assert_eq!(
        why(r#"{"Memory":5.0}"#),
        "invalid type: floating point `5.0`, expected i64"
    );
    assert_eq!(why(r#"{"CPUs":256}"#), "invalid value: integer `256`, expected u8");
    assert_eq!(why(r#"{"CPUs":-1}"#), "invalid value: integer `-1`, expected u8");
    assert_eq!(
        why(r#"{"Memory":9223372036854775808}"#),
        "invalid value: integer `9223372036854775808`, expected i64"
    );
    assert_eq!(why(r#"{"Labels":{"a":1}}"#), "invalid type: number, expected a string");
    assert_eq!(why(""), "EOF while parsing a value at line 1 column 0");
    assert_eq!(why("{\n \"a\" 1}"), "expected `:` at line 2 column 6");
    assert_eq!(why("{} x"), "trailing characters at line 1 column 4");
    assert_eq!(why("<html>"), "expected value at line 1 column 1");
    assert!(from_str::<(u8, u8)>("[1]").is_err() && from_str::<(u8, u8)>("[1,2,3]").is_err());
    assert!(from_str::<[u8; 2]>("[1]").is_err() && from_str::<[u8; 2]>("[1,2]").is_ok());
}

#[test]
fn raw_values_stay_as_they_are() {
    let text = r#"[ {"b" : 1.50, "a":"\u0041"} ,null]"#;
    let list: Vec<Raw> = from_str(text).unwrap();
    assert_eq!(list[0].get(), r#"{"b" : 1.50, "a":"\u0041"}"#);
    assert_eq!(to_string(&list), r#"[{"b" : 1.50, "a":"\u0041"},null]"#);
    assert!(from_str::<Ignored>(r#"{"a":[{}]}"#).is_ok());
    assert!(from_str::<Ignored>(r#"{"a":[{]}"#).is_err());
}

#[test]
fn people_get_a_member_on_each_line() {
    for value in [
        json!({"a": [1, {}, [], {"b": "x: [\"{,\\"}], "c": null}),
        json!([]),
        json!({}),
        json!("é"),
    ] {
        let pretty = json::pretty(&to_string(&value), "  ");
        assert_eq!(pretty, serde_json::to_string_pretty(&value).unwrap());
    }
}

#[test]
fn depth_is_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deepest = usize::from(json::DEPTH);
    for levels in [1, deepest] {
        assert!(from_str::<Value>(&deep(levels)).is_ok());
        assert!(from_str::<Ignored>(&deep(levels)).is_ok());
    }
    for levels in [deepest + 1, 1_000_000] {
        assert!(from_str::<Value>(&deep(levels)).is_err());
        let objects = r#"{"a":"#.repeat(levels);
        assert!(
            from_str::<Filled>(&objects)
                .unwrap_err()
                .to_string()
                .contains("recursion limit")
        );
    }
    // What was read is wrapped, and is a value again.
    let value: Value = from_str(&deep(deepest)).unwrap();
    assert_eq!(json::to_value(&[&value]), json!([value]));
    assert!(from_slice::<Value>(b"\"\xff\"").is_err());
}

/// What is read deepest fits on the stacks that documents are read on: the smallest has 512 KiB.
#[test]
fn the_deepest_document_needs_little_stack() {
    let levels = usize::from(json::DEPTH);
    let lists = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let read = move || {
        for text in [&lists, &objects] {
            let value: Value = from_str(text).unwrap();
            assert_eq!(&to_string(&value), text);
            from_str::<Ignored>(text).unwrap();
        }
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(read).unwrap();
    thread.join().unwrap();
}
