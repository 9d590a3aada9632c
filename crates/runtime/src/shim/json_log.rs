//! Docker's `json-file` log: one JSON object per line. Byte for byte Docker's.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::log::{Driver, Entry};
use super::log_file::LogFile;

/// An open log.
pub struct JsonLog {
    file: LogFile,
    /// `,"attrs":{…}`, or nothing.
    attrs: String,
    line: Vec<u8>,
}

impl JsonLog {
    pub fn new(file: LogFile, attrs: &BTreeMap<String, String>) -> JsonLog {
        let attrs = match attrs.is_empty() {
            true => String::new(),
            false => format!(",\"attrs\":{}", json::to_string(attrs)),
        };
        JsonLog {
            file,
            attrs,
            line: Vec::new(),
        }
    }
}

impl Driver for JsonLog {
    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        line.extend_from_slice(b"{\"log\":\"");
        escape(entry.line, &mut line);
        if entry.ends_line() {
            line.extend_from_slice(b"\\n");
        }
        let written = writeln!(
            line,
            "\",\"stream\":\"{}\"{},\"time\":\"{}\"}}",
            entry.source(),
            self.attrs,
            entry.time.text()
        )
        .and_then(|()| self.file.append(&line, entry.time));
        // A rare long line must not stay in memory for ever.
        if line.capacity() > 4096 {
            line = Vec::new();
        }
        self.line = line;
        written
    }

    fn is_busy(&self) -> bool {
        self.file.is_busy()
    }

    fn child_ended(&mut self, pid: i32) -> bool {
        self.file.child_ended(pid)
    }
}

/// JSON string escapes as Go's encoder makes them, with `<`, `>` and `&` escaped too.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '<' | '>' | '&' | '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(letter));
                }
                letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::LogFiles;
    use crate::shim::log::{Moment, Partial};

    #[test]
    fn entries_are_dockers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let files = LogFiles {
            path: path.clone(),
            max_size: None,
            max_file: 1,
            compress: false,
        };
        let attrs = BTreeMap::from([("k".to_owned(), "v\"".to_owned())]);
        let mut log = JsonLog::new(LogFile::open(&files).unwrap(), &attrs);
        let time = Moment {
            seconds: 951_782_400,
            nanoseconds: 500_000_000,
        };
        let mut entry = Entry {
            stream: 1,
            line: b"one",
            time,
            partial: None,
        };
        log.write(&entry).unwrap();
        entry.stream = 2;
        for (ordinal, last) in [(1, false), (2, true)] {
            entry.partial = Some(Partial { id: "x", ordinal, last });
            log.write(&entry).unwrap();
        }
        let line = |log: &str, stream: &str| {
            format!(
                "{{\"log\":\"{log}\",\"stream\":\"{stream}\",\"attrs\":{{\"k\":\"v\\\"\"}},\"time\":\"2000-02-29T00:00:00.5Z\"}}\n"
            )
        };
        let expected = [
            line("one\\n", "stdout"),
            line("one", "stderr"),
            line("one\\n", "stderr"),
        ];
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected.concat());
    }

    #[test]
    fn escapes() {
        let mut out = Vec::new();
        escape(b"a\"\\\t<&>\x1b\xff\xe2\x80\xa8\xc3\xa9", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a\\\"\\\\\\u0009\\u003c\\u0026\\u003e\\u001b\\ufffd\\u2028é"
        );
    }
}
