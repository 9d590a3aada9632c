//! The `local` driver's entries: a protobuf message (`LogEntry` of Docker's `entry.proto`) between its length and its
//! length again.
//!
//! What does not fit together ends a file: there is no way to find the next entry.

use super::entry::{Entry, Format};
use api::stdcopy::Stream;
use api::time::Time;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Read};
use std::os::unix::fs::FileExt;

/// Bytes of the longest entry that is read, as in Docker.
const MAX_ENTRY: u32 = 1_000_000;

pub struct Local;

impl Format for Local {
    fn next(&self, mut from: &mut dyn BufRead, into: &mut Vec<u8>) -> u64 {
        let mut before = [0; 4];
        if from.read_exact(&mut before).is_err() {
            return 0;
        }
        let length = u32::from_be_bytes(before);
        if length == 0 || length > MAX_ENTRY {
            return 0;
        }
        // Grown as it is read: the length alone, which may be a lie, costs nothing.
        let whole = u64::from(length) + 4;
        let read = (&mut from).take(whole).read_to_end(into);
        if read.is_err() || into.len() as u64 != whole {
            return 0;
        }
        let behind = into.split_off(into.len() - 4);
        match behind == before {
            true => whole + 4,
            false => 0,
        }
    }

    fn parse<'a>(&self, raw: &'a [u8]) -> Option<Entry<'a>> {
        let mut entry = Entry {
            stream: Stream::Stdout,
            time: Some(Time::of_nanos(0)),
            text: Cow::Borrowed(b""),
            newline: true,
            attrs: BTreeMap::new(),
        };
        let (mut partial, mut last) = (false, false);
        each_field(raw, &mut |field, value| {
            match (field, value) {
                (1, Value::Bytes(b"stderr")) => entry.stream = Stream::Stderr,
                (2, Value::Number(nanos)) => entry.time = Some(Time::of_nanos(nanos.cast_signed())),
                (3, Value::Bytes(text)) => entry.text = Cow::Borrowed(text),
                (4, Value::Number(flag)) => partial = flag != 0,
                (5, Value::Bytes(inner)) => each_field(inner, &mut |field, value| {
                    if let (1, Value::Number(flag)) = (field, value) {
                        last = flag != 0;
                    }
                    Some(())
                })?,
                // Later versions of Docker's.
                (6, Value::Bytes(inner)) => {
                    let (mut key, mut text) = (String::new(), String::new());
                    each_field(inner, &mut |field, value| {
                        match (field, value) {
                            (1, Value::Bytes(bytes)) => key = String::from_utf8_lossy(bytes).into_owned(),
                            (2, Value::Bytes(bytes)) => text = String::from_utf8_lossy(bytes).into_owned(),
                            _ => {}
                        }
                        Some(())
                    })?;
                    entry.attrs.insert(key, text);
                }
                _ => {}
            }
            Some(())
        })?;
        entry.newline = !partial || last;
        Some(entry)
    }

    fn back(&self, file: &File, end: u64, count: u64) -> (u64, u64) {
        let length_at = |at: u64| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, at).ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let (mut at, mut found) = (end, 0);
        while at > 0 && found < count {
            let behind = at.checked_sub(4).and_then(length_at).filter(|length| *length != 0);
            let before = behind.and_then(|length| at.checked_sub(u64::from(length) + 8));
            match before {
                Some(before) if length_at(before) == behind => at = before,
                // Its end is not whole: forwards, it is read as far as it goes.
                _ => return (0, 0),
            }
            found += 1;
        }
        (at, found)
    }
}

/// What a field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Calls `take` with every field of a message; `None` for what is no message. Source: protobuf's encoding, wire types 0, 1,
/// 2 and 5.
fn each_field<'a>(mut raw: &'a [u8], take: &mut dyn FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !raw.is_empty() {
        let key = varint(&mut raw)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut raw)?),
            1 => Value::Bytes(raw.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut raw)?).ok()?;
                Value::Bytes(raw.split_off(..length)?)
            }
            5 => Value::Bytes(raw.split_off(..4)?),
            _ => return None,
        };
        take(key >> 3, value)?;
    }
    Some(())
}

fn varint(raw: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *raw.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as Docker 20.10 wrote it, without its lengths.
    const ONE: &[u8] = b"\x0a\x06stdout\x10\xd4\xd3\xc7\xd8\xfc\x87\xe1\xf5\x18\x1a\x03one";
    const PART: &[u8] = b"\x0a\x06stderr\x10\x02\x1a\x03two\x20\x01\x2a\x09\x12\x057727f\x18\x01";
    const LAST: &[u8] = b"\x0a\x06stderr\x10\x02\x1a\x03two\x20\x01\x2a\x0b\x08\x01\x12\x057727f\x18\x02";

    fn framed(entries: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        for entry in entries {
            let length = u32::try_from(entry.len()).unwrap().to_be_bytes();
            file.extend_from_slice(&[&length, *entry, &length].concat());
        }
        file
    }

    fn texts(file: &[u8]) -> Vec<String> {
        let (mut rest, mut raw, mut texts) = (file, Vec::new(), Vec::new());
        loop {
            raw.clear();
            if Local.next(&mut rest, &mut raw) == 0 {
                return texts;
            }
            assert!(raw.capacity() <= 2 * file.len().max(64));
            if let Some(entry) = Local.parse(&raw) {
                texts.push(String::from_utf8_lossy(&entry.text).into_owned());
            }
        }
    }

    #[test]
    fn entries_are_dockers() {
        let entry = Local.parse(ONE).unwrap();
        assert_eq!(
            (entry.stream, &entry.text[..], entry.newline),
            (Stream::Stdout, &b"one"[..], true)
        );
        assert_eq!(entry.time.unwrap().to_rfc3339(), "2026-11-26T06:24:45.962029524Z");
        let part = Local.parse(PART).unwrap();
        assert_eq!((part.stream, part.newline), (Stream::Stderr, false));
        assert!(Local.parse(LAST).unwrap().newline);
        let more = [ONE, b"\x32\x06\x0a\x01k\x12\x01v\x38\x07"].concat();
        assert_eq!(Local.parse(&more).unwrap().attrs["k"], "v");
        assert_eq!(texts(&framed(&[ONE, PART, LAST])), ["one", "two", "two"]);
    }

    #[test]
    fn the_tail_is_found_from_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let bytes = framed(&[ONE, PART, LAST]);
        std::fs::write(&path, &bytes).unwrap();
        let (file, end) = (File::open(&path).unwrap(), bytes.len() as u64);
        for (count, entries) in [(0, &[][..]), (1, &[LAST]), (2, &[PART, LAST]), (9, &[ONE, PART, LAST])] {
            let (at, found) = Local.back(&file, end, count);
            assert_eq!((end - at, found), (framed(entries).len() as u64, entries.len() as u64));
        }
        // An end that is not whole.
        assert_eq!(Local.back(&file, end - 1, 1), (0, 0));
    }

    /// Cut, changed, and with lengths that lie: never more memory than the file has, and no entry that was not there.
    #[test]
    fn damage_is_bounded() {
        let whole = framed(&[ONE, PART, LAST]);
        for cut in 0..whole.len() {
            let found = texts(&whole[..cut]);
            assert!(found.len() < 3 && ["one", "two"][..found.len()] == found, "{cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(texts(&changed).len() <= 3);
            let _ = Local.parse(&changed);
        }
        for length in [0, 1_000_001, u32::MAX] {
            let lie = [&length.to_be_bytes()[..], ONE].concat();
            assert!(texts(&lie).is_empty());
        }
        // Lengths inside of a message, and numbers that do not end.
        for raw in [
            &b"\x1a\xff\xff\xff\xff\x0f"[..],
            b"\x0a",
            b"\x10",
            &[0x80; 40],
            b"\x0b\x01",
            b"\x1a\x7fshort",
        ] {
            assert!(Local.parse(raw).is_none(), "{raw:?}");
        }
    }
}
