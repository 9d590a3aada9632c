//! Documents of any shape: what serde_json makes of one, our reader makes of it too.

use super::Target;
use serde_json::Value;

pub const TARGET: Target = Target {
    name: "json",
    run: json,
    seeds,
};

fn json(bytes: &[u8]) {
    let (ours, theirs) = (json::from_slice::<Value>(bytes), serde_json::from_slice::<Value>(bytes));
    let skipped = json::from_slice::<json::Ignored>(bytes);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert!(alike(&ours, &theirs), "{ours} but {theirs}");
            assert!(skipped.is_ok());
            // A float is written so that it is read as the same.
            assert_eq!(json::to_value(&ours), ours);
            assert_eq!(json::to_string(&ours), serde_json::to_string(&ours).unwrap());
        }
        (Err(error), Err(_)) => drop(error.to_string()),
        // The largest float, too, is rounded in a hurry.
        (Err(error), Ok(_)) if error.to_string() == "number out of range" => {}
        (Ok(_), Err(error)) if error.to_string().starts_with("number out of range") => {}
        (ours, theirs) => panic!("{ours:?} but {theirs:?}"),
    }
}

/// Equal, but for the last bit of floats, which serde_json rounds in a hurry.
fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| alike(ours, theirs))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            let mut both = ours.iter().zip(theirs);
            ours.len() == theirs.len() && both.all(|(ours, theirs)| ours.0 == theirs.0 && alike(ours.1, theirs.1))
        }
        (Value::Number(ours), Value::Number(theirs)) if ours.is_f64() && theirs.is_f64() => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            (ours - theirs).abs() <= ours.abs() * 1e-9
        }
        _ => ours == theirs,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        r#" {"a":[1,-2,0.5,1e3,true,false,null,"x"],"b":{},"c":[]} "#,
        r#""\"\\\/\b\f\n\r\t\u00e9\ud83e\udd80é""#,
        r#"[18446744073709551615,-9223372036854775808,18446744073709551616,-0]"#,
        r#"[[[[[[[[{"a":{"a":{"a":{}}}}]]]]]]]]"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
