//! Makes the patch of one file: gathers its bytes, finds the copies, and chooses how far to trust them.

use super::copies::{self, Places};
use super::sections::{beyond, sections};
use super::tables;
use crate::contents::Contents;
use crate::elf::{BEYOND, Beyond, Executable, Segment};
use crate::error::Error;
use crate::go;
use crate::layer::FileId;
use crate::moves::{Earlier, Moves};
use crate::patch::{self, Copy, PRIME, Piece};
use crate::stream::Streams;
use std::io;
use std::ops::Range;
use std::sync::Arc;

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
    executable: Option<Executable>,
    earlier: Earlier,
    /// Go's tables in the new file.
    new_tables: Option<go::Tables>,
    old: Option<Old>,
    /// Old and new are large and have little in common.
    unlike: Option<bool>,
}

/// The old bytes at hand, from a place in their file on.
struct Old {
    at: u64,
    bytes: Vec<u8>,
    /// Their places by content, while copies are looked for.
    places: Option<Places>,
}

impl Old {
    fn find(&mut self, new: &[u8], threshold: usize, depth: usize) -> Vec<Copy> {
        let places = self.places.get_or_insert_with(|| Places::new(&self.bytes));
        copies::find(places, &self.bytes, new, threshold, depth)
    }
}

/// Says if a large new file has little in common with the old one.
fn unlike(old: &mut Old, new: &[u8]) -> bool {
    if new.len() <= UNLIKE_NEW {
        return false;
    }
    let sample = &new[(new.len() - SAMPLE) / 2..][..SAMPLE];
    let found = old.find(sample, BINARY, DEPTH);
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
            bytes: Vec::with_capacity(usize::try_from(size).map_or(NEW, |size| size.min(NEW))),
            done: 0,
            last_end: 0,
            executable: None,
            earlier: Earlier::default(),
            new_tables: None,
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
        let mut old = self.old(self.done, bytes.len(), contents)?;
        let unlike = *self.unlike.get_or_insert_with(|| unlike(&mut old, &bytes));
        let (length, threshold, depth) = match (self.text, unlike) {
            (false, true) => (UNLIKE_NEW, UNLIKE, DEPTH / 2),
            (false, false) => (NEW, BINARY, DEPTH),
            (true, _) => (NEW, TEXT, DEPTH),
        };
        let mut pieces = bytes.chunks(length).peekable();
        let (mut found, mut done) = (Vec::new(), self.done);
        while let Some(new) = pieces.next() {
            self.old = Some(old);
            old = self.old(done, new.len(), contents)?;
            found.push((new, old.find(new, threshold, depth)));
            done += new.len() as u64;
            // All pieces from the same old bytes are looked through first: what finds copies and what codes them
            // need much memory, and so not at one time.
            if pieces.peek().is_some_and(|next| self.place(done, next.len()) == old.at) {
                continue;
            }
            if pieces.peek().is_some() || done == self.size {
                old.places = None;
            }
            for (new, copies) in found.drain(..) {
                self.piece(&old, new, copies, streams)?;
            }
        }
        self.old = Some(old);
        Ok(())
    }

    fn piece(&mut self, old: &Old, new: &[u8], mut copies: Vec<Copy>, streams: &mut Streams<'_>) -> Result<(), Error> {
        let prime = self.prime(old, new.len(), copies.iter().map(|copy| copy.new).sum());
        copies.iter_mut().for_each(|copy| copy.from += old.at);
        self.fit_tables(old, new, &mut copies);
        let piece = Piece {
            old: &old.bytes,
            old_at: old.at,
            new,
            new_at: self.done,
            copies: &copies,
            binary: !self.text,
            executable: self.simplified(&copies),
            earlier: &self.earlier,
            prime,
        };
        patch::write(&piece, &mut self.last_end, streams)?;
        if self.executable.is_some() {
            self.earlier.add(&copies, self.done);
        }
        self.done += new.len() as u64;
        Ok(())
    }

    /// The place in the old file that a place in the new one would have if both were stretched to one length.
    fn alike(&self, place: u64) -> u64 {
        let scaled = u128::from(place) * u128::from(self.old_size) / u128::from(self.size.max(1));
        u64::try_from(scaled).unwrap_or(self.old_size).min(self.old_size)
    }

    /// Where the old bytes begin that are for `length` new ones, of a large file what lies around the same place.
    fn place(&self, done: u64, length: usize) -> u64 {
        let middle = self.alike(done + length as u64 / 2);
        middle.saturating_sub(OLD / 2).min(self.old_size.saturating_sub(OLD))
    }

    /// Brings the old bytes to hand for new ones.
    fn old(&mut self, done: u64, length: usize, contents: &mut dyn Contents) -> Result<Old, Error> {
        let at = self.place(done, length);
        if let Some(old) = self.old.take_if(|old| old.at == at) {
            return Ok(old);
        }
        self.old = None;
        let length = usize::try_from(self.old_size.min(OLD)).expect("OLD fits memory");
        let mut bytes = vec![0; length];
        let read = contents.read_base(self.file, at, &mut bytes);
        read.map_err(|source| self.wrong(source))?;
        Ok(Old {
            at,
            bytes,
            places: None,
        })
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
        let mut read = |at, into: &mut [u8]| contents.read_base(self.file, at, into);
        let old = Executable::read(self.old_size, &mut read).map_err(|source| self.wrong(source))?;
        let Some(mut old) = old else { return Ok(()) };
        let of_new = |at: u64, into: &mut [u8]| {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let bytes = start.checked_add(into.len()).and_then(|end| new.get(start..end));
            into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        let size = new.len() as u64;
        let Some(new) = Executable::read(size, of_new).unwrap_or(None) else {
            return Ok(());
        };
        old.adjust(&new);
        let sections_of_old = sections(self.old_size, &mut read).map_err(|source| self.wrong(source))?;
        // The sections of the new file are known if all of it is at hand.
        let sections_of_new = match size == self.size {
            true => sections(size, &mut { of_new }).unwrap_or_default(),
            false => Vec::new(),
        };
        old.beyond = beyond(&sections_of_old, &sections_of_new, [&old.segments, &new.segments]);
        let tables = tables::find(&old, &sections_of_old, self.old_size, &mut read);
        let tables = tables.map_err(|source| self.wrong(source))?;
        if let Some(tables) = tables {
            self.new_tables = tables::find(&new, &sections_of_new, size, &mut { of_new }).unwrap_or(None);
            old.go = Some((Arc::new(tables), Default::default()));
        }
        self.executable = Some(old);
        Ok(())
    }

    /// What is known of the old file, but for what the copies say, too.
    fn simplified(&self, copies: &[Copy]) -> Option<Executable> {
        let mut executable = self.executable.clone()?;
        let moves = Moves::new(&self.earlier, copies, self.done);
        let segments = &executable.segments;
        let place = |address: u64| {
            let inside = |segment: &&Segment| address.wrapping_sub(segment.address) < segment.in_memory;
            let segment = segments.iter().find(inside)?;
            let within = address - segment.address;
            let is_beyond = within >= segment.in_file || within + segment.offset >= moves.end;
            is_beyond.then_some((segment, within + segment.offset))
        };
        let mut beyond = executable.beyond;
        beyond.retain(|beyond| place(beyond.address).is_some());
        beyond.dedup_by_key(|beyond| beyond.moved);
        let said = |beyond: &Beyond| {
            let (segment, place) = place(beyond.address)?;
            Some(moves.at(place)?.wrapping_add(segment.adjust))
        };
        if beyond.iter().all(|beyond| said(beyond) == Some(beyond.moved)) {
            beyond.clear();
        }
        beyond.truncate(BEYOND);
        executable.beyond = beyond;
        Some(executable)
    }

    /// Lets the copies fit Go's tables, and finds out how these moved.
    fn fit_tables(&mut self, old: &Old, new: &[u8], copies: &mut Vec<Copy>) {
        let Some((tables, adjust)) = self.executable.as_mut().and_then(|executable| executable.go.as_mut()) else {
            return;
        };
        let Some(new_tables) = &self.new_tables else {
            return;
        };
        let whole = new.len() as u64 == self.size && old.bytes.len() as u64 == self.old_size;
        if whole {
            tables::align(tables, &old.bytes, new_tables, new, copies);
        }
        let moves = Moves::new(&self.earlier, copies, self.done);
        let places = tables
            .places
            .adjustable()
            .into_iter()
            .zip(new_tables.places.adjustable());
        for (adjust, (old, new)) in adjust.iter_mut().zip(places) {
            let foreseen = moves.at(old).map_or(old, |moved| old.wrapping_add_signed(moved));
            *adjust = if old == 0 || new == 0 {
                0
            } else {
                new.wrapping_sub(foreseen) as i64
            };
        }
    }
}
