//! The journal's export format, read as it comes: `NAME=value` lines, or a name alone, a length of eight bytes, least
//! significant first, and a value; an empty line ends an entry. Source: systemd's `docs/JOURNAL_EXPORT_FORMATS.md`.
//!
//! Anybody on the machine may write entries with a container's ID, of any size: of each only what is looked for is kept, and
//! no more of that than the bounds below.

use super::entry::Entry;
use api::stdcopy::Stream;
use api::time::Time;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

/// Bytes of a message that are kept; the driver cuts at 16 KiB.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes of what else is read of an entry, all together.
const MAX_REST: usize = 64 << 10;
/// Bytes of a name; journald takes 64.
const MAX_NAME: usize = 128;

/// What no label or variable made. (Names that begin with `_` are journald's own.)
const WELL_KNOWN: &[&str] = &[
    "MESSAGE",
    "MESSAGE_ID",
    "PRIORITY",
    "CODE_FILE",
    "CODE_LINE",
    "CODE_FUNC",
    "ERRNO",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_PID",
    "SYSLOG_TIMESTAMP",
    "CONTAINER_NAME",
    "CONTAINER_ID",
    "CONTAINER_ID_FULL",
    "CONTAINER_TAG",
    "IMAGE_NAME",
    "CONTAINER_PARTIAL_ID",
    "CONTAINER_PARTIAL_ORDINAL",
    "CONTAINER_PARTIAL_LAST",
    "CONTAINER_PARTIAL_MESSAGE",
    "CONTAINER_LOG_EPOCH",
    "CONTAINER_LOG_ORDINAL",
];

/// An entry of the journal.
pub struct Exported<'a> {
    pub cursor: &'a str,
    /// Nothing for one that no container wrote: without a message, or of another priority.
    pub entry: Option<Entry<'a>>,
}

/// Reads entries.
#[derive(Default)]
pub struct Parser {
    /// Whether attributes are looked for.
    details: bool,
    at: At,
    name: Vec<u8>,
    value: Vec<u8>,
    /// Bytes that are kept of the value.
    room: usize,
    found: Found,
}

#[derive(Default)]
enum At {
    #[default]
    Name,
    Value,
    Length {
        bytes: [u8; 8],
        read: usize,
    },
    Binary {
        left: u64,
    },
    /// At the newline behind a binary value.
    Behind,
}

/// What was found of an entry so far.
#[derive(Default)]
struct Found {
    any: bool,
    message: Option<Vec<u8>>,
    cursor: String,
    priority: String,
    microseconds: String,
    partial: bool,
    attrs: BTreeMap<String, String>,
    rest: usize,
}

impl Parser {
    pub fn new(details: bool) -> Parser {
        Parser {
            details,
            ..Parser::default()
        }
    }

    /// Takes what came, and calls `take` with every entry that ends in it.
    pub fn feed(&mut self, mut data: &[u8], take: &mut dyn FnMut(&Exported<'_>) -> io::Result<()>) -> io::Result<()> {
        while let Some(first) = data.first().copied() {
            match &mut self.at {
                At::Name => {
                    data = &data[1..];
                    match first {
                        b'\n' if self.name.is_empty() => self.end(take)?,
                        b'\n' => self.at = At::Length { bytes: [0; 8], read: 0 },
                        b'=' => self.begin_value(At::Value),
                        _ if self.name.len() < MAX_NAME => self.name.push(first),
                        _ => {}
                    }
                }
                At::Value => {
                    let end = data.iter().position(|byte| *byte == b'\n');
                    self.keep(&data[..end.unwrap_or(data.len())]);
                    data = &data[end.map_or(data.len(), |end| end + 1)..];
                    if end.is_some() {
                        self.end_value();
                    }
                }
                At::Length { bytes, read } => {
                    bytes[*read] = first;
                    *read += 1;
                    data = &data[1..];
                    if *read == bytes.len() {
                        let left = u64::from_le_bytes(*bytes);
                        self.begin_value(if left == 0 { At::Behind } else { At::Binary { left } });
                    }
                }
                At::Binary { left } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                    *left -= here as u64;
                    let whole = *left == 0;
                    self.keep(&data[..here]);
                    data = &data[here..];
                    if whole {
                        self.at = At::Behind;
                    }
                }
                At::Behind => {
                    data = &data[1..];
                    self.end_value();
                }
            }
        }
        Ok(())
    }

    fn begin_value(&mut self, at: At) {
        self.at = at;
        self.found.any = true;
        let rest = MAX_REST - self.found.rest;
        self.room = match &self.name[..] {
            b"MESSAGE" => MAX_MESSAGE,
            b"__CURSOR" | b"PRIORITY" | b"__REALTIME_TIMESTAMP" | b"CONTAINER_PARTIAL_MESSAGE" => rest,
            name if self.details && is_attribute(name) => rest.saturating_sub(name.len()),
            _ => 0,
        };
    }

    fn keep(&mut self, data: &[u8]) {
        let kept = data.len().min(self.room);
        self.room -= kept;
        self.value.extend_from_slice(&data[..kept]);
    }

    fn end_value(&mut self) {
        let value = std::mem::take(&mut self.value);
        let text = || String::from_utf8_lossy(&value).into_owned();
        let found = &mut self.found;
        match &self.name[..] {
            b"MESSAGE" => found.message = Some(value),
            name => {
                found.rest = MAX_REST.min(found.rest + value.len());
                match name {
                    b"__CURSOR" => found.cursor = text(),
                    b"PRIORITY" => found.priority = text(),
                    b"__REALTIME_TIMESTAMP" => found.microseconds = text(),
                    b"CONTAINER_PARTIAL_MESSAGE" => found.partial = value == b"true",
                    name if self.details && is_attribute(name) && found.rest + name.len() <= MAX_REST => {
                        found.rest += name.len();
                        let name = String::from_utf8_lossy(name).into_owned();
                        found.attrs.insert(name, text());
                    }
                    _ => {}
                }
            }
        }
        self.name.clear();
        self.at = At::Name;
    }

    fn end(&mut self, take: &mut dyn FnMut(&Exported<'_>) -> io::Result<()>) -> io::Result<()> {
        let found = std::mem::take(&mut self.found);
        if !found.any {
            return Ok(());
        }
        // The priorities that the driver gives.
        let stream = match found.priority.as_str() {
            "3" => Some(Stream::Stderr),
            "6" => Some(Stream::Stdout),
            _ => None,
        };
        let time = found
            .microseconds
            .parse()
            .ok()
            .and_then(|micros: i64| micros.checked_mul(1000));
        let entry = stream.zip(found.message).map(|(stream, message)| Entry {
            stream,
            time: time.map(Time::of_nanos),
            text: Cow::Owned(message),
            newline: !found.partial,
            attrs: found.attrs,
        });
        let cursor = &found.cursor;
        take(&Exported { cursor, entry })
    }
}

fn is_attribute(name: &[u8]) -> bool {
    !name.starts_with(b"_") && !WELL_KNOWN.iter().any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORT: &[u8] = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1790000000123456\nPRIORITY=6\nMESSAGE=one\n_PID=7\n\
        COLOUR=blue\nCONTAINER_ID=x\n\n__CURSOR=c2\n__REALTIME_TIMESTAMP=5\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nA=b\n\n\nPRIORITY=3\n\
        CONTAINER_PARTIAL_MESSAGE=true\n\n__CURSOR=c3\nPRIORITY=4\nMESSAGE=not ours\n\n";

    /// What was seen of each: cursor, stream, time, text and attributes.
    fn read(chunks: &[&[u8]], details: bool) -> Vec<String> {
        let mut parser = Parser::new(details);
        let mut seen = Vec::new();
        for chunk in chunks {
            let taken = parser.feed(chunk, &mut |exported| {
                seen.push(match &exported.entry {
                    None => exported.cursor.to_owned(),
                    Some(entry) => format!(
                        "{} {:?} {} {:?} {} {:?}",
                        exported.cursor,
                        entry.stream,
                        entry.time.map_or(0, Time::as_nanos),
                        String::from_utf8_lossy(&entry.text),
                        entry.newline,
                        entry.attrs
                    ),
                });
                Ok(())
            });
            taken.unwrap();
            assert!(parser.value.len() <= MAX_MESSAGE && parser.name.len() <= MAX_NAME);
        }
        seen
    }

    #[test]
    fn entries() {
        let want = [
            "s=1;i=2 Stdout 1790000000123456000 \"one\" true {\"COLOUR\": \"blue\"}",
            "c2 Stderr 5000 \"two\\nA=b\\n\\n\" false {}",
            "c3",
        ];
        assert_eq!(read(&[EXPORT], true), want);
        // However it comes.
        let bytes: Vec<&[u8]> = EXPORT.chunks(1).collect();
        assert_eq!(read(&bytes, true), want);
        for cut in 0..EXPORT.len() {
            assert_eq!(read(&[&EXPORT[..cut], &EXPORT[cut..]], true), want);
        }
        assert!(!read(&[EXPORT], false)[0].contains("COLOUR"));
    }

    #[test]
    fn damage_and_size_are_bounded() {
        for bit in 0..EXPORT.len() * 8 {
            let mut changed = EXPORT.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&[&changed], true).len() <= 4);
        }
        // A length that lies, and values without end.
        let lie = [&b"MESSAGE\n"[..], &u64::MAX.to_le_bytes(), &[b'x'; 5000]].concat();
        assert!(read(&[&lie, &[b'\n'; 5000]], true).is_empty());
        let large = vec![b'm'; 3 << 20];
        let mut chunks: Vec<&[u8]> = vec![b"PRIORITY=6\nMESSAGE="];
        chunks.extend(large.chunks(64 << 10));
        chunks.push(b"\n");
        let names: Vec<Vec<u8>> = (0..500)
            .map(|n| format!("FIELD{n}={}\n", "v".repeat(1000)).into_bytes())
            .collect();
        chunks.extend(names.iter().map(|field| &field[..]));
        chunks.extend(large.chunks(64 << 10));
        chunks.push(b"=1\n\n");
        let seen = read(&chunks, true);
        assert_eq!(seen.len(), 1);
        let bound = MAX_MESSAGE + 3 * MAX_REST;
        assert!(
            seen[0].len() > MAX_MESSAGE && seen[0].len() < bound,
            "{}",
            seen[0].len()
        );
    }
}
