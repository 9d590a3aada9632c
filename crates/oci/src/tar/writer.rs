//! Writes archives with the headers Go's `archive/tar` writes for Docker: ustar where it fits, PAX where it does not.
//!
//! The same entries make the same bytes, always: no clock, no process number, records in order of their keys.

use super::{BLOCK, Entry, Kind, Time, padding};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// A tar archive being written.
pub struct Writer<W: Write> {
    out: W,
    /// Content bytes the current entry still wants.
    left: u64,
    padding: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to a stream, which should be buffered.
    pub fn new(out: W) -> Writer<W> {
        Writer {
            out,
            left: 0,
            padding: 0,
        }
    }

    /// Writes an entry's header; exactly `entry.size` bytes of content must follow by `Write`. Holes are not kept:
    /// content is written in full. `entry.mode` is written as it is, with file type bits if it has them.
    pub fn start(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_entry()?;
        let size = if entry.kind == Kind::Regular { entry.size } else { 0 };
        let mut records = BTreeMap::new();
        let mut header = Header::new(type_flag(entry.kind));
        header.text(0, 100, &entry.name, "path", &mut records);
        header.text(157, 100, &entry.link, "linkpath", &mut records);
        header.text(265, 32, &entry.user, "uname", &mut records);
        header.text(297, 32, &entry.group, "gname", &mut records);
        header.octal(100, 8, u64::from(entry.mode), "mode", &mut records)?;
        header.octal(108, 8, u64::from(entry.uid), "uid", &mut records)?;
        header.octal(116, 8, u64::from(entry.gid), "gid", &mut records)?;
        header.octal(124, 12, size, "size", &mut records)?;
        header.octal(329, 8, u64::from(entry.device_major), "device", &mut records)?;
        header.octal(337, 8, u64::from(entry.device_minor), "device", &mut records)?;
        header.mtime(entry.mtime, &mut records);
        for (key, time) in [("atime", entry.atime), ("ctime", entry.ctime)] {
            if let Some(time) = time {
                records.insert(key.into(), pax_time(time).into_bytes());
            }
        }
        for (key, value) in &entry.xattrs {
            records.insert([b"SCHILY.xattr.", key.as_slice()].concat(), value.clone());
        }
        if !records.is_empty() {
            self.extension(&entry.name, &records)?;
        }
        self.out.write_all(&header.sealed())?;
        (self.left, self.padding) = (size, padding(size));
        Ok(())
    }

    /// Writes an entry with its content, which must have `entry.size` bytes.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        self.start(entry)?;
        let mut buffer = vec![0; 64 * 1024];
        while self.left > 0 {
            let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let n = content.read(&mut buffer[..room])?;
            if n == 0 {
                return Err(short(self.left, &entry.name));
            }
            self.write_all(&buffer[..n])?;
        }
        Ok(())
    }

    /// Writes the two zero blocks of the end and gives back the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_entry(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(short(self.left, b"the last entry"));
        }
        let pad = usize::try_from(self.padding).unwrap_or(0);
        self.padding = 0;
        self.out.write_all(&[0; BLOCK][..pad])
    }

    fn extension(&mut self, name: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
        let mut body = Vec::new();
        for (key, value) in records {
            body.extend(record(key, value));
        }
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let (directory, base) = match name.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&name[..=slash], &name[slash + 1..]),
            None => (&b""[..], name),
        };
        let mut header = Header::new(b'x');
        let own_name = ascii(&[directory, b"PaxHeaders.0/", base].concat());
        let end = own_name.len().min(100);
        header.bytes[..end].copy_from_slice(&own_name[..end]);
        for (at, width) in [(100, 8), (108, 8), (116, 8), (136, 12)] {
            header.put_octal(at, width, 0);
        }
        header.put_octal(124, 12, body.len() as u64);
        self.out.write_all(&header.sealed())?;
        body.resize(body.len().next_multiple_of(BLOCK), 0);
        self.out.write_all(&body)
    }
}

/// Writes content of the current entry.
impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "write tar: more content than the header says",
            ));
        }
        let n = self.out.write(bytes)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn short(left: u64, name: &[u8]) -> io::Error {
    let name = String::from_utf8_lossy(name);
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("write tar: {left} bytes of content are missing in {name}"),
    )
}

struct Header {
    bytes: [u8; BLOCK],
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl Header {
    fn new(flag: u8) -> Header {
        let mut bytes = [0; BLOCK];
        bytes[156] = flag;
        bytes[257..265].copy_from_slice(b"ustar\x0000");
        Header { bytes }
    }

    fn text(&mut self, at: usize, width: usize, value: &[u8], key: &str, records: &mut Records) {
        if value.len() > width || !value.is_ascii() {
            records.insert(key.into(), value.to_vec());
        }
        let value = ascii(value);
        let end = value.len().min(width);
        self.bytes[at..at + end].copy_from_slice(&value[..end]);
        // Some readers take a cut name that ends in a slash for a directory.
        if value.len() > width && value[width - 1] == b'/' {
            let kept = value[..width]
                .iter()
                .rposition(|&b| b != b'/')
                .map_or(0, |last| last + 1);
            self.bytes[at + kept] = 0;
        }
    }

    fn octal(&mut self, at: usize, width: usize, value: u64, key: &str, records: &mut Records) -> io::Result<()> {
        if value < 1 << (3 * (width - 1)) {
            self.put_octal(at, width, value);
            return Ok(());
        }
        if matches!(key, "mode" | "device") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("write tar: {key} {value} is too large"),
            ));
        }
        records.insert(key.into(), value.to_string().into_bytes());
        self.put_octal(at, width, 0);
        Ok(())
    }

    fn put_octal(&mut self, at: usize, width: usize, value: u64) {
        let text = format!("{value:0width$o}", width = width - 1);
        self.bytes[at..at + width - 1].copy_from_slice(text.as_bytes());
    }

    fn mtime(&mut self, time: Time, records: &mut Records) {
        let octal = u64::try_from(time.seconds).ok().filter(|&seconds| seconds < 1 << 33);
        self.put_octal(136, 12, octal.unwrap_or(0));
        if octal.is_none() || time.nanoseconds != 0 {
            records.insert("mtime".into(), pax_time(time).into_bytes());
        }
    }

    fn sealed(mut self) -> [u8; BLOCK] {
        self.bytes[148..156].fill(b' ');
        let sum: u32 = self.bytes.iter().map(|&byte| u32::from(byte)).sum();
        self.bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes
    }
}

fn ascii(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(u8::is_ascii).collect()
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::Regular => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other(flag) => flag,
    }
}

/// `"<length> <key>=<value>\n"`, where the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn pax_time(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, n) => ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - n),
        (false, n) => ("", time.seconds.unsigned_abs(), n),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}
