//! Types that are read: numbers, texts, lists, maps, and values of any shape.

use crate::reader::out_of_range;
use crate::{Error, Reader, Result};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A type that is read.
pub trait Deserialize: Sized {
    /// Reads one.
    fn read(reader: &mut Reader<'_>) -> Result<Self>;

    /// Reads one in place of another.
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        *self = Self::read(reader)?;
        Ok(())
    }
}

macro_rules! integers {
    ($($type:ident)*) => {
        $(impl Deserialize for $type {
            fn read(reader: &mut Reader<'_>) -> Result<$type> {
                let (negative, value) = reader.integer(stringify!($type))?;
                let found = match negative {
                    false => $type::try_from(value).ok(),
                    true => 0i64.checked_sub_unsigned(value).and_then(|value| $type::try_from(value).ok()),
                };
                found.ok_or_else(|| {
                    let sign = if negative { "-" } else { "" };
                    out_of_range(&format!("{sign}{value}"), stringify!($type))
                })
            }
        })*
    };
}

integers!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

impl Deserialize for f64 {
    fn read(reader: &mut Reader<'_>) -> Result<f64> {
        let text = reader.number("f64")?;
        let value = text.parse().ok().filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| Error::custom("number out of range"))
    }
}

impl Deserialize for bool {
    fn read(reader: &mut Reader<'_>) -> Result<bool> {
        reader.boolean()
    }
}

impl Deserialize for String {
    fn read(reader: &mut Reader<'_>) -> Result<String> {
        reader.string("a string").map(Cow::into_owned)
    }
}

impl Deserialize for Box<str> {
    fn read(reader: &mut Reader<'_>) -> Result<Box<str>> {
        String::read(reader).map(String::into_boxed_str)
    }
}

impl Deserialize for PathBuf {
    fn read(reader: &mut Reader<'_>) -> Result<PathBuf> {
        String::read(reader).map(PathBuf::from)
    }
}

macro_rules! addresses {
    ($($type:ident)*) => {
        $(impl Deserialize for $type {
            fn read(reader: &mut Reader<'_>) -> Result<$type> {
                let text = reader.string("an address")?;
                text.parse().map_err(|_| Error::custom("invalid IP address syntax"))
            }
        })*
    };
}

addresses!(Ipv4Addr IpAddr);

/// As serde has it: two numbers, none of them below zero.
impl Deserialize for SystemTime {
    fn read(reader: &mut Reader<'_>) -> Result<SystemTime> {
        let (mut seconds, mut nanos) = (0u64, 0u32);
        let fields = [("secs_since_epoch", 0), ("nanos_since_epoch", 1)];
        reader.structure("SystemTime", &fields, &mut |field, reader| match field {
            0 => seconds.fill(reader),
            _ => nanos.fill(reader),
        })?;
        let time = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
        let time = time.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        time.ok_or_else(|| Error::custom("time out of range"))
    }
}

impl<T: Deserialize> Deserialize for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Option<T>> {
        match reader.null()? {
            true => Ok(None),
            false => T::read(reader).map(Some),
        }
    }
}

impl<T: Deserialize> Deserialize for Box<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Box<T>> {
        T::read(reader).map(Box::new)
    }
}

impl<T: Deserialize> Deserialize for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        reader.list("a sequence", &mut |reader| {
            items.push(T::read(reader)?);
            Ok(())
        })?;
        Ok(items)
    }
}

impl<T: Deserialize, const N: usize> Deserialize for [T; N] {
    fn read(reader: &mut Reader<'_>) -> Result<[T; N]> {
        let items = Vec::read(reader)?;
        let wrong = |items: Vec<T>| Error::custom(format!("invalid length {}, expected {N} items", items.len()));
        items.try_into().map_err(wrong)
    }
}

impl<A: Deserialize, B: Deserialize> Deserialize for (A, B) {
    fn read(reader: &mut Reader<'_>) -> Result<(A, B)> {
        let (mut first, mut second) = (None, None);
        reader.list("a pair", &mut |reader| {
            match (&first, &second) {
                (None, _) => first = Some(A::read(reader)?),
                (_, None) => second = Some(B::read(reader)?),
                _ => return Err(Error::custom("invalid length, expected a pair")),
            }
            Ok(())
        })?;
        first
            .zip(second)
            .ok_or_else(|| Error::custom("invalid length, expected a pair"))
    }
}

impl<K: From<String> + Ord, V: Deserialize> Deserialize for BTreeMap<K, V> {
    fn read(reader: &mut Reader<'_>) -> Result<BTreeMap<K, V>> {
        let mut map = BTreeMap::new();
        reader.object("a map", &mut |name, reader| {
            let value = V::read(reader)?;
            map.insert(name.into_owned().into(), value);
            Ok(())
        })?;
        Ok(map)
    }
}

impl<K: From<String> + Hash + Eq, V: Deserialize> Deserialize for HashMap<K, V> {
    fn read(reader: &mut Reader<'_>) -> Result<HashMap<K, V>> {
        let mut map = HashMap::new();
        reader.object("a map", &mut |name, reader| {
            let value = V::read(reader)?;
            map.insert(name.into_owned().into(), value);
            Ok(())
        })?;
        Ok(map)
    }
}

impl Deserialize for Map<String, Value> {
    fn read(reader: &mut Reader<'_>) -> Result<Map<String, Value>> {
        let mut map = Map::new();
        reader.object("a map", &mut |name, reader| {
            map.insert(name.into_owned(), Value::read(reader)?);
            Ok(())
        })?;
        Ok(map)
    }
}

impl Deserialize for Value {
    fn read(reader: &mut Reader<'_>) -> Result<Value> {
        Ok(match reader.peek() {
            b'{' => Value::Object(Map::read(reader)?),
            b'[' => Value::Array(Vec::read(reader)?),
            b'"' => Value::String(String::read(reader)?),
            b't' | b'f' => Value::Bool(reader.boolean()?),
            b'n' => {
                reader.null()?;
                Value::Null
            }
            _ => Value::Number(number(reader.number("a value")?)?),
        })
    }
}

/// Whole ones stay whole as far as 64 bits reach.
fn number(text: &str) -> Result<Number> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number.into());
    }
    match text.parse::<i64>() {
        // Minus zero is none of the whole ones.
        Ok(number) if number != 0 => return Ok(number.into()),
        _ => {}
    }
    let number = text.parse().ok().and_then(Number::from_f64);
    number.ok_or_else(|| Error::custom("number out of range"))
}

/// Anything; only that it is there is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored;

impl Deserialize for Ignored {
    fn read(reader: &mut Reader<'_>) -> Result<Ignored> {
        reader.skip().map(|()| Ignored)
    }
}

/// A value as its text, which is written as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(Box<str>);

impl Raw {
    /// Of a value.
    pub fn of<T: crate::Serialize + ?Sized>(value: &T) -> Raw {
        Raw(crate::to_string(value).into())
    }

    pub fn get(&self) -> &str {
        &self.0
    }
}

impl Deserialize for Raw {
    fn read(reader: &mut Reader<'_>) -> Result<Raw> {
        reader.raw().map(|text| Raw(text.into()))
    }
}
