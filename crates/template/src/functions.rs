//! Functions that templates can call: Go's own and those that Docker adds.

use super::format;
use super::value::Value;
use std::cmp::Ordering;

/// Names of all; `and` and `or` stop early and are called by the executor itself.
const NAMES: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// Says whether there is a function of this name.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

type Result = std::result::Result<Value, String>;

/// How many arguments a function takes: at least, at most.
fn arity(name: &str) -> (usize, usize) {
    match name {
        "not" | "len" | "json" | "title" | "lower" | "upper" => (1, 1),
        "split" | "join" | "truncate" | "ne" | "lt" | "le" | "gt" | "ge" => (2, 2),
        "pad" => (3, 3),
        "index" | "slice" | "eq" | "printf" | "call" | "and" | "or" => (1, usize::MAX),
        _ => (0, usize::MAX),
    }
}

/// Calls a function; the error has Go's words, without the place. `header` makes the functions that Docker uses
/// for the head of a table, which leave titles as they are.
pub fn call(name: &str, args: &[Value], header: bool) -> Result {
    let (least, most) = arity(name);
    if args.len() < least || args.len() > most {
        let want = if most == usize::MAX {
            format!("at least {least}")
        } else {
            least.to_string()
        };
        return Err(format!(
            "wrong number of args for {name}: want {want} got {}",
            args.len()
        ));
    }
    if header && matches!(name, "json" | "title" | "lower" | "upper" | "truncate") {
        return Ok(args[0].clone());
    }
    let calling = |why: String| format!("error calling {name}: {why}");
    match name {
        "json" => Ok(Value::str(args[0].to_json())),
        "split" => {
            let (text, by) = (string(name, &args[0])?, string(name, &args[1])?);
            let parts: Vec<String> = if by.is_empty() {
                text.chars().map(String::from).collect()
            } else {
                text.split(&by).map(str::to_string).collect()
            };
            Ok(Value::strings(parts))
        }
        "join" => {
            let by = string(name, &args[1])?;
            match args[0].pointee() {
                Value::List(inner, items) if **inner == super::types::Type::String => {
                    let items = items.iter().flat_map(|items| items.iter());
                    Ok(Value::str(items.map(format::plain).collect::<Vec<_>>().join(&by)))
                }
                other => Err(wrong_type("[]string", other)),
            }
        }
        "title" => Ok(Value::str(title(&string(name, &args[0])?))),
        "lower" => Ok(Value::str(string(name, &args[0])?.to_lowercase())),
        "upper" => Ok(Value::str(string(name, &args[0])?.to_uppercase())),
        "pad" => {
            let text = string(name, &args[0])?;
            let space = |value: &Value| int(value).map(|n| " ".repeat(usize::try_from(n).unwrap_or(0).min(10_000)));
            if text.is_empty() {
                return Ok(Value::str(text));
            }
            Ok(Value::str(format!("{}{text}{}", space(&args[1])?, space(&args[2])?)))
        }
        "truncate" => {
            let text = string(name, &args[0])?;
            let length = usize::try_from(int(&args[1])?).unwrap_or(0);
            Ok(Value::str(text.chars().take(length).collect::<String>()))
        }
        "not" => Ok(Value::Bool(!args[0].truth())),
        "len" => length(&args[0]).map(Value::Int).map_err(calling),
        "index" => index(&args[0], &args[1..]).map_err(calling),
        "slice" => slice(&args[0], &args[1..]).map_err(calling),
        "print" => Ok(Value::str(format::print(args))),
        "println" => Ok(Value::str(format::println(args))),
        "printf" => Ok(Value::str(format::printf(&string(name, &args[0])?, &args[1..]))),
        "html" => Ok(Value::str(html(&joined(args)))),
        "js" => Ok(Value::str(js(&joined(args)))),
        "urlquery" => Ok(Value::str(api::client::escape(&joined(args), b" ").replace(' ', "+"))),
        "call" => Err(calling(format!(
            "non-function {} of type {}",
            "<value>",
            args[0].type_name()
        ))),
        "eq" => {
            let first = &args[0];
            if args.len() == 1 {
                return Err(calling("missing argument for comparison".into()));
            }
            for other in &args[1..] {
                if equal(first, other).map_err(calling)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "ne" => equal(&args[0], &args[1])
            .map(|same| Value::Bool(!same))
            .map_err(calling),
        "lt" | "le" | "gt" | "ge" => {
            let order = order(&args[0], &args[1]).map_err(calling)?;
            Ok(Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }))
        }
        _ => Err(format!("{name} is not a defined function")),
    }
}

fn wrong_type(want: &str, got: &Value) -> String {
    match got {
        Value::Nil => format!("invalid value; expected {want}"),
        got => format!("wrong type for value; expected {want}; got {}", got.type_name()),
    }
}

fn string(_function: &str, value: &Value) -> std::result::Result<String, String> {
    match value {
        Value::Str(text) => Ok(text.to_string()),
        other => Err(wrong_type("string", other)),
    }
}

fn int(value: &Value) -> std::result::Result<i64, String> {
    match value {
        Value::Int(n) => Ok(*n),
        other => Err(wrong_type("int", other)),
    }
}

/// What `html`, `js` and `urlquery` work on.
fn joined(args: &[Value]) -> String {
    let args: Vec<Value> = args.iter().map(|value| value.pointee().clone()).collect();
    match args.as_slice() {
        [Value::Str(text)] => text.to_string(),
        args => format::print(args),
    }
}

/// Go's `strings.Title`: the first letter of every word.
fn title(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .map(|c| {
            let start = !(before.is_alphanumeric() || before == '_' || before == '\'');
            before = c;
            if start { c.to_uppercase().next().unwrap_or(c) } else { c }
        })
        .collect()
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn length(value: &Value) -> std::result::Result<i64, String> {
    let length = match value.pointee() {
        Value::Str(text) | Value::Number(text) => text.len(),
        Value::List(_, items) => items.as_ref().map_or(0, |items| items.len()),
        Value::Map(_, items) => items.as_ref().map_or(0, |items| items.len()),
        Value::Nil => return Err("len of nil pointer".into()),
        Value::Pointer(_, None) => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

/// A number that picks from `length` things.
fn position(value: &Value, length: usize, end_too: bool) -> std::result::Result<usize, String> {
    let n = match value {
        Value::Int(n) | Value::Duration(n) => *n,
        Value::Uint(n) => i64::try_from(*n).unwrap_or(i64::MAX),
        Value::Nil => return Err("cannot index slice/array with nil".into()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    match usize::try_from(n) {
        Ok(at) if at < length || (end_too && at == length) => Ok(at),
        _ => Err(format!("index out of range: {n}")),
    }
}

fn index(item: &Value, keys: &[Value]) -> Result {
    let mut item = item.pointee().clone();
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".into());
    }
    for key in keys {
        let next = match item.pointee() {
            Value::List(_, items) => {
                let items = items.as_ref().map(|items| items.as_slice()).unwrap_or_default();
                items[position(key, items.len(), false)?].clone()
            }
            Value::Str(text) => Value::Uint(u64::from(text.as_bytes()[position(key, text.len(), false)?])),
            Value::Map(inner, items) => match key {
                Value::Str(key) => items
                    .as_ref()
                    .and_then(|map| map.get(&**key))
                    .cloned()
                    .unwrap_or_else(|| inner.zero()),
                Value::Nil => return Err("value is nil; should be string".into()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Value::Nil | Value::Pointer(_, None) => return Err("index of nil pointer".into()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
        item = next;
    }
    Ok(item)
}

fn slice(item: &Value, keys: &[Value]) -> Result {
    if keys.len() > 3 {
        return Err(format!("too many slice indexes: {}", keys.len()));
    }
    let bounds = |length: usize| -> std::result::Result<(usize, usize), String> {
        let from = keys.first().map_or(Ok(0), |key| position(key, length, true))?;
        let to = keys.get(1).map_or(Ok(length), |key| position(key, length, true))?;
        if from > to {
            Err(format!("invalid slice index: {from} > {to}"))
        } else {
            Ok((from, to))
        }
    };
    match item.pointee() {
        Value::Str(text) => {
            let (from, to) = bounds(text.len())?;
            Ok(Value::str(String::from_utf8_lossy(&text.as_bytes()[from..to])))
        }
        Value::List(inner, items) => {
            let items = items.as_ref().map(|items| items.as_slice()).unwrap_or_default();
            let (from, to) = bounds(items.len())?;
            Ok(Value::List(
                inner.clone(),
                Some(std::rc::Rc::new(items[from..to].to_vec())),
            ))
        }
        Value::Nil => Err("slice of untyped nil".into()),
        other => Err(format!("can't slice item of type {}", other.type_name())),
    }
}

const INCOMPATIBLE: &str = "incompatible types for comparison";

fn equal(a: &Value, b: &Value) -> std::result::Result<bool, String> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Int(a) | Value::Duration(a), Value::Uint(b)) => i128::from(*a) == i128::from(*b),
        (Value::Uint(a), Value::Int(b) | Value::Duration(b)) => i128::from(*a) == i128::from(*b),
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Str(a) | Value::Number(a), Value::Str(b) | Value::Number(b)) => a == b,
        (Value::Nil, Value::Nil) => true,
        (Value::Pointer(_, inner), Value::Nil) | (Value::Nil, Value::Pointer(_, inner)) => inner.is_none(),
        (Value::List(_, items), Value::Nil) | (Value::Nil, Value::List(_, items)) => items.is_none(),
        (Value::Map(_, items), Value::Nil) | (Value::Nil, Value::Map(_, items)) => items.is_none(),
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::Time(a), Value::Time(b)) => a == b,
        (a @ (Value::List(..) | Value::Map(..)), _) | (_, a @ (Value::List(..) | Value::Map(..))) => {
            return Err(format!("non-comparable type {}: {}", format::plain(a), a.type_name()));
        }
        _ => return Err(INCOMPATIBLE.into()),
    })
}

fn order(a: &Value, b: &Value) -> std::result::Result<Ordering, String> {
    Ok(match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => a.cmp(b),
        (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
        (Value::Int(a) | Value::Duration(a), Value::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::Uint(a), Value::Int(b) | Value::Duration(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Greater),
        (Value::Str(a) | Value::Number(a), Value::Str(b) | Value::Number(b)) => a.cmp(b),
        (Value::Bool(_), Value::Bool(_)) | (Value::Nil, Value::Nil) => return Err("invalid type for comparison".into()),
        _ => return Err(INCOMPATIBLE.into()),
    })
}
