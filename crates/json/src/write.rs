//! Types that are written, and the text they are written to.

use crate::Raw;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A type that is written. Nothing of it can fail: numbers that JSON has not (NaN) are `null`.
pub trait Serialize {
    fn write(&self, writer: &mut Writer);
}

/// JSON on one line, as far as it is written.
#[derive(Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    pub fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins an object or a list.
    pub fn open(&mut self, bracket: u8) {
        self.text.push(char::from(bracket));
    }

    /// Ends it.
    pub fn close(&mut self, bracket: u8) {
        self.text.push(char::from(bracket));
    }

    /// Before an item of a list.
    pub fn item(&mut self) {
        // A value never ends in what begins one.
        if !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
    }

    /// A member's name; its value comes next.
    pub fn key(&mut self, name: &str) {
        self.item();
        self.text(name);
        self.text.push(':');
    }

    pub fn text(&mut self, text: &str) {
        self.text.push('"');
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            let short = match byte {
                b'"' => '"',
                b'\\' => '\\',
                b'\n' => 'n',
                b'\r' => 'r',
                b'\t' => 't',
                0x8 => 'b',
                0xc => 'f',
                0..0x20 => 'u',
                _ => continue,
            };
            self.text.push_str(&text[plain..at]);
            plain = at + 1;
            self.text.push('\\');
            self.text.push(short);
            if short == 'u' {
                self.display(format_args!("{byte:04x}"));
            }
        }
        self.text.push_str(&text[plain..]);
        self.text.push('"');
    }

    /// JSON that was written before.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn display(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a string takes what it is given");
    }

    fn list<'i, T: Serialize + 'i>(&mut self, items: impl Iterator<Item = &'i T>) {
        self.open(b'[');
        for item in items {
            self.item();
            item.write(self);
        }
        self.close(b']');
    }

    fn map<'i, K: AsRef<str> + 'i, V: Serialize + 'i>(&mut self, members: impl Iterator<Item = (&'i K, &'i V)>) {
        self.open(b'{');
        for (name, value) in members {
            self.key(name.as_ref());
            value.write(self);
        }
        self.close(b'}');
    }
}

macro_rules! integers {
    ($wide:ident: $($type:ident)*) => {
        $(impl Serialize for $type {
            fn write(&self, writer: &mut Writer) {
                // No target has integers of more than 64 bits.
                writer.display(format_args!("{}", $wide::try_from(*self).unwrap_or_default()));
            }
        })*
    };
}

integers!(i64: i8 i16 i32 i64 isize);
integers!(u64: u8 u16 u32 u64 usize);

impl Serialize for f64 {
    fn write(&self, writer: &mut Writer) {
        match Number::from_f64(*self) {
            Some(number) => writer.display(format_args!("{number}")),
            None => writer.raw("null"),
        }
    }
}

impl Serialize for bool {
    fn write(&self, writer: &mut Writer) {
        writer.raw(if *self { "true" } else { "false" });
    }
}

impl Serialize for str {
    fn write(&self, writer: &mut Writer) {
        writer.text(self);
    }
}

impl Serialize for String {
    fn write(&self, writer: &mut Writer) {
        writer.text(self);
    }
}

impl Serialize for Cow<'_, str> {
    fn write(&self, writer: &mut Writer) {
        writer.text(self);
    }
}

impl Serialize for Path {
    fn write(&self, writer: &mut Writer) {
        // No path of ours has other bytes; a user's is looked at where it is taken in.
        writer.text(&self.to_string_lossy());
    }
}

impl Serialize for PathBuf {
    fn write(&self, writer: &mut Writer) {
        self.as_path().write(writer);
    }
}

impl Serialize for Ipv4Addr {
    fn write(&self, writer: &mut Writer) {
        writer.display(format_args!("\"{self}\""));
    }
}

impl Serialize for IpAddr {
    fn write(&self, writer: &mut Writer) {
        writer.display(format_args!("\"{self}\""));
    }
}

/// As serde has it. A time before 1970 is 1970.
impl Serialize for SystemTime {
    fn write(&self, writer: &mut Writer) {
        let since = self.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
        writer.display(format_args!(
            "{{\"secs_since_epoch\":{seconds},\"nanos_since_epoch\":{nanos}}}"
        ));
    }
}

impl Serialize for Raw {
    fn write(&self, writer: &mut Writer) {
        writer.raw(self.get());
    }
}

impl<T: Serialize + ?Sized> Serialize for &T {
    fn write(&self, writer: &mut Writer) {
        (**self).write(writer);
    }
}

impl<T: Serialize + ?Sized> Serialize for Box<T> {
    fn write(&self, writer: &mut Writer) {
        (**self).write(writer);
    }
}

impl<T: Serialize + ?Sized> Serialize for Arc<T> {
    fn write(&self, writer: &mut Writer) {
        (**self).write(writer);
    }
}

impl<T: Serialize> Serialize for Option<T> {
    fn write(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.write(writer),
            None => writer.raw("null"),
        }
    }
}

impl<T: Serialize> Serialize for [T] {
    fn write(&self, writer: &mut Writer) {
        writer.list(self.iter());
    }
}

impl<T: Serialize, const N: usize> Serialize for [T; N] {
    fn write(&self, writer: &mut Writer) {
        writer.list(self.iter());
    }
}

impl<A: Serialize, B: Serialize> Serialize for (A, B) {
    fn write(&self, writer: &mut Writer) {
        writer.open(b'[');
        self.0.write(writer);
        writer.item();
        self.1.write(writer);
        writer.close(b']');
    }
}

impl<T: Serialize> Serialize for Vec<T> {
    fn write(&self, writer: &mut Writer) {
        writer.list(self.iter());
    }
}

impl<K: AsRef<str>, V: Serialize> Serialize for BTreeMap<K, V> {
    fn write(&self, writer: &mut Writer) {
        writer.map(self.iter());
    }
}

impl<K: AsRef<str>, V: Serialize> Serialize for HashMap<K, V> {
    fn write(&self, writer: &mut Writer) {
        writer.map(self.iter());
    }
}

impl Serialize for Map<String, Value> {
    fn write(&self, writer: &mut Writer) {
        writer.map(self.iter());
    }
}

impl Serialize for Value {
    fn write(&self, writer: &mut Writer) {
        match self {
            Value::Null => writer.raw("null"),
            Value::Bool(value) => value.write(writer),
            Value::Number(number) => writer.display(format_args!("{number}")),
            Value::String(text) => writer.text(text),
            Value::Array(items) => writer.list(items.iter()),
            Value::Object(map) => map.write(writer),
        }
    }
}
