//! The `json-file` driver's lines: `{"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}`.

use super::entry::{Entry, Format};
use api::stdcopy::Stream;
use api::time::Time;
use json::{Deserialize, Reader};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Read};
use std::os::unix::fs::FileExt;

/// The longest line that is read; the driver cuts at 16 KiB before escaping.
const MAX_LINE: u64 = 1 << 20;

pub struct JsonFile;

impl Format for JsonFile {
    fn next(&self, mut from: &mut dyn BufRead, into: &mut Vec<u8>) -> u64 {
        let n = (&mut from).take(MAX_LINE).read_until(b'\n', into).unwrap_or(0) as u64;
        // A half-written last line waits for its rest.
        match into.last() == Some(&b'\n') || n == MAX_LINE {
            true => n,
            false => 0,
        }
    }

    fn parse<'a>(&self, raw: &'a [u8]) -> Option<Entry<'a>> {
        const FIELDS: &[(&str, u8)] = &[("log", 0), ("stream", 1), ("time", 2), ("attrs", 3)];
        let (mut text, mut stream, mut time) = (Cow::Borrowed(""), Cow::Borrowed(""), Cow::Borrowed(""));
        let mut attrs = BTreeMap::new();
        let mut reader = Reader::new(raw);
        let fields = reader.structure("Line", FIELDS, &mut |field, reader| {
            match field {
                0 => text = reader.string("a string")?,
                1 => stream = reader.string("a string")?,
                2 => time = reader.string("a string")?,
                _ => attrs = BTreeMap::read(reader)?,
            }
            Ok(())
        });
        fields.and_then(|()| reader.end()).ok()?;
        Some(Entry {
            stream: match &*stream {
                "stderr" => Stream::Stderr,
                _ => Stream::Stdout,
            },
            time: Time::parse(&time),
            text: match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            newline: false,
            attrs,
        })
    }

    fn back(&self, file: &File, end: u64, count: u64) -> (u64, u64) {
        const BLOCK: u64 = 64 << 10;
        let (mut at, mut lines) = (end, 0u64);
        let mut buffer = vec![0u8; BLOCK as usize];
        while at > 0 {
            let take = at.min(BLOCK);
            at -= take;
            let block = &mut buffer[..take as usize];
            if file.read_exact_at(block, at).is_err() {
                break;
            }
            for (index, byte) in block.iter().enumerate().rev() {
                if *byte == b'\n' {
                    lines += 1;
                    // One more than wanted: the newline before the first of them.
                    if lines > count {
                        return (at + index as u64 + 1, count);
                    }
                }
            }
        }
        (0, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_found_from_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, format!("{text}half")).unwrap();
        let file = File::open(&path).unwrap();
        for count in [1, 3, 20_000, 49_999] {
            let (at, found) = JsonFile.back(&file, (text.len() + 4) as u64, count);
            assert_eq!(found, count);
            let first = format!("line {}\n", 50_000 - count);
            assert!(text[usize::try_from(at).unwrap()..].starts_with(&first), "{count}");
        }
        assert_eq!(JsonFile.back(&file, text.len() as u64, 60_000), (0, 50_000));
        assert_eq!(JsonFile.back(&file, 0, 5), (0, 0));
    }

    #[test]
    fn lines_as_the_driver_writes_them() {
        let line = br#"{"log":"a\u0000\"b\n","stream":"stderr","attrs":{"k":"v"},"time":"2026-11-23T18:20:48.5Z"}"#;
        let entry = JsonFile.parse(line).unwrap();
        assert_eq!((entry.stream, &entry.text[..]), (Stream::Stderr, &b"a\0\"b\n"[..]));
        assert_eq!(entry.time.unwrap().nanos, 500_000_000);
        assert_eq!(entry.attrs["k"], "v");
        assert!(JsonFile.parse(b"{\"log\":\"x").is_none());
    }
}
