//! JSON, read into types and written from them, as Go's `encoding/json` does it.
//!
//! Reading: the names of fields match in any case, the exact one first; `null` leaves a field as it is; what is unknown is
//! skipped; of two members of one name the later counts. Docker's clients, its files and the registries rely on all of
//! that. Bounds: [`DEPTH`] levels; nothing is held but the type that is read, what is skipped costs nothing.
//!
//! The traits look like serde's, and so do the attributes (`json-derive` says which). What differs is the code that comes
//! of them: serde makes a reader of each type for each format and a state machine for each reader, which were 600 kB of
//! 5 MB; here a type is a table of names and of places to fill, and what reads them exists once. `serde_json::Value` is
//! the value of any shape.

#![forbid(unsafe_code)]

mod error;
mod pretty;
mod read;
mod reader;
mod write;

pub use error::{Error, Result, missing};
pub use json_derive::{Deserialize, Serialize};
pub use pretty::{compact, pretty};
pub use read::{Deserialize, Ignored, Raw};
pub use reader::{DEPTH, Reader};
pub use write::{Serialize, Writer};

use serde_json::Value;

/// Reads a whole document.
pub fn from_slice<T: Deserialize>(text: &[u8]) -> Result<T> {
    let mut reader = Reader::new(text);
    let value = T::read(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads a whole document.
pub fn from_str<T: Deserialize>(text: &str) -> Result<T> {
    from_slice(text.as_bytes())
}

/// Reads what was read before.
pub fn from_value<T: Deserialize>(value: &Value) -> Result<T> {
    from_slice(&to_vec(value))
}

/// Writes on one line.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut writer = Writer::default();
    value.write(&mut writer);
    writer.into_bytes()
}

/// Writes on one line.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> String {
    let mut writer = Writer::default();
    value.write(&mut writer);
    writer.into_text()
}

/// The value of any shape that says the same.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Value {
    // A value that was read is a few levels deeper once it is in an answer of ours.
    let text = to_vec(value);
    Value::read(&mut Reader::of_depth(&text, u8::MAX)).expect("what was just written is JSON")
}
