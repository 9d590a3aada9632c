//! What a template works on: values as Go has them, with as much of Go's types as can be seen from a template.

use super::types::{self, Field, Type};
use api::time::Time;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A value.
#[derive(Clone)]
pub enum Value {
    /// A nil interface, or nothing at all.
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(Rc<str>),
    /// A number of a document read without types (Go's `json.Number`): a kind of string.
    Number(Rc<str>),
    Time(Time),
    /// Nanoseconds.
    Duration(i64),
    /// A slice; `None` is nil.
    List(Rc<Type>, Option<Rc<Vec<Value>>>),
    /// A map with strings for keys; `None` is nil.
    Map(Rc<Type>, Option<Rc<BTreeMap<String, Value>>>),
    Struct(Rc<Struct>),
    /// A pointer; `None` is nil.
    Pointer(Rc<Type>, Option<Rc<Value>>),
    /// A row of a table, whose fields are computed.
    Object(Rc<dyn Object>),
}

/// A struct of Go's.
pub struct Struct {
    pub name: Rc<str>,
    pub fields: Vec<(Field, Value)>,
}

/// Something whose fields are methods: a row of `ps`, of `images`, ….
pub trait Object {
    /// Go's name of the type, for errors.
    fn type_name(&self) -> String;
    /// A field's value; `None` if there is no such field. A field may take arguments.
    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>>;
    /// Names of the fields that JSON shows.
    fn names(&self) -> Vec<&'static str>;
}

impl Value {
    pub fn str(text: impl AsRef<str>) -> Value {
        Value::Str(Rc::from(text.as_ref()))
    }

    pub fn strings(list: impl IntoIterator<Item = String>) -> Value {
        Value::List(
            Rc::new(Type::String),
            Some(Rc::new(list.into_iter().map(Value::str).collect())),
        )
    }

    /// A struct of values that are there, by name and in order.
    pub fn structure<'a>(name: &str, fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
        let field = |name: &str| Field {
            name: name.into(),
            json: name.into(),
            omit_empty: false,
            kind: Rc::new(Type::Any),
        };
        let fields = fields.into_iter().map(|(name, value)| (field(name), value));
        Value::Struct(Rc::new(Struct {
            name: name.into(),
            fields: fields.collect(),
        }))
    }

    /// A document without types, as Go reads it into `interface{}` with `UseNumber`.
    pub fn raw(json: &Json) -> Value {
        match json {
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(Rc::from(number.to_string())),
            Json::String(text) => Value::str(text),
            Json::Array(items) => Value::List(
                Rc::new(Type::Any),
                Some(Rc::new(items.iter().map(Value::raw).collect())),
            ),
            Json::Object(map) => Value::Map(
                Rc::new(Type::Any),
                Some(Rc::new(
                    map.iter()
                        .map(|(key, value)| (key.clone(), Value::raw(value)))
                        .collect(),
                )),
            ),
        }
    }

    /// A document read into a type; what does not fit becomes the zero value.
    pub fn typed(json: &Json, kind: &Type) -> Value {
        match (kind, json) {
            (Type::Any, Json::Number(n)) => Value::Float(n.as_f64().unwrap_or(0.0)),
            (Type::Any, Json::Array(items)) => Value::List(
                Rc::new(Type::Any),
                Some(Rc::new(items.iter().map(|item| Value::typed(item, kind)).collect())),
            ),
            (Type::Any, Json::Object(map)) => Value::Map(
                Rc::new(Type::Any),
                Some(Rc::new(
                    map.iter()
                        .map(|(key, value)| (key.clone(), Value::typed(value, kind)))
                        .collect(),
                )),
            ),
            (Type::Any, other) => Value::raw(other),
            (Type::Pointer(_), Json::Null) => kind.zero(),
            (Type::Pointer(inner), json) => Value::Pointer(inner.clone(), Some(Rc::new(Value::typed(json, inner)))),
            (Type::Bool, Json::Bool(value)) => Value::Bool(*value),
            (Type::Int, Json::Number(n)) => Value::Int(n.as_i64().unwrap_or(0)),
            (Type::Uint, Json::Number(n)) => Value::Uint(n.as_u64().unwrap_or(0)),
            (Type::Float, Json::Number(n)) => Value::Float(n.as_f64().unwrap_or(0.0)),
            (Type::Duration, Json::Number(n)) => Value::Duration(n.as_i64().unwrap_or(0)),
            (Type::String, Json::String(text)) => Value::str(text),
            (Type::Time, Json::String(text)) => Time::parse(text).map_or_else(|| kind.zero(), Value::Time),
            (Type::List(inner), Json::Array(items)) => Value::List(
                inner.clone(),
                Some(Rc::new(items.iter().map(|item| Value::typed(item, inner)).collect())),
            ),
            (Type::List(inner), Json::String(_)) if **inner == Type::String => {
                Value::List(inner.clone(), Some(Rc::new(vec![Value::typed(json, inner)])))
            }
            (Type::Map(inner), Json::Object(map)) => Value::Map(
                inner.clone(),
                Some(Rc::new(
                    map.iter()
                        .map(|(key, value)| (key.clone(), Value::typed(value, inner)))
                        .collect(),
                )),
            ),
            (Type::Struct(name), Json::Object(map)) => {
                let fields = types::fields(name).into_iter().map(|field| {
                    let found = map.get(&*field.json).or_else(|| {
                        map.iter()
                            .find(|(key, _)| key.eq_ignore_ascii_case(&field.json))
                            .map(|(_, value)| value)
                    });
                    let value = found.map_or_else(|| field.kind.zero(), |json| Value::typed(json, &field.kind));
                    (field, value)
                });
                Value::Struct(Rc::new(Struct {
                    name: name.clone(),
                    fields: fields.collect(),
                }))
            }
            _ => kind.zero(),
        }
    }

    /// Follows pointers.
    pub fn pointee(&self) -> &Value {
        let mut value = self;
        while let Value::Pointer(_, Some(inner)) = value {
            value = inner;
        }
        value
    }

    /// Whether `if` takes it for true: not the zero value, and not empty.
    pub fn truth(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(n) | Value::Duration(n) => *n != 0,
            Value::Uint(n) => *n != 0,
            Value::Float(n) => *n != 0.0,
            Value::Str(text) | Value::Number(text) => !text.is_empty(),
            Value::List(_, items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Value::Map(_, items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Value::Pointer(_, inner) => inner.is_some(),
            Value::Time(_) | Value::Struct(_) | Value::Object(_) => true,
        }
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> String {
        match self {
            Value::Nil => "interface {}".into(),
            Value::Bool(_) => "bool".into(),
            Value::Int(_) => "int".into(),
            Value::Uint(_) => "uint64".into(),
            Value::Float(_) => "float64".into(),
            Value::Str(_) => "string".into(),
            Value::Number(_) => "json.Number".into(),
            Value::Time(_) => "time.Time".into(),
            Value::Duration(_) => "time.Duration".into(),
            Value::List(inner, _) => format!("[]{inner}"),
            Value::Map(inner, _) => format!("map[string]{inner}"),
            Value::Struct(value) => value.name.to_string(),
            Value::Pointer(inner, _) => format!("*{inner}"),
            Value::Object(object) => object.type_name(),
        }
    }

    /// Whether `json:",omitempty"` leaves it out.
    fn is_empty(&self) -> bool {
        !matches!(self, Value::Struct(_) | Value::Time(_)) && !self.truth()
    }

    /// JSON as Go writes it, without escaping HTML.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        let text = |text: &str| {
            Json::from(text)
                .to_string()
                .replace('\u{2028}', "\\u2028")
                .replace('\u{2029}', "\\u2029")
        };
        match self {
            Value::Nil | Value::List(_, None) | Value::Map(_, None) | Value::Pointer(_, None) => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(n) | Value::Duration(n) => out.push_str(&n.to_string()),
            Value::Uint(n) => out.push_str(&n.to_string()),
            Value::Float(n) => out.push_str(&super::format::float_json(*n)),
            Value::Str(value) => out.push_str(&text(value)),
            Value::Number(value) => out.push_str(value),
            Value::Time(time) => out.push_str(&text(&time.to_rfc3339())),
            Value::Pointer(_, Some(inner)) => inner.write_json(out),
            Value::List(_, Some(items)) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Value::Map(_, Some(map)) => {
                let pairs = map.iter().map(|(key, value)| (key.as_str(), value.clone()));
                write_object(out, pairs);
            }
            Value::Struct(value) => {
                let shown = value
                    .fields
                    .iter()
                    .filter(|(field, value)| !(field.omit_empty && value.is_empty()));
                write_object(out, shown.map(|(field, value)| (&*field.json, value.clone())));
            }
            Value::Object(object) => {
                let mut names = object.names();
                names.sort_unstable();
                let pairs = names
                    .into_iter()
                    .filter_map(|name| Some((name, object.field(name, &[])?.ok()?)));
                let mut text = String::new();
                write_object(&mut text, pairs);
                // Rows marshal themselves in Go, and that escapes what HTML would take for its own.
                out.push_str(
                    &text
                        .replace('<', "\\u003c")
                        .replace('>', "\\u003e")
                        .replace('&', "\\u0026"),
                );
            }
        }
    }
}

fn write_object<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, Value)>) {
    out.push('{');
    for (i, (key, value)) in pairs.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&Json::from(key).to_string());
        out.push(':');
        value.write_json(out);
    }
    out.push('}');
}
