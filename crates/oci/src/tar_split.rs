//! tar-split: what a layer's tar has besides its files' contents, so that tar and digest can be made again bit for bit.
//!
//! The format is vbatts/tar-split's as Docker keeps it in `layerdb/sha256/<chain>/tar-split.json.gz`: JSON objects,
//! one a line, `{"type":2,"payload":…}` for raw bytes (base64) and `{"type":1,"name":…,"size":…,"payload":…}` for a file,
//! whose payload is the CRC-64 (ISO, big-endian) of its content, `position` counting from 0. [`Splitter`] writes it
//! while the archive is read, in the same pass; [`assemble`] rebuilds the archive. Compression is the caller's.

use crate::base64;
use crate::tar::Tap;
use json::{Deserialize, Reader, Serialize};
use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};

mod crc64;

pub use crc64::Crc64;

/// Raw bytes gathered into one line at most: an archive's padding may be endless, memory is not.
const SEGMENT: usize = 64 * 1024;

/// Longest line that [`assemble`] accepts: Docker writes trailing padding in one line of 1 MiB, base64 of it.
const LINE_LIMIT: u64 = 16 << 20;

const FILE: u8 = 1;
const RAW: u8 = 2;

#[derive(Default, Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name_raw: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    payload: Option<Cow<'a, str>>,
    position: u64,
}

impl<'a> Line<'a> {
    /// Reads a line, whose texts stay where they are.
    fn of(text: &'a [u8]) -> json::Result<Line<'a>> {
        const FIELDS: &[(&str, u8)] = &[("type", 0), ("name", 1), ("name_raw", 2), ("size", 3), ("payload", 4)];
        let mut line = Line::default();
        let mut reader = Reader::new(text);
        reader.structure("Line", FIELDS, &mut |field, reader| {
            match field {
                0 => line.kind = u8::read(reader)?,
                1 => line.name = reader.string("a string")?,
                2 => line.name_raw = reader.string("a string")?,
                3 => line.size = u64::read(reader)?,
                _ => line.payload = Some(reader.string("a string")?),
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(line)
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Writes tar-split as a [`Tap`] of the archive's reader.
pub struct Splitter<W> {
    out: W,
    pending: Vec<u8>,
    line: Vec<u8>,
    position: u64,
}

impl<W: Write> Splitter<W> {
    /// Writes lines to `out`.
    pub fn new(out: W) -> Splitter<W> {
        Splitter {
            out,
            pending: Vec::new(),
            line: Vec::new(),
            position: 0,
        }
    }

    /// Records that a file's content came here. `size` 0 says that nothing has to be fetched for it.
    pub fn file(&mut self, name: &[u8], size: u64, crc: u64) -> io::Result<()> {
        self.flush_segment()?;
        let raw = match std::str::from_utf8(name) {
            Ok(_) => String::new(),
            Err(_) => base64::encode(name),
        };
        let name = if raw.is_empty() {
            String::from_utf8_lossy(name)
        } else {
            "".into()
        };
        let payload = (size > 0).then(|| base64::encode(&crc.to_be_bytes()).into());
        let line = Line {
            kind: FILE,
            name,
            name_raw: raw.into(),
            size,
            payload,
            position: self.position,
        };
        self.line.clear();
        self.line.append(&mut json::to_vec(&line));
        self.end_line()
    }

    /// Ends the line being gathered, so that another writer can go on after it; returns the number of lines so far.
    pub fn mark(&mut self) -> io::Result<u64> {
        self.flush_segment()?;
        Ok(self.position)
    }

    /// Goes on after that many lines, forgetting what is pending: it is in them.
    pub fn restart(&mut self, lines: u64) {
        self.pending.clear();
        self.position = lines;
    }

    /// Where lines are written to.
    pub fn out_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes what is pending and gives back the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_segment()?;
        Ok(self.out)
    }

    fn flush_segment(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.line.clear();
        self.line.extend_from_slice(b"{\"type\":2,\"payload\":\"");
        base64::encode_into(&self.pending, &mut self.line);
        write!(self.line, "\",\"position\":{}}}", self.position)?;
        self.pending.clear();
        self.end_line()
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.position += 1;
        self.out.write_all(&self.line)
    }
}

impl<W: Write> Tap for Splitter<W> {
    fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(SEGMENT - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == SEGMENT {
                self.flush_segment()?;
            }
        }
        Ok(())
    }
}

/// Says why an archive could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    #[error("read tar-split line {line}: {source}")]
    Read { line: u64, source: io::Error },
    #[error("read tar-split line {line}: {why}")]
    Format { line: u64, why: String },
    #[error("read {name} to rebuild its layer: {source}")]
    File { name: String, source: io::Error },
    #[error("file integrity checksum failed for {name:?}")]
    Checksum { name: String },
    #[error("write rebuilt layer: {0}")]
    Write(#[source] io::Error),
}

/// Bytes of the archive that a tar-split describes.
pub fn length(lines: impl BufRead) -> Result<u64, AssembleError> {
    let (mut lines, mut total) = (Lines::new(lines), 0u64);
    while let Some(piece) = lines.next_piece()? {
        let bytes = match piece {
            Piece::Raw(bytes) => bytes.len() as u64,
            Piece::File { size, .. } => size,
        };
        total = total.checked_add(bytes).ok_or_else(|| AssembleError::Format {
            line: lines.number,
            why: "sizes beyond 64 bits".into(),
        })?;
    }
    Ok(total)
}

/// What a line of tar-split stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the archive.
    Raw(Vec<u8>),
    /// The content of an entry, which lies elsewhere; nothing if `size` is 0. `crc` is big-endian, as it is written.
    File { name: Vec<u8>, size: u64, crc: Vec<u8> },
}

/// Reads tar-split line by line. Memory: one line.
pub struct Lines<R> {
    lines: R,
    text: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(lines: R) -> Lines<R> {
        Lines {
            lines,
            text: Vec::new(),
            number: 0,
        }
    }

    /// The next line, or nothing behind the last.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, AssembleError> {
        self.text.clear();
        let line = self.number;
        let read = (&mut self.lines).take(LINE_LIMIT).read_until(b'\n', &mut self.text);
        read.map_err(|source| AssembleError::Read { line, source })?;
        if self.text.is_empty() {
            return Ok(None);
        }
        let wrong = |why: String| AssembleError::Format { line, why };
        if self.text.len() as u64 == LINE_LIMIT {
            return Err(wrong("line too long".into()));
        }
        let parsed = Line::of(&self.text).map_err(|error| wrong(error.to_string()))?;
        let payload = base64::decode(parsed.payload.as_deref().unwrap_or(""))
            .ok_or_else(|| wrong("payload is not base64".into()))?;
        self.number += 1;
        match parsed.kind {
            RAW => Ok(Some(Piece::Raw(payload))),
            FILE => {
                let raw = base64::decode(&parsed.name_raw).ok_or_else(|| wrong("name is not base64".into()))?;
                let name = if raw.is_empty() {
                    parsed.name.as_bytes().to_vec()
                } else {
                    raw
                };
                Ok(Some(Piece::File {
                    name,
                    size: parsed.size,
                    crc: payload,
                }))
            }
            other => Err(wrong(format!("type {other} is unknown"))),
        }
    }
}

/// Rebuilds an archive from its tar-split and its files' contents.
///
/// `open` gets each name as it is in the archive. Every file's size and CRC are checked as it is written, so a changed
/// file is an error, but bytes before it have been written by then. Memory: one line.
pub fn assemble<F: Read>(
    lines: &mut dyn BufRead,
    mut open: impl FnMut(&[u8]) -> io::Result<F>,
    out: &mut dyn Write,
) -> Result<(), AssembleError> {
    let mut lines = Lines::new(lines);
    let mut buffer = vec![0u8; 64 * 1024];
    while let Some(piece) = lines.next_piece()? {
        let (name, size, wanted) = match piece {
            Piece::Raw(bytes) => {
                out.write_all(&bytes).map_err(AssembleError::Write)?;
                continue;
            }
            Piece::File { size: 0, .. } => continue,
            Piece::File { name, size, crc } => (name, size, crc),
        };
        let shown = || String::from_utf8_lossy(&name).into_owned();
        let failed = |source| AssembleError::File { name: shown(), source };
        let mut file = open(&name).map_err(failed)?;
        let (mut left, mut crc) = (size, Crc64::default());
        while left > 0 {
            let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            match file.read(&mut buffer[..room]) {
                Ok(0) => return Err(AssembleError::Checksum { name: shown() }),
                Ok(n) => {
                    crc.update(&buffer[..n]);
                    out.write_all(&buffer[..n]).map_err(AssembleError::Write)?;
                    left -= n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if wanted != crc.value().to_be_bytes() {
            return Err(AssembleError::Checksum { name: shown() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_docker_writes_them() {
        let mut split = Splitter::new(Vec::new());
        split.raw(b"head").unwrap();
        let mut crc = Crc64::default();
        crc.update(b"hi\n");
        split.file(b"etc/x", 3, crc.value()).unwrap();
        split.file(b"d\xff/", 0, 0).unwrap();
        split.raw(b"end").unwrap();
        let text = String::from_utf8(split.finish().unwrap()).unwrap();
        let wanted = [
            r#"{"type":2,"payload":"aGVhZA==","position":0}"#,
            r#"{"type":1,"name":"etc/x","size":3,"payload":"YUmYEAAAAAA=","position":1}"#,
            r#"{"type":1,"name_raw":"ZP8v","payload":null,"position":2}"#,
            r#"{"type":2,"payload":"ZW5k","position":3}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
        let mut out = Vec::new();
        assemble(&mut text.as_bytes(), |_| Ok(&b"hi\n"[..]), &mut out).unwrap();
        assert_eq!(out, b"headhi\nend");
        assert_eq!(length(&mut text.as_bytes()).unwrap(), 10);
        let changed = assemble(&mut text.as_bytes(), |_| Ok(&b"ho\n"[..]), &mut Vec::new());
        assert!(matches!(changed, Err(AssembleError::Checksum { .. })));
        let shorter = assemble(&mut text.as_bytes(), |_| Ok(&b"hi"[..]), &mut Vec::new());
        assert!(matches!(shorter, Err(AssembleError::Checksum { .. })));
    }
}
