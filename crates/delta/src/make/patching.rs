//! Makes the patch of one file: gathers its bytes, finds the copies, and chooses how far to trust them.

use super::copies::{self, Places};
use crate::address;
use crate::contents::Contents;
use crate::error::Error;
use crate::layer::FileId;
use crate::patch::{self, Copy, PRIME, Piece};
use crate::stream::Streams;
use std::io;
use std::ops::Range;

/// Most bytes of an old file that a piece is made from.
const OLD: u64 = 16 << 20;
/// Most bytes of a new file in a piece.
const NEW: usize = 16 << 20;
/// Bytes of a new file in a piece that is unlike the old one, so that a window holds it and what it was primed with.
const UNLIKE_NEW: usize = 4 << 20;

/// By how many bytes a copy must be better than going on with the last one: in text, whose short copies the window
/// finds as well; in other files; in files so unlike that short copies would be all there is.
const TEXT: usize = 64;
const BINARY: usize = 8;
const UNLIKE: usize = 32;
/// Bytes from the middle of a large file that tell if it is unlike the old one: if so much of them, in percent, is new.
const SAMPLE: usize = 1 << 20;
const UNLIKE_NEW_PERCENT: u64 = 8;
/// Places tried for each copy.
const DEPTH: usize = 24;

/// A file that is patched.
pub(super) struct Patching {
    /// The old file, by the caller's numbers.
    file: FileId,
    old_size: u64,
    size: u64,
    text: bool,
    bytes: Vec<u8>,
    done: u64,
    last_end: u64,
    executable: patch::Executable,
    old: Option<Old>,
    /// Old and new are large and have little in common.
    unlike: Option<bool>,
}

/// The old bytes at hand, from a place in their file on, and their places by content.
struct Old {
    at: u64,
    bytes: Vec<u8>,
    places: Places,
}

/// Says if a large new file has little in common with the old one.
fn unlike(old: &Old, new: &[u8]) -> bool {
    if new.len() <= UNLIKE_NEW {
        return false;
    }
    let sample = &new[(new.len() - SAMPLE) / 2..][..SAMPLE];
    let found = copies::find(&old.places, &old.bytes, sample, BINARY, DEPTH);
    let is_new: u64 = found.iter().map(|copy| copy.new).sum();
    is_new * 100 > UNLIKE_NEW_PERCENT * SAMPLE as u64
}

impl Patching {
    pub fn new(file: FileId, old_size: u64, size: u64, text: bool) -> Patching {
        Patching {
            file,
            old_size,
            size,
            text,
            bytes: Vec::new(),
            done: 0,
            last_end: 0,
            executable: None,
            old: None,
            unlike: None,
        }
    }

    /// Takes the next bytes of the new file; says true when there are enough for a piece.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() >= NEW
    }

    fn wrong(&self, source: io::Error) -> Error {
        Error::BaseFile {
            layer: self.file.layer,
            entry: self.file.entry,
            source,
        }
    }

    /// Writes what was gathered.
    pub fn write(&mut self, contents: &mut dyn Contents, streams: &mut Streams<'_>) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        if self.done == 0 {
            self.look_for_segments(&bytes, contents)?;
        }
        let old = self.old(bytes.len(), contents)?;
        let unlike = *self.unlike.get_or_insert_with(|| unlike(&old, &bytes));
        if self.text || !unlike {
            let threshold = if self.text { TEXT } else { BINARY };
            let found = copies::find(&old.places, &old.bytes, &bytes, threshold, DEPTH);
            self.piece(&old, &bytes, found, streams)?;
            self.old = Some(old);
            return Ok(());
        }
        self.old = Some(old);
        for bytes in bytes.chunks(UNLIKE_NEW) {
            let old = self.old(bytes.len(), contents)?;
            let found = copies::find(&old.places, &old.bytes, bytes, UNLIKE, DEPTH / 2);
            self.piece(&old, bytes, found, streams)?;
            self.old = Some(old);
        }
        Ok(())
    }

    fn piece(&mut self, old: &Old, new: &[u8], mut copies: Vec<Copy>, streams: &mut Streams<'_>) -> Result<(), Error> {
        let prime = self.prime(old, new.len(), copies.iter().map(|copy| copy.new).sum());
        copies.iter_mut().for_each(|copy| copy.from += old.at);
        let piece = Piece {
            old: &old.bytes,
            old_at: old.at,
            new,
            new_at: self.done,
            copies: &copies,
            binary: !self.text,
            executable: self.executable.clone(),
            prime,
        };
        patch::write(&piece, &mut self.last_end, streams)?;
        self.done += new.len() as u64;
        Ok(())
    }

    /// The place in the old file that a place in the new one would have if both were stretched to one length.
    fn alike(&self, place: u64) -> u64 {
        let scaled = u128::from(place) * u128::from(self.old_size) / u128::from(self.size.max(1));
        u64::try_from(scaled).unwrap_or(self.old_size).min(self.old_size)
    }

    /// Brings the old bytes to hand for the next `length` new ones. Of a large file, what lies around the same place.
    fn old(&mut self, length: usize, contents: &mut dyn Contents) -> Result<Old, Error> {
        let middle = self.alike(self.done + length as u64 / 2);
        let at = middle.saturating_sub(OLD / 2).min(self.old_size.saturating_sub(OLD));
        if let Some(old) = self.old.take_if(|old| old.at == at) {
            return Ok(old);
        }
        self.old = None;
        let length = usize::try_from(self.old_size.min(OLD)).expect("OLD fits memory");
        let mut bytes = vec![0; length];
        let read = contents.read_base(self.file, at, &mut bytes);
        read.map_err(|source| self.wrong(source))?;
        let places = Places::new(&bytes);
        Ok(Old { at, bytes, places })
    }

    /// The old bytes to prime the window with, if enough is new for it to pay.
    fn prime(&self, old: &Old, length: usize, new: u64) -> Range<usize> {
        let most = PRIME as usize;
        if new < 256 || new.saturating_mul(16) < old.bytes.len().min(most) as u64 {
            return 0..0;
        }
        let middle = self.alike(self.done + length as u64 / 2).saturating_sub(old.at);
        let middle = usize::try_from(middle).unwrap_or(0);
        let start = middle
            .saturating_sub(most / 2)
            .min(old.bytes.len().saturating_sub(most));
        start..old.bytes.len().min(start + most)
    }

    /// Finds out if old and new are executables whose addresses can be foreseen.
    fn look_for_segments(&mut self, new: &[u8], contents: &mut dyn Contents) -> Result<(), Error> {
        let read = |at, into: &mut [u8]| contents.read_base(self.file, at, into);
        let old = address::segments(self.old_size, read).map_err(|source| self.wrong(source))?;
        let read = |at: u64, into: &mut [u8]| {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let bytes = start.checked_add(into.len()).and_then(|end| new.get(start..end));
            into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        let new = address::segments(new.len() as u64, read).unwrap_or(None);
        if let (Some((machine, mut old)), Some((_, new))) = (old, new) {
            address::adjust(&mut old, &new);
            self.executable = Some((machine, old));
        }
        Ok(())
    }
}
