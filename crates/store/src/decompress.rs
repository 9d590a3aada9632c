//! Finds out how a layer is compressed and takes that away, as a stream.

use crate::error::{Doing, Result};
use crate::filter::Filter;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// Bytes of compressed data held at once.
const BUFFER: usize = 64 * 1024;

/// Largest zstd window, as a power of two. 128 MiB is what `zstd --ultra` may ask for; a decoder allocates what the
/// frame declares, so ordinary layers (8 MiB at most) do not pay for it.
const ZSTD_WINDOW: u32 = 27;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// A stream without its compression.
pub enum Decompressed<R: Read> {
    Plain(Sniffed<R>),
    Gzip(Box<MultiGzDecoder<Sniffed<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Sniffed<R>>>),
    /// By a program of the system.
    Filtered(Compression, Box<Filter<Sniffed<R>>>),
}

type Sniffed<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

impl<R: Read> Decompressed<R> {
    /// Looks at the first bytes of a stream. Reads a few bytes, and after that only what is asked for.
    pub fn open(mut stream: R) -> Result<Decompressed<R>> {
        let mut head = Vec::new();
        stream
            .by_ref()
            .take(6)
            .read_to_end(&mut head)
            .doing("read", "a compressed layer")?;
        let kind = sniff(&head);
        let stream = BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(stream));
        Ok(match kind {
            Compression::None => Decompressed::Plain(stream),
            Compression::Gzip => Decompressed::Gzip(Box::new(MultiGzDecoder::new(stream))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(stream).doing("start", "zstd")?;
                decoder
                    .window_log_max(ZSTD_WINDOW)
                    .doing("limit the window of", "zstd")?;
                Decompressed::Zstd(Box::new(decoder))
            }
            Compression::Xz => {
                Decompressed::Filtered(kind, Box::new(Filter::start("xz", stream).doing("start", "xz")?))
            }
            Compression::Bzip2 => {
                Decompressed::Filtered(kind, Box::new(Filter::start("bzip2", stream).doing("start", "bzip2")?))
            }
        })
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self {
            Decompressed::Plain(_) => Compression::None,
            Decompressed::Gzip(_) => Compression::Gzip,
            Decompressed::Zstd(_) => Compression::Zstd,
            Decompressed::Filtered(kind, _) => *kind,
        }
    }

    /// Reads what follows the compressed data, so that whoever verifies the blob has seen all of it. What follows is
    /// not looked at.
    pub fn drain(self) -> io::Result<()> {
        let mut rest = match self {
            Decompressed::Plain(stream) => stream,
            Decompressed::Gzip(decoder) => decoder.into_inner(),
            Decompressed::Zstd(decoder) => decoder.finish(),
            Decompressed::Filtered(_, mut filter) => return drain(filter.source()),
        };
        drain(&mut rest)
    }
}

fn drain(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let n = rest.fill_buf()?.len();
        if n == 0 {
            return Ok(());
        }
        rest.consume(n);
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressed::Plain(stream) => stream.read(into),
            Decompressed::Gzip(decoder) => decoder.read(into),
            Decompressed::Zstd(decoder) => decoder.read(into),
            Decompressed::Filtered(_, filter) => filter.read(into),
        }
    }
}

/// Largest window of a part of a blob, as a power of two: 32 MiB is what skopeo's encoder says for large layers. It is
/// room that is taken, but used only as far as content comes.
const PART_WINDOW: u32 = 25;

/// Takes the compression of a part of a blob away, gzip members or zstd frames. Of a part nobody vouches for anything, so
/// nothing else is tried, and it cannot ask for much memory.
pub fn part<'a>(stream: impl Read + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    let stream = BufReader::with_capacity(BUFFER / 4, stream);
    match compression {
        Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(stream))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(PART_WINDOW)?;
            Ok(Box::new(decoder))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Tells the compression from the first six bytes.
pub fn sniff(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame (RFC 8878, 3.1.2), which zstd:chunked and pzstd put first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        _ => Compression::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Decompressed::open(bytes).unwrap().read_to_end(&mut text)?;
        Ok(text)
    }

    /// However much of the beginning there is: `load` looks at a block.
    #[test]
    fn kinds_by_their_beginnings() {
        for (magic, kind) in [
            (&[0x1f, 0x8b][..], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0x52, 0x2a, 0x4d, 0x18], Compression::Zstd),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"BZh", Compression::Bzip2),
            (b"tar", Compression::None),
        ] {
            for more in [0, 1, 506] {
                assert_eq!(sniff(&[magic, &vec![9; more]].concat()), kind, "{magic:?} and {more}");
            }
        }
    }

    #[test]
    fn each_kind_and_many_members() {
        let gzip = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(read(b"plain").unwrap(), b"plain");
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        assert_eq!(read(&[zstd(b"one "), zstd(b"two")].concat()).unwrap(), b"one two");
        let cut = gzip(&[7; 1000]);
        assert!(read(&cut[..cut.len() - 4]).is_err());
    }

    /// Compresses by the system's program; nothing where there is none.
    fn by_program(name: &str, text: &[u8]) -> Option<Vec<u8>> {
        use std::process::{Command, Stdio};
        let mut child = Command::new(name)
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut stdin = child.stdin.take().unwrap();
        let text = text.to_vec();
        let feed = std::thread::spawn(move || stdin.write_all(&text));
        let output = child.wait_with_output().unwrap();
        feed.join().unwrap().unwrap();
        Some(output.stdout)
    }

    #[test]
    fn xz_and_bzip2_by_the_systems_programs() {
        let text: Vec<u8> = (0..3_000_000u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        for name in ["xz", "bzip2"] {
            let Some(packed) = by_program(name, &text[..2_000_000]) else {
                println!("skipped: no {name} here");
                continue;
            };
            assert_eq!(read(&packed).unwrap(), &text[..2_000_000], "{name}");
            let mut stream = Decompressed::open(&packed[..]).unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            stream.drain().unwrap();
            assert!(read(&packed[..packed.len() / 2]).is_err(), "{name} cut");
            let mut changed = packed.clone();
            changed[packed.len() / 2] ^= 0x10;
            assert!(read(&changed).is_err(), "{name} changed");
        }
    }
}
