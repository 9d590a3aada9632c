//! Types of Docker's API as its Go client has them, because templates can see them: names and order of fields,
//! zero values of what a daemon left out, and what is left out of JSON.
//!
//! The tables are text: a line per struct, `Name: Field type; Field=jsonName type; Field? type` where `?` is
//! `omitempty`. `map[T]` has strings for keys.

use super::value::{Struct, Value};
use api::time::Time;
use std::fmt;
use std::rc::Rc;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Any,
    Bool,
    Int,
    Uint,
    Float,
    String,
    Time,
    Duration,
    List(Rc<Type>),
    Map(Rc<Type>),
    Pointer(Rc<Type>),
    Struct(Rc<str>),
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Rc<str>,
    pub json: Rc<str>,
    pub omit_empty: bool,
    pub kind: Rc<Type>,
}

impl Type {
    /// Reads the text of a type.
    pub fn parse(text: &str) -> Type {
        if let Some(inner) = text.strip_prefix("[]") {
            return Type::List(Rc::new(Type::parse(inner)));
        }
        if let Some(inner) = text.strip_prefix('*') {
            return Type::Pointer(Rc::new(Type::parse(inner)));
        }
        if let Some(inner) = text.strip_prefix("map[").and_then(|text| text.strip_suffix(']')) {
            return Type::Map(Rc::new(Type::parse(inner)));
        }
        match text {
            "any" => Type::Any,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "float" => Type::Float,
            "string" => Type::String,
            "time" => Type::Time,
            "duration" => Type::Duration,
            name => Type::Struct(Rc::from(name)),
        }
    }

    /// The value of a variable that nothing was assigned to.
    pub fn zero(&self) -> Value {
        match self {
            Type::Any => Value::Nil,
            Type::Bool => Value::Bool(false),
            Type::Int => Value::Int(0),
            Type::Uint => Value::Uint(0),
            Type::Float => Value::Float(0.0),
            Type::String => Value::str(""),
            Type::Time => Value::Time(Time {
                seconds: -62_135_596_800,
                nanos: 0,
            }),
            Type::Duration => Value::Duration(0),
            Type::List(inner) => Value::List(inner.clone(), None),
            Type::Map(inner) => Value::Map(inner.clone(), None),
            Type::Pointer(inner) => Value::Pointer(inner.clone(), None),
            Type::Struct(name) => {
                let fields = fields(name).into_iter().map(|field| {
                    let value = field.kind.zero();
                    (field, value)
                });
                Value::Struct(Rc::new(Struct {
                    name: name.clone(),
                    fields: fields.collect(),
                }))
            }
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("interface {}"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint64"),
            Type::Float => f.write_str("float64"),
            Type::String => f.write_str("string"),
            Type::Time => f.write_str("time.Time"),
            Type::Duration => f.write_str("time.Duration"),
            Type::List(inner) => write!(f, "[]{inner}"),
            Type::Map(inner) => write!(f, "map[string]{inner}"),
            Type::Pointer(inner) => write!(f, "*{inner}"),
            Type::Struct(name) => f.write_str(name),
        }
    }
}

/// The fields of a struct; none if the name is not known.
pub fn fields(name: &str) -> Vec<Field> {
    let line = STRUCTS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let field = |text: &str| -> Option<Field> {
        let (name, kind) = text.trim().split_once(' ')?;
        let (name, omit_empty) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let (name, json) = name.split_once('=').unwrap_or((name, name));
        Some(Field {
            name: name.into(),
            json: json.into(),
            omit_empty,
            kind: Rc::new(Type::parse(kind.trim())),
        })
    };
    line.unwrap_or_default().split(';').filter_map(field).collect()
}

/// Source: the public types of Docker's Engine API 1.50.
const STRUCTS: &str = include_str!("structs.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_is_known() {
        fn check(kind: &Type, of: &str) {
            match kind {
                Type::List(inner) | Type::Map(inner) | Type::Pointer(inner) => check(inner, of),
                Type::Struct(name) => {
                    let known = STRUCTS
                        .lines()
                        .any(|line| line.split_once(':').is_some_and(|(n, _)| n == &**name));
                    assert!(known, "{name} in {of}");
                }
                _ => {}
            }
        }
        let mut count = 0;
        for line in STRUCTS.lines() {
            let (name, rest) = line.split_once(':').unwrap();
            assert_eq!(
                fields(name).len(),
                rest.split(';').filter(|text| !text.trim().is_empty()).count(),
                "{name}"
            );
            fields(name).iter().for_each(|field| check(&field.kind, name));
            count += 1;
        }
        assert!(count > 40);
    }
}
