//! Decompression that can begin in the middle: what a pull needs to go on where it was interrupted.
//!
//! While a blob is decompressed, places are noted from which it could be done again: of a gzip stream the end of a
//! deflate block with the window there, at least [`SPACING`] bytes of output apart; of zstd the start of a frame; of
//! a plain tar any byte is one. Memory: a few windows of 32 KiB.

use crate::decompress;
use crate::error::{Doing, Error, Result};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex};
use sys::inflate::{Inflate, Stop};
use zstd::stream::raw::{Decoder, Operation};

/// Bytes of compressed data held at once.
const BUFFER: usize = 64 * 1024;

/// Least output between two places, in bytes: a place costs a copy of the window. With [`KEPT`] of them no less than the buffer
/// between here and the tar's reader (`unpack`), or none would be behind what that has read.
const SPACING: u64 = 128 * 1024;

/// Places remembered: whoever reads the output lags behind by a buffer, so the latest ones do.
const KEPT: usize = 3;

/// Largest zstd window, as a power of two: see [`crate::decompress`].
const ZSTD_WINDOW: u32 = 27;

/// A place from which decompression can begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub compression: Compression,
    /// Compressed bytes before it.
    pub input: u64,
    /// Decompressed bytes before it.
    pub output: u64,
    /// Bits of `byte`, the last one of the input before it, that are still to be used.
    pub bits: u8,
    pub byte: u8,
    /// Inside a gzip member if not empty; at the start of a member or a frame otherwise.
    pub window: Vec<u8>,
    /// Inside a gzip member, whatever the window.
    pub inside: bool,
}

impl Point {
    fn start(compression: Compression) -> Point {
        Point::fresh(compression, 0, 0)
    }

    /// A delta of which so many bytes are kept.
    pub(crate) fn in_delta(kept: u64) -> Point {
        Point::fresh(Compression::Delta, kept, 0)
    }

    fn fresh(compression: Compression, input: u64, output: u64) -> Point {
        Point {
            compression,
            input,
            output,
            bits: 0,
            byte: 0,
            window: Vec::new(),
            inside: false,
        }
    }
}

/// How a layer in a registry may be compressed, those ways that can be gone on with in the middle; or that what comes
/// is a delta, which is kept ([`crate::spool`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Delta,
}

impl Compression {
    /// Tells it from the first six bytes.
    fn of(head: &[u8]) -> Result<Compression> {
        match decompress::sniff(head) {
            decompress::Compression::None => Ok(Compression::None),
            decompress::Compression::Gzip => Ok(Compression::Gzip),
            decompress::Compression::Zstd => Ok(Compression::Zstd),
            decompress::Compression::Xz => Err(Error::Invalid("unsupported compression: xz".into())),
            decompress::Compression::Bzip2 => Err(Error::Invalid("unsupported compression: bzip2".into())),
        }
    }
}

/// The places noted so far, shared with whoever reads the output.
#[derive(Debug, Clone, Default)]
pub struct Points(Arc<Mutex<(Option<Compression>, VecDeque<Point>)>>);

impl Points {
    /// The latest place at or before a byte of the output.
    pub fn before(&self, output: u64) -> Option<Point> {
        let known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match known.0? {
            Compression::None => Some(Point::fresh(Compression::None, output, output)),
            _ => known.1.iter().rev().find(|point| point.output <= output).cloned(),
        }
    }

    /// About how many bytes of the output come behind byte `output`, of a blob of so many bytes: as if the rest were as
    /// compressible as what was before the latest place.
    pub fn rest(&self, blob_bytes: u64, output: u64) -> Option<u64> {
        let known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.0? == Compression::None {
            return Some(blob_bytes.saturating_sub(output));
        }
        let place = known.1.back().filter(|place| place.input > 0)?;
        let left = u128::from(blob_bytes.saturating_sub(place.input));
        let end = u128::from(place.output) + left * u128::from(place.output) / u128::from(place.input);
        Some(u64::try_from(end.saturating_sub(output.into())).unwrap_or(u64::MAX))
    }

    pub(crate) fn add(&self, point: Point) {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.0 = Some(point.compression);
        if known.1.len() == KEPT {
            known.1.pop_front();
        }
        known.1.push_back(point);
    }
}

/// A blob without its compression.
pub struct Restartable<R: Read> {
    source: BufReader<io::Chain<Cursor<Vec<u8>>, R>>,
    state: State,
    input: u64,
    output: u64,
    /// The last bytes of the input that were read, the latest last: the decoder reads ahead by up to 63 bits.
    last: [u8; 9],
    noted: u64,
    points: Points,
}

enum State {
    Plain,
    /// Before a gzip member, or behind the last.
    Member,
    Gzip(Box<Inflate>),
    /// Inside a member that was not begun by us; its trailer is to be skipped.
    Rest(Box<Inflate>),
    /// Bytes of a trailer to be skipped.
    Trailer(u8),
    Zstd {
        decoder: Box<Decoder<'static>>,
        /// In the middle of a frame.
        within: bool,
    },
}

impl<R: Read> Restartable<R> {
    /// Begins a blob at its first byte.
    pub fn open(mut stream: R) -> Result<Restartable<R>> {
        let mut head = Vec::new();
        let read = stream.by_ref().take(6).read_to_end(&mut head);
        read.doing("read", "a compressed layer")?;
        let point = Point::start(Compression::of(&head)?);
        Restartable::new(head, stream, point)
    }

    /// Goes on at a place: `stream` gives the bytes of the blob from `point.input` on.
    pub fn resume(stream: R, point: Point) -> Result<Restartable<R>> {
        Restartable::new(Vec::new(), stream, point)
    }

    fn new(head: Vec<u8>, stream: R, point: Point) -> Result<Restartable<R>> {
        let state = match point.compression {
            Compression::None => State::Plain,
            Compression::Gzip if point.inside => {
                let inflate = Inflate::between(point.bits, point.byte, &point.window);
                State::Rest(Box::new(inflate.doing("go on with", "a gzip stream")?))
            }
            Compression::Gzip => State::Member,
            Compression::Delta => return Err(Error::Invalid("a delta is no layer".into())),
            Compression::Zstd => State::Zstd {
                decoder: Box::new(zstd_decoder().doing("start", "zstd")?),
                within: false,
            },
        };
        let points = Points::default();
        points.add(point.clone());
        Ok(Restartable {
            source: BufReader::with_capacity(BUFFER, Cursor::new(head).chain(stream)),
            state,
            input: point.input,
            output: point.output,
            last: [point.byte; 9],
            noted: point.output,
            points,
        })
    }

    /// The places noted, now and later.
    pub fn points(&self) -> Points {
        self.points.clone()
    }

    /// Reads what follows the compressed data, so that whoever verifies the blob has seen all of it.
    pub fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self.source, &mut io::sink()).map(drop)
    }

    fn used(&mut self, read: usize, written: usize) {
        let bytes = &self.source.buffer()[..read];
        let new = &bytes[read.saturating_sub(self.last.len())..];
        self.last.rotate_left(new.len() % 9);
        self.last[9 - new.len()..].copy_from_slice(new);
        self.source.consume(read);
        self.input += read as u64;
        self.output += written as u64;
    }

    fn is_due(&self, output: u64) -> bool {
        #[cfg(feature = "known-bad")]
        if let Some(batch) = crate::fault::batch_limit() {
            return output >= self.noted + batch / 4;
        }
        output >= self.noted + SPACING
    }

    /// Notes the end of a deflate block, `bits` before the end of the input used.
    fn note_block(&mut self, bits: u8) {
        let (State::Gzip(inflate) | State::Rest(inflate)) = &self.state else {
            return;
        };
        if !self.is_due(self.output) {
            return;
        }
        let unused = bits / 8;
        self.note(Point {
            compression: Compression::Gzip,
            input: self.input - u64::from(unused),
            output: self.output,
            bits: bits % 8,
            byte: self.last[8 - usize::from(unused)],
            window: inflate.window(),
            inside: true,
        });
    }

    fn note(&mut self, point: Point) {
        if self.is_due(point.output) {
            self.noted = point.output;
            self.points.add(point);
        }
    }
}

fn zstd_decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW))?;
    Ok(decoder)
}

impl<R: Read> Read for Restartable<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let chunk = self.source.fill_buf()?;
            let ended = chunk.is_empty();
            match &mut self.state {
                State::Plain => {
                    let n = chunk.len().min(into.len());
                    into[..n].copy_from_slice(&chunk[..n]);
                    self.used(n, n);
                    return Ok(n);
                }
                State::Member if ended => return Ok(0),
                State::Member => {
                    let point = Point::fresh(Compression::Gzip, self.input, self.output);
                    self.state = State::Gzip(Box::new(Inflate::gzip()?));
                    self.note(point);
                }
                State::Trailer(0) => self.state = State::Member,
                State::Trailer(_) if ended => return Err(io::ErrorKind::UnexpectedEof.into()),
                State::Trailer(left) => {
                    let n = chunk.len().min(usize::from(*left));
                    *left -= u8::try_from(n).unwrap_or(*left);
                    self.used(n, 0);
                }
                State::Gzip(inflate) | State::Rest(inflate) => {
                    let step = inflate.step(chunk, into)?;
                    if ended && step.written == 0 && step.stop != Stop::End {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.used(step.read, step.written);
                    if let Stop::Between(bits) = step.stop {
                        self.note_block(bits);
                    }
                    if step.stop == Stop::End {
                        self.state = match self.state {
                            State::Rest(_) => State::Trailer(8),
                            _ => State::Member,
                        };
                    }
                    if step.written > 0 {
                        return Ok(step.written);
                    }
                }
                State::Zstd { within, .. } if ended => {
                    return if *within {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    } else {
                        Ok(0)
                    };
                }
                State::Zstd { decoder, within } => {
                    let status = decoder.run_on_buffers(chunk, into)?;
                    *within = status.remaining != 0;
                    let between = !*within;
                    self.used(status.bytes_read, status.bytes_written);
                    if between {
                        self.note(Point::fresh(Compression::Zstd, self.input, self.output));
                    }
                    if status.bytes_written > 0 {
                        return Ok(status.bytes_written);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn content(length: usize) -> Vec<u8> {
        let mut x = 88172645463325252u64;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bytes.extend_from_slice(&x.to_le_bytes()[..(x % 8) as usize]);
            bytes.extend_from_slice(b"and now something that compresses");
        }
        bytes.truncate(length);
        bytes
    }

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// From every place that was noted, the rest comes out the same.
    fn every_point(blob: &[u8], content: &[u8], least: usize) {
        let mut whole = Restartable::open(blob).unwrap();
        let points = whole.points();
        let (mut seen, mut got) = (Vec::<Point>::new(), Vec::new());
        let mut buffer = vec![0; 50_000];
        loop {
            let n = whole.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
            let point = points.before(got.len() as u64).unwrap();
            if seen.last() != Some(&point) {
                seen.push(point);
            }
            if n == 0 {
                break;
            }
        }
        assert!(got == content);
        assert!(seen.len() >= least, "{} points", seen.len());
        for point in seen {
            let at = usize::try_from(point.input).unwrap();
            let from = usize::try_from(point.output).unwrap();
            let mut rest = Vec::new();
            Restartable::resume(&blob[at..], point)
                .unwrap()
                .read_to_end(&mut rest)
                .unwrap();
            assert!(rest == content[from..]);
        }
    }

    #[test]
    fn goes_on_anywhere() {
        let content = content(6 << 20);
        for level in [3, 6, 9] {
            every_point(&gzip(&content, level), &content, 9);
        }
        // One block from beginning to end, as the fastest level makes it: only its start is a place.
        every_point(&gzip(&content, 1), &content, 1);
        let (one, two) = content.split_at(3 << 20);
        every_point(&[gzip(one, 6), gzip(two, 6)].concat(), &content, 9);
        let frames: Vec<u8> = content
            .chunks(1 << 20)
            .flat_map(|chunk| zstd::encode_all(chunk, 1).unwrap())
            .collect();
        every_point(&frames, &content, 6);
        every_point(&content, &content, 9);
        every_point(b"", b"", 1);
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error() {
        let content = content(1 << 20);
        for blob in [gzip(&content, 6), zstd::encode_all(&content[..], 1).unwrap()] {
            let mut sink = io::sink();
            let cut = &blob[..blob.len() - 9];
            assert!(io::copy(&mut Restartable::open(cut).unwrap(), &mut sink).is_err());
            let mut trailing = blob.clone();
            trailing.extend_from_slice(b"trailing rubbish");
            assert!(io::copy(&mut Restartable::open(&trailing[..]).unwrap(), &mut sink).is_err());
        }
    }

    #[test]
    fn the_rest_is_guessed_from_what_came() {
        let points = Points::default();
        assert_eq!(points.rest(100, 0), None);
        points.add(Point::start(Compression::None));
        assert_eq!((points.rest(100, 30), points.rest(100, 130)), (Some(70), Some(0)));
        let points = Points::default();
        points.add(Point::start(Compression::Gzip));
        assert_eq!(points.rest(100, 0), None);
        points.add(Point::fresh(Compression::Gzip, 20, 60));
        assert_eq!((points.rest(100, 60), points.rest(100, 70)), (Some(240), Some(230)));
        // The blob is longer than it was to be.
        assert_eq!(points.rest(10, 70), Some(0));
        assert_eq!(points.rest(u64::MAX, 0), Some(u64::MAX));
    }
}
