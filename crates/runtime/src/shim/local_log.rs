//! Docker's `local` log: each entry is a protobuf message (`LogEntry` of Docker's `entry.proto`) between its length and
//! its length again, four bytes each, most significant first. Byte for byte Docker's.
//!
//! The length behind an entry lets readers go backwards; it also tells an entry that is whole. What a power failure left of
//! the last entries is cut off when the log is opened: readers would not get past it, and never see what came later.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::LogFiles;
use super::log::{Driver, Entry};
use super::log_file::LogFile;

/// An open log.
pub struct LocalLog {
    file: LogFile,
    buffer: Vec<u8>,
}

impl LocalLog {
    /// Opens or makes it, with its directory.
    pub fn open(files: &LogFiles) -> io::Result<LocalLog> {
        if let Some(directory) = files.path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let mut file = LogFile::open(files)?;
        let size = file.file().metadata()?.len();
        if !ends_whole(file.file(), size) {
            let end = whole_part(file.file(), size)?;
            file.truncate(end)?;
        }
        Ok(LocalLog {
            file,
            buffer: Vec::new(),
        })
    }
}

impl Driver for LocalLog {
    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        encode(entry, &mut buffer);
        let written = self.file.append(&buffer, entry.time);
        // A rare long line must not stay in memory for ever.
        if buffer.capacity() <= 4096 {
            self.buffer = buffer;
        }
        written
    }

    fn is_busy(&self) -> bool {
        self.file.is_busy()
    }

    fn child_ended(&mut self, pid: i32) -> bool {
        self.file.child_ended(pid)
    }
}

/// Whether the last entry has the same length before and behind it.
fn ends_whole(file: &File, size: u64) -> bool {
    let Some(behind) = size.checked_sub(4).and_then(|at| length_at(file, at)) else {
        return size == 0;
    };
    let before = size.checked_sub(u64::from(behind) + 8);
    // No entry is empty: zeros are what some file systems leave of data that was not written yet.
    behind != 0 && before.is_some_and(|at| length_at(file, at) == Some(behind))
}

/// Where the entries that are whole end.
fn whole_part(file: &File, size: u64) -> io::Result<u64> {
    let mut at = 0;
    while let Some(length) = length_at(file, at) {
        let behind = at + 4 + u64::from(length);
        if length == 0 || behind + 4 > size || length_at(file, behind) != Some(length) {
            break;
        }
        at = behind + 4;
    }
    Ok(at)
}

fn length_at(file: &File, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// Appends an entry as it is in the file. What is zero or empty is left out, as protobuf has it.
fn encode(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    bytes(1, entry.source().as_bytes(), out);
    number(2, entry.time.nanoseconds(), out);
    bytes(3, entry.line, out);
    if let Some(partial) = entry.partial {
        number(4, 1, out);
        let mut inner = Vec::with_capacity(80);
        number(1, u64::from(partial.last), &mut inner);
        bytes(2, partial.id.as_bytes(), &mut inner);
        number(3, u64::from(partial.ordinal), &mut inner);
        bytes(5, &inner, out);
    }
    // A line has 16 KiB at most.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX).to_be_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

/// A field of bytes (wire type 2).
fn bytes(field: u8, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        out.push(field << 3 | 2);
        varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

/// A field that is a number (wire type 0).
fn number(field: u8, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(field << 3);
        varint(value, out);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::log::{Moment, Partial};
    use std::path::Path;

    fn entry(line: &[u8]) -> Entry<'_> {
        Entry {
            stream: 1,
            line,
            time: Moment {
                seconds: 1,
                nanoseconds: 2,
            },
            partial: None,
        }
    }

    /// Taken from files that Docker 20.10 wrote.
    #[test]
    fn entries_are_dockers() {
        let time = Moment {
            seconds: 0x18f5_8478_fcd8_a9d4u64 / 1_000_000_000,
            nanoseconds: 0,
        };
        let mut out = Vec::new();
        let plain = Entry { time, ..entry(b"one") };
        encode(&plain, &mut out);
        assert_eq!(out[..13], *b"\0\0\0\x17\x0a\x06stdout\x10");
        // Nine bytes of time: a nanosecond of this century.
        assert_eq!(out[22..], *b"\x1a\x03one\0\0\0\x17");
        out.clear();
        let id = "7727f";
        let partial = Some(Partial {
            id,
            ordinal: 2,
            last: true,
        });
        let err = Entry {
            stream: 2,
            time: Moment::default(),
            partial,
            ..entry(b"")
        };
        encode(&err, &mut out);
        assert_eq!(
            out,
            *b"\0\0\0\x17\x0a\x06stderr\x20\x01\x2a\x0b\x08\x01\x12\x057727f\x18\x02\0\0\0\x17"
        );
    }

    fn files(path: &Path) -> LogFiles {
        LogFiles {
            path: path.to_owned(),
            max_size: None,
            max_file: 1,
            compress: false,
        }
    }

    #[test]
    fn what_power_left_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("local-logs/container.log");
        let mut log = LocalLog::open(&files(&path)).unwrap();
        (0..3).for_each(|n| log.write(&entry(format!("line {n}").as_bytes())).unwrap());
        let whole = std::fs::read(&path).unwrap();
        let one = whole.len() / 3;
        for cut in 0..whole.len() {
            // Cut anywhere; the rest of a block may be zeros.
            for tail in [0usize, 1, 7, 100] {
                let mut bytes = whole[..cut].to_vec();
                bytes.resize(cut + tail, 0);
                std::fs::write(&path, &bytes).unwrap();
                let mut log = LocalLog::open(&files(&path)).unwrap();
                // Where the zeros happen to be what was cut, more is whole.
                let kept = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
                assert!(kept >= cut / one * one && kept % one == 0, "{cut} {tail} {kept}");
                assert_eq!(bytes[..kept], whole[..kept]);
                log.write(&entry(b"line x")).unwrap();
                assert_eq!(std::fs::read(&path).unwrap().len(), kept + one);
            }
        }
    }
}
