//! The streams of a delta and the groups they come in.
//!
//! What belongs together goes into one stream, so that its coder learns one kind of bytes. A group is a piece of each
//! stream, cut where a reader needs nothing of the next group before it has used up this one:
//!
//! ```text
//! group = for each stream: length, and if it is not 0: packed length;  then the packed bytes of each, in order
//! ```

use crate::error::Error;
use crate::lz::{Decoder, Encoder, Tuning};
use crate::number::{self, fold, unfold};
use std::io::{Read, Write};

/// A stream, by what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Stream {
    /// A byte an entry: how its headers and its content are described.
    Shapes,
    /// Which fields of a header differ from the prediction.
    Fields,
    /// Entries of the base and of the target that are referred to.
    References,
    /// Lengths and sizes.
    Sizes,
    /// Differences of times.
    Times,
    /// Text of names and other fields, and raw bytes that are no ordinary headers.
    Names,
    /// Lengths of copies from old files, and what else describes a piece.
    Copies,
    /// Lengths of what is new between copies.
    News,
    /// Distances between the places of copies.
    Seeks,
    /// Where copies are corrected.
    Places,
    /// By what copies are corrected.
    Changes,
    /// New bytes in text.
    Text,
    /// New bytes in other files.
    Binary,
}

pub(crate) const STREAMS: usize = 13;

/// Each stream's coder: literal context, literal position, position; window.
const CODERS: [(Tuning, usize); STREAMS] = {
    const fn coder(literal_context: u32, literal_position: u32, position: u32, window: usize) -> (Tuning, usize) {
        let tuning = Tuning {
            literal_context,
            literal_position,
            position,
        };
        (tuning, 1 << window)
    }
    [
        coder(4, 0, 0, 18),
        coder(3, 0, 0, 18),
        coder(1, 0, 0, 18),
        coder(1, 0, 0, 18),
        coder(1, 0, 0, 18),
        coder(4, 0, 0, 20),
        coder(1, 0, 0, 20),
        coder(1, 0, 0, 20),
        coder(1, 0, 0, 20),
        coder(1, 0, 0, 20),
        coder(3, 0, 0, 20),
        coder(4, 0, 0, 22),
        coder(3, 0, 2, 23),
    ]
};

/// Bytes in all streams after which a writer ends a group.
const GROUP: usize = 1 << 20;
/// Most packed bytes of a group: a reader holds them. Groups of ordinary writers have little more than [`GROUP`].
const PACKED_LIMIT: u64 = 4 << 20;
/// Most bytes of one stream in a group.
const LENGTH_LIMIT: u64 = 4 << 20;

/// Gathers the streams and writes their groups.
pub(crate) struct Streams<'a> {
    out: &'a mut dyn Write,
    bytes: [Vec<u8>; STREAMS],
    /// What is to be put into a stream's window, and before which of its bytes.
    primes: [Vec<(usize, Vec<u8>)>; STREAMS],
    encoders: [Option<Box<Encoder>>; STREAMS],
    gathered: usize,
    /// Bytes before and after packing, for reports.
    pub totals: [(u64, u64); STREAMS],
    pub written: u64,
}

impl<'a> Streams<'a> {
    pub fn new(out: &'a mut dyn Write) -> Streams<'a> {
        Streams {
            out,
            bytes: Default::default(),
            primes: Default::default(),
            encoders: Default::default(),
            gathered: 0,
            totals: Default::default(),
            written: 0,
        }
    }

    /// Bytes put into each stream so far.
    pub fn counts(&self) -> [u64; STREAMS] {
        std::array::from_fn(|at| self.totals[at].0 + self.bytes[at].len() as u64)
    }

    pub fn byte(&mut self, stream: Stream, byte: u8) {
        self.bytes[stream as usize].push(byte);
        self.gathered += 1;
    }

    pub fn number(&mut self, stream: Stream, value: u64) {
        let bytes = &mut self.bytes[stream as usize];
        let before = bytes.len();
        number::put(bytes, value);
        self.gathered += bytes.len() - before;
    }

    pub fn signed(&mut self, stream: Stream, value: i64) {
        self.number(stream, fold(value));
    }

    /// Adds bytes; a long run of them ends groups on its way, so everything before it must have been added.
    pub fn bytes(&mut self, stream: Stream, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(GROUP));
            self.bytes[stream as usize].extend_from_slice(now);
            self.gathered += now.len();
            bytes = later;
            self.maybe_end_group()?;
        }
        Ok(())
    }

    /// Puts bytes that the reader has into a stream's window.
    pub fn prime(&mut self, stream: Stream, bytes: &[u8]) {
        let place = self.bytes[stream as usize].len();
        self.primes[stream as usize].push((place, bytes.to_vec()));
        // They wait in memory: many of them end a group, too.
        self.gathered += bytes.len() / 8;
    }

    /// Ends the group if it is large enough. To be called only where all of it will be read before more is needed.
    pub fn maybe_end_group(&mut self) -> Result<(), Error> {
        if self.gathered < GROUP {
            return Ok(());
        }
        self.end_group()
    }

    pub fn end_group(&mut self) -> Result<(), Error> {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        for (stream, bytes) in self.bytes.iter_mut().enumerate() {
            number::put(&mut head, bytes.len() as u64);
            let primes = std::mem::take(&mut self.primes[stream]);
            if bytes.is_empty() && primes.is_empty() {
                continue;
            }
            let (tuning, window) = CODERS[stream];
            let encoder = self.encoders[stream].get_or_insert_with(|| Box::new(Encoder::new(tuning, window)));
            let packed = encoder.block(bytes, &primes);
            if bytes.is_empty() {
                continue;
            }
            number::put(&mut head, packed.len() as u64);
            self.totals[stream].0 += bytes.len() as u64;
            self.totals[stream].1 += packed.len() as u64;
            body.extend_from_slice(&packed);
            bytes.clear();
        }
        self.out.write_all(&head)?;
        self.out.write_all(&body)?;
        self.written += (head.len() + body.len()) as u64;
        self.gathered = 0;
        Ok(())
    }
}

/// What was read of the streams so far.
#[derive(Default)]
pub(crate) struct Decoders([Option<Box<Decoder>>; STREAMS]);

impl Decoders {
    /// Checks that everything was used, to the delta's last byte.
    pub fn finish(self, mut from: impl Read) -> Result<(), Error> {
        if self.0.iter().flatten().any(|decoder| decoder.left() > 0) {
            return Err(Error::Format("bytes are left over"));
        }
        match from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Error::Format("bytes follow the end")),
        }
    }
}

/// Reads the streams, taking a group whenever one is used up. Where the groups come from is no parameter of its type: all
/// that is made of it is then compiled in this crate, to be quick, and once.
pub(crate) struct Source<'a> {
    from: &'a mut dyn Read,
    decoders: &'a mut [Option<Box<Decoder>>; STREAMS],
}

impl<'a> Source<'a> {
    pub fn new(from: &'a mut dyn Read, decoders: &'a mut Decoders) -> Source<'a> {
        Source {
            from,
            decoders: &mut decoders.0,
        }
    }

    /// The next byte of a stream that is never primed.
    #[inline]
    pub fn byte(&mut self, stream: Stream) -> Result<u8, Error> {
        debug_assert!(!matches!(stream, Stream::Text | Stream::Binary));
        loop {
            if let Some(decoder) = &mut self.decoders[stream as usize]
                && decoder.left() > 0
            {
                return decoder.byte();
            }
            self.group()?;
        }
    }

    pub fn number(&mut self, stream: Stream) -> Result<u64, Error> {
        number::get(|| self.byte(stream))
    }

    pub fn signed(&mut self, stream: Stream) -> Result<i64, Error> {
        self.number(stream).map(unfold)
    }

    /// Fills `into` from a stream.
    pub fn bytes(&mut self, stream: Stream, mut into: &mut [u8]) -> Result<(), Error> {
        while !into.is_empty() {
            let left = self.decoders[stream as usize]
                .as_ref()
                .map_or(0, |decoder| decoder.left());
            if left == 0 {
                self.group()?;
                continue;
            }
            let n = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
            let (now, later) = into.split_at_mut(n);
            if let Some(decoder) = &mut self.decoders[stream as usize] {
                decoder.read(now)?;
            }
            into = later;
        }
        Ok(())
    }

    /// Puts bytes into a stream's window.
    pub fn prime(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Error> {
        self.decoder(stream as usize).prime(bytes)
    }

    fn decoder(&mut self, stream: usize) -> &mut Decoder {
        let (tuning, window) = CODERS[stream];
        self.decoders[stream].get_or_insert_with(|| Box::new(Decoder::new(tuning, window)))
    }

    fn group(&mut self) -> Result<(), Error> {
        let mut lengths = [(0, 0); STREAMS];
        let (mut packed_total, mut total) = (0, 0);
        for (length, packed) in &mut lengths {
            *length = self.head_number()?;
            if *length > 0 {
                *packed = self.head_number()?;
            }
            if *length > LENGTH_LIMIT || *packed > PACKED_LIMIT {
                return Err(Error::Format("a group is too large"));
            }
            packed_total += *packed;
            total += *length;
        }
        if packed_total > PACKED_LIMIT {
            return Err(Error::Format("a group is too large"));
        }
        if total == 0 {
            return Err(Error::Format("a group is empty"));
        }
        for (stream, (length, packed)) in lengths.into_iter().enumerate() {
            let mut block = Vec::new();
            (&mut *self.from).take(packed).read_to_end(&mut block)?;
            if block.len() as u64 != packed {
                return Err(Error::Format("the delta ends early"));
            }
            if length == 0 {
                if self.decoders[stream].as_ref().is_some_and(|decoder| decoder.left() > 0) {
                    return Err(Error::Format("a group begins before the one before it is used up"));
                }
                continue;
            }
            self.decoder(stream).block(block, length)?;
        }
        Ok(())
    }

    fn head_number(&mut self) -> Result<u64, Error> {
        number::get(|| read_byte(&mut *self.from))
    }
}

pub(crate) fn read_byte(source: &mut (impl Read + ?Sized)) -> Result<u8, Error> {
    let mut byte = [0];
    match source.read_exact(&mut byte) {
        Ok(()) => Ok(byte[0]),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Format("the delta ends early")),
        Err(error) => Err(error.into()),
    }
}
