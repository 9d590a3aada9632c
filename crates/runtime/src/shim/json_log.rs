//! Docker's `json-file` log: one JSON object per line, split at 16 KiB, rotated by size. Byte for byte Docker's.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer lines are split into entries without a newline at their end (Docker's copier buffer).
const MAX_LINE: usize = 16 * 1024;

/// An open log.
#[derive(Debug)]
pub struct JsonLog {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: Option<u64>,
    max_file: u32,
    /// `,"attrs":{…}`, or nothing.
    attrs: String,
    /// What each stream has of an unfinished line.
    pending: [Vec<u8>; 2],
    line: Vec<u8>,
}

impl JsonLog {
    pub fn open(
        path: &Path,
        max_size: Option<u64>,
        max_file: u32,
        attrs: &BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let file = open(path, false)?;
        let size = file.metadata()?.len();
        let attrs = match attrs.is_empty() {
            true => String::new(),
            false => format!(",\"attrs\":{}", json::to_string(attrs)),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            max_size,
            max_file: max_file.max(1),
            attrs,
            pending: [Vec::new(), Vec::new()],
            line: Vec::new(),
        })
    }

    /// Takes output of a stream (1 or 2).
    pub fn write(&mut self, stream: u8, mut data: &[u8]) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending[usize::from(stream == 2)]);
        let mut result = Ok(());
        while !data.is_empty() {
            let room = MAX_LINE - pending.len();
            let newline = data.iter().take(room + 1).position(|byte| *byte == b'\n');
            let written = match newline {
                Some(end) => {
                    let entry = if pending.is_empty() {
                        self.entry(stream, &data[..end], true)
                    } else {
                        pending.extend_from_slice(&data[..end]);
                        self.entry(stream, &pending, true)
                    };
                    pending.clear();
                    data = &data[end + 1..];
                    entry
                }
                None if data.len() >= room => {
                    pending.extend_from_slice(&data[..room]);
                    data = &data[room..];
                    let entry = self.entry(stream, &pending, false);
                    pending.clear();
                    entry
                }
                None => {
                    pending.extend_from_slice(data);
                    data = &[];
                    Ok(())
                }
            };
            // One entry lost (the disk is full) must not lose the next.
            result = result.and(written);
        }
        self.pending[usize::from(stream == 2)] = pending;
        result
    }

    /// The stream ended: an unfinished line is an entry without a newline.
    pub fn finish(&mut self, stream: u8) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending[usize::from(stream == 2)]);
        if pending.is_empty() {
            Ok(())
        } else {
            self.entry(stream, &pending, false)
        }
    }

    fn entry(&mut self, stream: u8, text: &[u8], newline: bool) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        line.extend_from_slice(b"{\"log\":\"");
        escape(text, &mut line);
        if newline {
            line.extend_from_slice(b"\\n");
        }
        let stream = if stream == 2 { "stderr" } else { "stdout" };
        let written = writeln!(
            line,
            "\",\"stream\":\"{stream}\"{},\"time\":\"{}\"}}",
            self.attrs,
            crate::time::now()
        )
        .and_then(|()| self.append(&line));
        // A rare long line must not stay in memory for ever.
        if line.capacity() > 4096 {
            line = Vec::new();
        }
        self.line = line;
        written
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.max_size.is_some_and(|max_size| self.size >= max_size) {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    /// Shifts `log.1` to `log.2` and so on; with one file only it starts over.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.max_file > 1 {
            for number in (1..self.max_file - 1).rev() {
                match std::fs::rename(numbered(number), numbered(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            std::fs::rename(&self.path, numbered(1))?;
        }
        self.file = open(&self.path, true)?;
        self.size = 0;
        Ok(())
    }
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    // Appending, so that what a tool truncates does not come back as a hole.
    if truncate {
        drop(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(path)?,
        );
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
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

    fn lines(path: &Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let value: serde_json::Value = json::from_str(line).unwrap();
                (
                    value["log"].as_str().unwrap().to_owned(),
                    value["stream"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn lines_and_their_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = JsonLog::open(&path, None, 1, &BTreeMap::new()).unwrap();
        log.write(1, b"one\ntw").unwrap();
        log.write(2, b"err\n").unwrap();
        log.write(1, b"o\nthree").unwrap();
        log.finish(1).unwrap();
        let pair = |log: &str, stream: &str| (log.to_owned(), stream.to_owned());
        let expected = [
            pair("one\n", "stdout"),
            pair("err\n", "stderr"),
            pair("two\n", "stdout"),
            pair("three", "stdout"),
        ];
        assert_eq!(lines(&path), expected);
    }

    #[test]
    fn long_lines_are_split_at_16_kib() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = JsonLog::open(&path, None, 1, &BTreeMap::new()).unwrap();
        let mut data = vec![b'x'; 40_000];
        data.push(b'\n');
        data.chunks(7000).for_each(|chunk| log.write(1, chunk).unwrap());
        let lengths: Vec<usize> = lines(&path).iter().map(|(text, _)| text.len()).collect();
        assert_eq!(lengths, [16_384, 16_384, 40_000 - 32_768 + 1]);
        log.write(1, &[b'y'; 16_384]).unwrap();
        log.write(1, b"\n").unwrap();
        let last: Vec<usize> = lines(&path).iter().skip(3).map(|(text, _)| text.len()).collect();
        assert_eq!(last, [16_384, 1]);
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

    #[test]
    fn rotation_and_attributes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let attrs = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let mut log = JsonLog::open(&path, Some(50), 3, &attrs).unwrap();
        for number in 0..9 {
            log.write(1, format!("line {number} padding padding\n").as_bytes())
                .unwrap();
        }
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains("\"stream\":\"stdout\",\"attrs\":{\"k\":\"v\"},\"time\"")
        );
        let count = |name: &str| lines(&directory.path().join(name)).len();
        assert_eq!((count("log"), count("log.1"), count("log.2")), (1, 1, 1));
        assert!(!directory.path().join("log.3").exists());
    }

    #[test]
    fn one_file_starts_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = JsonLog::open(&path, Some(60), 1, &BTreeMap::new()).unwrap();
        (0..3).for_each(|_| log.write(1, b"some line that is long\n").unwrap());
        assert_eq!(lines(&path).len(), 1);
    }
}
