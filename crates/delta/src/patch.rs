//! A patched file: copies from one old file, corrected, and new bytes between them.
//!
//! The file is made in pieces, each with its own list of copies, so that the writer can bound its memory:
//!
//! ```text
//! piece = copies * 8 + 4 if the window is primed + 2 if addresses are foreseen + 1 if new bytes are binary
//!         for each copy: its length, length of the new bytes after it, distance of its place from the end of the last
//!         if addresses are foreseen: what is not in the list of copies (below)
//!         if the window of the new bytes' stream is primed: place and length of the old bytes that are put into it
//!         place of the first correction; then copy after copy, with the corrections in it and the new bytes after it
//! foreseen = for each load segment of the old file, its adjustment
//!         addresses that moved otherwise * 2 + 1 if there are Go's tables
//!         for each such address: it, and how far it moved
//!         of Go's tables: five places, the same in each piece of a file, and by how much more than the copies say the
//!         last four moved
//! ```
//!
//! Copies are done in windows of at most [`WINDOW`] bytes: old bytes, then addresses foreseen, then corrections. A
//! correction is a difference of little-endian 32-bit words, or of the bytes that are left at a window's end. Its place
//! counts copied bytes only, from the end of the correction before; a place at the end of all copies says that no more
//! follow.

use crate::address::{Foresight, Memory};
use crate::contents::Contents;
use crate::elf::{BEYOND, Beyond, Executable};
use crate::entry::Base;
use crate::error::Error;
use crate::go;
use crate::layer::FileId;
use crate::moves::Earlier;
use crate::old::Old;
use crate::stream::{Source, Stream, Streams};
use oci::tar_split::Crc64;
use std::io;
use std::sync::Arc;

/// A stretch copied from the old file, and how many new bytes follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub from: u64,
    pub length: u64,
    pub new: u64,
}

/// Most copies in a piece.
pub(crate) const COPIES: usize = 1 << 16;
/// Most old bytes that a window is primed with.
pub(crate) const PRIME: u64 = 4 << 20;

/// Most bytes of a copy that are done at once.
pub(crate) const WINDOW: usize = 512;
/// Bytes that stay as they were from which on they are not looked at window by window.
const UNCHANGED: usize = 4096;
/// Bytes that a window is primed with at once.
const PRIMED: usize = 32 * 1024;

/// The stream that new bytes of a piece are in.
fn new_stream(binary: bool) -> Stream {
    if binary { Stream::Binary } else { Stream::Text }
}

/// A piece of a new file, and the old bytes it is made from.
pub(crate) struct Piece<'a> {
    pub old: &'a [u8],
    /// Where `old` begins in the old file.
    pub old_at: u64,
    pub new: &'a [u8],
    pub new_at: u64,
    pub copies: &'a [Copy],
    pub binary: bool,
    /// What is known of the old file, if its addresses are foreseen.
    pub executable: Option<Executable>,
    pub earlier: &'a Earlier,
    /// Old bytes, by their place in `old`, that the new bytes may be like.
    pub prime: std::ops::Range<usize>,
}

/// Writes one piece. `last_end` is where the last copy of the piece before ended in the old file.
pub(crate) fn write(piece: &Piece<'_>, last_end: &mut u64, out: &mut Streams<'_>) -> Result<(), Error> {
    let Piece {
        new, copies, binary, ..
    } = *piece;
    let primed = !piece.prime.is_empty();
    let head = (copies.len() as u64) << 3
        | u64::from(primed) << 2
        | u64::from(piece.executable.is_some()) << 1
        | u64::from(binary);
    out.number(Stream::Copies, head);
    for copy in copies {
        out.number(Stream::Copies, copy.length);
        out.number(Stream::News, copy.new);
        out.signed(Stream::Seeks, copy.from.wrapping_sub(*last_end) as i64);
        *last_end = copy.from + copy.length;
    }
    if let Some(executable) = &piece.executable {
        for segment in &executable.segments {
            out.signed(Stream::Copies, segment.adjust);
        }
        let more = executable.beyond.len() as u64 * 2 + u64::from(executable.go.is_some());
        out.number(Stream::Copies, more);
        for beyond in &executable.beyond {
            out.number(Stream::Copies, beyond.address);
            out.signed(Stream::Copies, beyond.moved);
        }
        for number in executable.go.iter().flat_map(|(go, _)| go.places.numbers()) {
            out.number(Stream::Copies, number);
        }
        for adjust in executable.go.iter().flat_map(|(_, adjust)| adjust) {
            out.signed(Stream::Copies, *adjust);
        }
    }
    if primed {
        out.number(Stream::Copies, piece.old_at + piece.prime.start as u64);
        out.number(Stream::Copies, piece.prime.len() as u64);
        out.prime(new_stream(binary), &piece.old[piece.prime.clone()]);
    }
    let corrections = corrections(piece);
    let copied: u64 = copies.iter().map(|copy| copy.length).sum();
    let mut places = corrections.iter().map(|correction| correction.place);
    let mut next_place = |out: &mut Streams<'_>, end: u64| match places.next() {
        Some(place) => out.number(Stream::Places, place - end),
        None if end < copied => out.number(Stream::Places, copied - end),
        None => {}
    };
    let mut next = corrections.iter().peekable();
    let (mut at, mut copied_before) = (0usize, 0u64);
    next_place(out, 0);
    for copy in copies {
        copied_before += copy.length;
        while let Some(correction) = next.next_if(|next| next.place < copied_before) {
            out.signed(Stream::Changes, i64::from(correction.change as i32));
            next_place(out, correction.place + u64::from(correction.length));
            out.maybe_end_group()?;
        }
        at += copy.length as usize;
        out.bytes(new_stream(binary), &new[at..at + copy.new as usize])?;
        at += copy.new as usize;
    }
    out.maybe_end_group()
}

struct Correction {
    /// Place among all copied bytes.
    place: u64,
    change: u32,
    length: u8,
}

/// The difference of up to four bytes as little-endian numbers, and how to add it again.
fn difference(then: &[u8], now: &[u8]) -> u32 {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0u32, |number, &byte| number << 8 | u32::from(byte))
    };
    let difference = number(now).wrapping_sub(number(then));
    // Of fewer than four bytes the sign is that of the whole, so that a small step back is a small number.
    let unused = 32 - 8 * now.len() as u32;
    ((difference << unused) as i32 >> unused) as u32
}

fn add(bytes: &mut [u8], change: u32) {
    let number = bytes
        .iter()
        .rev()
        .fold(0u32, |number, &byte| number << 8 | u32::from(byte));
    let sum = number.wrapping_add(change).to_le_bytes();
    bytes.copy_from_slice(&sum[..bytes.len()]);
}

/// Goes through the copies as the reader will, and notes what is still wrong.
fn corrections(piece: &Piece<'_>) -> Vec<Correction> {
    let mut corrections = Vec::new();
    let mut foresight = piece
        .executable
        .clone()
        .map(|executable| Foresight::new(executable, piece.earlier, piece.copies, piece.new_at, Memory::default()));
    let (mut at, mut copied) = (0, 0);
    let mut window = Vec::with_capacity(WINDOW);
    for copy in piece.copies {
        let length = copy.length as usize;
        let from = (copy.from - piece.old_at) as usize;
        let (then, now) = (&piece.old[from..from + length], &piece.new[at..at + length]);
        let mut start = 0;
        while start < length {
            let end = length.min(start + WINDOW);
            window.clear();
            window.extend_from_slice(&then[start..end]);
            if let Some(foresight) = &mut foresight {
                let (old_at, new_at) = (copy.from + start as u64, piece.new_at + (at + start) as u64);
                let done = foresight.foresee(old_at, new_at, &mut window, end == length);
                window.truncate(done);
            }
            let wanted = &now[start..start + window.len()];
            let mut here = 0;
            loop {
                here += crate::lz::common(&window[here..], &wanted[here..]);
                if here == window.len() {
                    break;
                }
                let end = window.len().min(here + 4);
                corrections.push(Correction {
                    place: copied + (start + here) as u64,
                    change: difference(&window[here..end], &wanted[here..end]),
                    length: (end - here) as u8,
                });
                here = end;
            }
            if let Some(foresight) = &mut foresight {
                let old = &then[start..start + window.len()];
                let (old_at, new_at) = (copy.from + start as u64, piece.new_at + (at + start) as u64);
                foresight.learn(old_at, new_at, old, wanted);
            }
            start += window.len();
        }
        at += length + copy.new as usize;
        copied += copy.length;
    }
    corrections
}

/// A patched file that is being read.
pub(crate) struct Patched {
    file: FileId,
    old_size: u64,
    /// Its checksum is to be right before anything is made of it.
    checked: bool,
    /// It is not there: the patch is only gone through.
    lost: bool,
    /// What the old file is, once it was looked at.
    executable: Option<Option<Executable>>,
    foresight: Option<Foresight>,
    spare: Spare,
    earlier: Earlier,
    /// Bytes of the file made, still to come, and still to come of the current piece.
    made: u64,
    left: u64,
    piece_left: u64,
    /// The copy at work in the list of copies, which shrinks as it is done.
    at: usize,
    binary: bool,
    last_end: u64,
    /// Copied bytes before the next correction; copied bytes of the piece still to come.
    gap: u64,
    copied_left: u64,
    /// How much of the window at work was given out.
    given: usize,
}

/// Memory that a patch takes over from the one before: to get some and give it up for each file is work for the kernel.
#[derive(Default)]
pub(crate) struct Spare {
    learned: Option<Memory>,
    copies: Vec<Copy>,
    old: Old,
    /// The window at work as it is to be.
    window: Vec<u8>,
}

impl Patched {
    /// `spare` is what a file before left behind.
    pub fn new(file: FileId, old_size: u64, size: u64, checked: bool, mut spare: Spare) -> Patched {
        spare.copies.clear();
        spare.window.clear();
        spare.old.forget();
        Patched {
            file,
            old_size,
            checked,
            lost: false,
            executable: None,
            foresight: None,
            spare,
            earlier: Earlier::default(),
            made: 0,
            left: size,
            piece_left: 0,
            at: 0,
            binary: false,
            last_end: 0,
            gap: 0,
            copied_left: 0,
            given: 0,
        }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// The old file.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// What comes of it will not be used: the old file has changed, or is lost. Of one that is lost nothing is asked, and
    /// a patch whose own reading depends on its bytes is an error.
    pub fn in_vain(&mut self, lost: bool) {
        (self.checked, self.lost) = (false, lost);
    }

    /// Ends the file, and leaves to the next one what it can use.
    pub fn finish(mut self) -> Spare {
        self.end_foresight();
        self.spare
    }

    fn end_foresight(&mut self) {
        if let Some(foresight) = self.foresight.take() {
            self.spare.learned = Some(foresight.finish());
        }
    }

    fn wrong(&self, source: io::Error) -> Error {
        Error::BaseFile {
            layer: self.file.layer,
            entry: self.file.entry,
            source,
        }
    }

    /// Reads the next bytes of the file: at least one, unless it is at its end.
    pub fn read(
        &mut self,
        source: &mut Source<'_>,
        base: &Base,
        contents: &mut dyn Contents,
        into: &mut [u8],
    ) -> Result<usize, Error> {
        if self.executable.is_none() {
            if self.checked {
                self.check(base, contents)?;
            }
            let read = |at, into: &mut [u8]| contents.read_base(self.file, at, into);
            let executable = Executable::read(self.old_size, read);
            self.executable = Some(executable.map_err(|source| self.wrong(source))?);
        }
        let mut done = 0;
        while done < into.len() && self.left > 0 {
            if self.piece_left == 0 {
                self.begin_piece(source, contents)?;
            }
            let room = into.len() - done;
            let copy = self.spare.copies[self.at];
            let n;
            if self.given == self.spare.window.len() && copy.length > 0 && room >= WINDOW {
                n = match self.unchanged(copy, room) {
                    0 => self.fill(source, contents, &mut into[done..done + WINDOW])?,
                    n => self.take_over(n, contents, &mut into[done..done + n])?,
                };
            } else if self.given < self.spare.window.len() || copy.length > 0 {
                if self.given == self.spare.window.len() {
                    let mut window = std::mem::take(&mut self.spare.window);
                    window.resize(WINDOW, 0);
                    let filled = self.fill(source, contents, &mut window)?;
                    window.truncate(filled);
                    (self.spare.window, self.given) = (window, 0);
                }
                n = room.min(self.spare.window.len() - self.given);
                into[done..done + n].copy_from_slice(&self.spare.window[self.given..self.given + n]);
                self.given += n;
            } else {
                n = usize::try_from(copy.new).map_or(room, |new| new.min(room));
                source.bytes(new_stream(self.binary), &mut into[done..done + n])?;
                self.spare.copies[self.at].new -= n as u64;
            }
            done += n;
            self.made += n as u64;
            self.left -= n as u64;
            self.piece_left -= n as u64;
            let copy = self.spare.copies[self.at];
            if copy.length == 0 && copy.new == 0 && self.given == self.spare.window.len() {
                self.at += 1;
            }
        }
        Ok(done)
    }

    /// Reads the whole old file once: what is copied from it must be what the delta was made from.
    fn check(&self, base: &Base, contents: &mut dyn Contents) -> Result<(), Error> {
        let mut buffer = vec![0; 64 * 1024];
        let (mut crc, mut at) = (Crc64::default(), 0);
        while at < self.old_size {
            let n = usize::try_from(self.old_size - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = contents.read_base(self.file, at, &mut buffer[..n]);
            read.map_err(|source| self.wrong(source))?;
            crc.update(&buffer[..n]);
            at += n as u64;
        }
        if self.old_size > 0 && crc.value() != base.layer(self.file).crc(self.file.entry) {
            return Err(self.wrong(io::Error::new(io::ErrorKind::InvalidData, "it has changed")));
        }
        Ok(())
    }

    fn begin_piece(&mut self, source: &mut Source<'_>, contents: &mut dyn Contents) -> Result<(), Error> {
        let head = source.number(Stream::Copies)?;
        self.binary = head & 1 == 1;
        if self.lost && head & 6 != 0 {
            let text = "a file is gone that has to be there for what follows to be read";
            return Err(self.wrong(io::Error::new(io::ErrorKind::NotFound, text)));
        }
        let count = usize::try_from(head >> 3).ok().filter(|&count| count <= COPIES);
        let count = count.ok_or(Error::Format("a patch has too many copies"))?;
        self.spare.copies.clear();
        (self.at, self.copied_left) = (0, 0);
        for _ in 0..count {
            let length = source.number(Stream::Copies)?;
            let new = source.number(Stream::News)?;
            let from = self.last_end.wrapping_add_signed(source.signed(Stream::Seeks)?);
            let end = from.checked_add(length).filter(|&end| end <= self.old_size);
            self.last_end = end.ok_or(Error::Format("a copy reaches beyond the old file"))?;
            let piece = length
                .checked_add(new)
                .and_then(|bytes| bytes.checked_add(self.piece_left));
            self.piece_left = piece
                .filter(|&piece| piece <= self.left && length.saturating_add(new) > 0)
                .ok_or(Error::Format("a patch is larger than its file"))?;
            self.copied_left += length;
            self.spare.copies.push(Copy { from, length, new });
        }
        if self.piece_left == 0 {
            return Err(Error::Format("a patch makes nothing"));
        }
        self.end_foresight();
        if head & 2 != 0 {
            self.begin_foresight(source, contents)?;
        }
        if head & 4 != 0 {
            self.prime(source, contents)?;
        }
        self.next_correction(source)
    }

    /// Takes what else there is to foresee addresses by.
    fn begin_foresight(&mut self, source: &mut Source<'_>, contents: &mut dyn Contents) -> Result<(), Error> {
        let Some(Some(executable)) = &mut self.executable else {
            return Err(Error::Format("addresses are foreseen in a file that has none"));
        };
        for segment in &mut executable.segments {
            segment.adjust = source.signed(Stream::Copies)?;
        }
        let more = source.number(Stream::Copies)?;
        if more / 2 > BEYOND as u64 {
            return Err(Error::Format("too much lies beyond a file"));
        }
        executable.beyond.clear();
        for _ in 0..more / 2 {
            executable.beyond.push(Beyond {
                address: source.number(Stream::Copies)?,
                moved: source.signed(Stream::Copies)?,
            });
        }
        let places = match more & 1 {
            0 => None,
            _ => Some(go::Places::take(|| source.number(Stream::Copies))?),
        };
        match (&executable.go, places) {
            (Some((known, _)), places) if Some(known.places) != places => {
                return Err(Error::Format("Go's tables are in two places"));
            }
            (Some(_), _) | (None, None) => {}
            (None, Some(places)) => {
                let read = |at, into: &mut [u8]| contents.read_base(self.file, at, into);
                let tables = go::Tables::read(places, self.old_size, executable.wide, read);
                let tables = tables.map_err(|source| Error::BaseFile {
                    layer: self.file.layer,
                    entry: self.file.entry,
                    source,
                })?;
                let tables = tables.ok_or(Error::Format("Go's tables are not where they are said to be"))?;
                executable.go = Some((Arc::new(tables), go::Adjust::default()));
            }
        }
        if let Some((_, adjust)) = &mut executable.go {
            for adjust in adjust {
                *adjust = source.signed(Stream::Copies)?;
            }
        }
        let executable = executable.clone();
        let learned = self.spare.learned.take().unwrap_or_default();
        let foresight = Foresight::new(executable, &self.earlier, &self.spare.copies, self.made, learned);
        self.foresight = Some(foresight);
        self.earlier.add(&self.spare.copies, self.made);
        Ok(())
    }

    /// Puts old bytes into the window of the stream that new bytes come from.
    fn prime(&mut self, source: &mut Source<'_>, contents: &mut dyn Contents) -> Result<(), Error> {
        let mut at = source.number(Stream::Copies)?;
        let length = source.number(Stream::Copies)?;
        let end = at
            .checked_add(length)
            .filter(|&end| end <= self.old_size && length <= PRIME);
        let end = end.ok_or(Error::Format("a window is primed with too much"))?;
        let mut buffer = vec![0; PRIMED];
        while at < end {
            let n = usize::try_from(end - at).map_or(PRIMED, |left| left.min(PRIMED));
            let read = contents.read_base(self.file, at, &mut buffer[..n]);
            read.map_err(|source| self.wrong(source))?;
            source.prime(new_stream(self.binary), &buffer[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    fn next_correction(&mut self, source: &mut Source<'_>) -> Result<(), Error> {
        self.gap = self.copied_left;
        if self.copied_left > 0 {
            self.gap = source.number(Stream::Places)?;
        }
        if self.gap > self.copied_left {
            return Err(Error::Format("a correction lies beyond the copies"));
        }
        Ok(())
    }

    /// Makes the next window of the copy at work, in the first bytes of one, and says how many it has.
    fn fill(
        &mut self,
        source: &mut Source<'_>,
        contents: &mut dyn Contents,
        window: &mut [u8],
    ) -> Result<usize, Error> {
        let copy = self.spare.copies[self.at];
        let mut length = usize::try_from(copy.length).map_or(WINDOW, |length| length.min(WINDOW));
        let (file, size) = (self.file, self.old_size);
        let read = self.spare.old.read(file, size, &copy, length, contents);
        read.map_err(|source| self.wrong(source))?;
        window[..length].copy_from_slice(self.spare.old.at_hand(length));
        if let Some(foresight) = &mut self.foresight {
            let last = length as u64 == copy.length;
            length = foresight.foresee(copy.from, self.made, &mut window[..length], last);
        }
        let window = &mut window[..length];
        self.correct(source, window)?;
        if let Some(foresight) = &mut self.foresight {
            foresight.learn(copy.from, self.made, self.spare.old.at_hand(length), window);
        }
        self.spare.copies[self.at].from += length as u64;
        self.spare.copies[self.at].length -= length as u64;
        Ok(length)
    }

    /// How many bytes of a copy, in whole windows, are sure to stay as they were; 0 if it is not worth it.
    fn unchanged(&self, copy: Copy, room: usize) -> usize {
        if self.foresight.is_some() {
            return 0;
        }
        let most = usize::try_from(copy.length.min(self.gap)).map_or(room, |most| most.min(room));
        match most / WINDOW * WINDOW {
            n @ UNCHANGED.. => n,
            _ => 0,
        }
    }

    /// Copies bytes that stay as they were.
    fn take_over(&mut self, n: usize, contents: &mut dyn Contents, into: &mut [u8]) -> Result<usize, Error> {
        let copy = &mut self.spare.copies[self.at];
        let read = contents.read_base(self.file, copy.from, into);
        copy.from += n as u64;
        copy.length -= n as u64;
        self.gap -= n as u64;
        self.copied_left -= n as u64;
        read.map_err(|source| self.wrong(source))?;
        Ok(n)
    }

    /// Adds the corrections to a window.
    fn correct(&mut self, source: &mut Source<'_>, window: &mut [u8]) -> Result<(), Error> {
        let mut at = 0;
        loop {
            let left = window.len() - at;
            if self.gap >= left as u64 {
                self.gap -= left as u64;
                self.copied_left -= left as u64;
                return Ok(());
            }
            // Less than what is left of the window.
            let start = at + self.gap as usize;
            let end = window.len().min(start + 4);
            let change = source.signed(Stream::Changes)?;
            add(&mut window[start..end], change as u32);
            self.copied_left -= (end - at) as u64;
            at = end;
            self.next_correction(source)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_words_and_of_what_is_left_of_one() {
        for (then, now, wanted) in [
            (&[0xf0, 1, 0, 0][..], &[0x10, 2, 0, 0][..], 0x20i32),
            (&[0x10, 2], &[0xf0, 1], -0x20),
            (&[7], &[5], -2),
            (&[0, 0, 0, 0x80], &[0xff, 0xff, 0xff, 0x7f], -1),
            (&[1, 2, 3], &[1, 2, 4], 0x10000),
        ] {
            let change = difference(then, now);
            assert_eq!(change as i32, wanted);
            let mut bytes = then.to_vec();
            add(&mut bytes, change);
            assert_eq!(bytes, now);
        }
    }
}
