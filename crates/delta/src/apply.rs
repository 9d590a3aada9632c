//! Applies a delta: the target's tar comes out piece by piece, and with each file where its content is already.
//!
//! [`Delta`] reads the head, so that a caller can see which layers it needs. [`Pieces`] are the target's entries as
//! they are described. [`Target`] is the tar as a stream, with hints in front of it: a caller that unpacks the stream
//! can link a file instead of writing it. Memory: the base's layers, the streams' windows as far as they are filled
//! (18 MiB at most, all of them), one group, and one patch's copies.

use crate::contents::{Contents, Nothing, State, Wanted};
use crate::entry::{Base, Body, HeadBase, PIECE, RAW_LIMIT, Raw, Shape, TAIL, ZEROS};
use crate::error::Error;
use crate::header::Header;
use crate::heads::Heads;
use crate::layer::{FileId, Layer, digest};
use crate::patch::{Patched, Spare};
use crate::stream::{Decoders, Source, Stream};
use oci::tar::{BLOCK, Reader};
use oci::tar_split::Crc64;
use ring::digest::{Context, SHA256};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

/// What a reader accepts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the target's tar.
    pub tar_bytes: u64,
}

/// A delta whose head has been read.
pub struct Delta<R> {
    header: Header,
    source: R,
}

impl<R: Read> Delta<R> {
    /// Reads a delta's head. The source should be buffered.
    pub fn open(mut source: R, limits: Limits) -> Result<Delta<R>, Error> {
        let header = Header::read(&mut source)?;
        if header.tar_bytes > limits.tar_bytes {
            return Err(Error::Limit {
                what: "size of the target",
                limit: limits.tar_bytes,
            });
        }
        // Every entry has a block at least, so what is kept of each stays in proportion.
        if u64::from(header.entries) > header.tar_bytes / BLOCK as u64 {
            return Err(Error::Format("more entries than the result has room for"));
        }
        Ok(Delta { header, source })
    }

    /// What the delta says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Begins to apply it to the layers that its header names, in that order. Refuses others.
    pub fn pieces(self, base: Vec<Arc<Layer>>) -> Result<Pieces<R>, Error> {
        if base.len() != self.header.base.len() {
            return Err(Error::WrongBase("number of layers"));
        }
        for (layer, wanted) in base.iter().zip(&self.header.base) {
            if *layer.diff_id() != wanted.diff_id {
                return Err(Error::WrongBase("diff ID"));
            }
            if layer.fingerprint() != wanted.fingerprint {
                return Err(Error::WrongBase("headers or checksums of a layer"));
            }
        }
        Ok(Pieces {
            header: self.header,
            source: self.source,
            decoders: Decoders::default(),
            base: Base::new(base),
            heads: Heads::new(),
            sizes: Vec::new(),
            raw: Vec::new(),
            blocks: Vec::new(),
            next_head: 0,
            next_body: 0,
            size_before: 0,
            made: 0,
            done: false,
            new: None,
            spare: Spare::default(),
            checked: true,
        })
    }
}

/// Where an entry's content comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It has none.
    None,
    /// All of it is a file of the base's.
    Base(FileId),
    /// All of it is that of an earlier entry of the target's, counted from 0.
    Target(u32),
    /// It is read with [`Pieces::read`].
    New,
}

/// What comes next in the target's tar: raw bytes, and an entry's content if they end with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The entry, counted from 0, whose headers the raw bytes end with; nothing if they go on or end the tar.
    pub entry: Option<u32>,
    /// The entry of the base that its header is predicted from, which has the same name.
    pub head: Option<FileId>,
    pub content: Content,
    /// Bytes of the content.
    pub size: u64,
}

/// The target's entries, one after the other.
pub struct Pieces<R> {
    header: Header,
    source: R,
    decoders: Decoders,
    base: Base,
    heads: Heads,
    /// Sizes of the target's contents so far.
    sizes: Vec<u64>,
    raw: Vec<u8>,
    /// What a base's headers are unpacked into.
    blocks: Vec<u8>,
    next_head: i64,
    next_body: i64,
    size_before: u64,
    /// Bytes of the tar described so far.
    made: u64,
    done: bool,
    new: Option<New>,
    /// What a patch left to the next one.
    spare: Spare,
    /// Old files are checked before they are patched.
    checked: bool,
}

/// Content that is being read.
enum New {
    Plain { stream: Stream, left: u64 },
    Patched(Box<Patched>),
}

impl<R: Read> Pieces<R> {
    fn streams(&mut self) -> Source<'_> {
        Source::new(&mut self.source, &mut self.decoders)
    }

    /// What the delta says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The headers of the base's entry, for a caller that compares.
    pub fn base_layer(&self, layer: u32) -> Option<&Layer> {
        ((layer as usize) < self.header.base.len()).then(|| self.base.layer(FileId { layer, entry: 0 }))
    }

    /// The raw bytes of the piece that came last.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Goes to the next piece. New content of the one before must have been read.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Error> {
        if self.new.is_some() {
            return Err(Error::Format("new content was not read"));
        }
        self.raw.clear();
        if self.done {
            return Ok(None);
        }
        let shape = self.streams().byte(Stream::Shapes)?;
        let last = self.sizes.len() as u64 == u64::from(self.header.entries);
        let mut piece = Piece {
            entry: None,
            head: None,
            content: Content::None,
            size: 0,
        };
        if shape == PIECE {
            self.odd(RAW_LIMIT)?;
            if self.raw.is_empty() {
                return Err(Error::Format("a piece of raw bytes is empty"));
            }
            // Only raw bytes: what follows is no padding of a file's.
            self.size_before = 0;
        } else if last {
            match shape {
                ZEROS => {
                    self.padding();
                    let zeros = self.streams().number(Stream::Sizes)?;
                    return self.zeros(zeros).map(|()| Some(piece));
                }
                TAIL => self.odd(RAW_LIMIT)?,
                _ => return Err(Error::Format("an entry has an unknown shape")),
            }
            self.done = true;
        } else {
            self.entry(Shape::from_byte(shape)?, &mut piece)?;
        }
        self.count(self.raw.len() as u64 + piece.size)?;
        Ok(Some(piece))
    }

    /// Counts bytes of the tar that are about to come out.
    fn count(&mut self, bytes: u64) -> Result<(), Error> {
        let made = self
            .made
            .checked_add(bytes)
            .filter(|&made| made <= self.header.tar_bytes);
        self.made = made.ok_or(Error::Format("the result is larger than announced"))?;
        if self.done && self.made != self.header.tar_bytes {
            return Err(Error::Format("the result is smaller than announced"));
        }
        Ok(())
    }

    /// Ends the tar with zeros, of which a piece holds only so many.
    fn zeros(&mut self, zeros: u64) -> Result<(), Error> {
        let most = zeros.min(self.header.tar_bytes);
        let Some(size) = usize::try_from(most).ok().filter(|&size| size <= RAW_LIMIT) else {
            return Err(Error::Format("too many zeros at the end"));
        };
        self.raw.resize(self.raw.len() + size, 0);
        self.done = true;
        self.count(self.raw.len() as u64)
    }

    fn padding(&mut self) {
        let padding = usize::try_from(self.size_before.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.raw.resize(padding, 0);
    }

    fn odd(&mut self, limit: usize) -> Result<(), Error> {
        let length = self.streams().number(Stream::Sizes)?;
        let length = usize::try_from(length).ok().filter(|&length| length <= limit);
        let before = self.raw.len();
        self.raw
            .resize(before + length.ok_or(Error::Format("raw bytes are too long"))?, 0);
        Source::new(&mut self.source, &mut self.decoders).bytes(Stream::Names, &mut self.raw[before..])
    }

    fn entry(&mut self, shape: Shape, piece: &mut Piece) -> Result<(), Error> {
        let head = match shape.base {
            HeadBase::None => None,
            HeadBase::Next => Some(self.next_head),
            HeadBase::Named => Some(self.next_head.wrapping_add(self.streams().signed(Stream::References)?)),
        };
        let head = head.map(|number| self.base.file(number)).transpose()?;
        if let Some(head) = head {
            self.next_head = self.base.number(head) + 1;
        }
        let body = match (shape.body, head) {
            (Body::SameAsHead | Body::PatchedHead, head) => head,
            (Body::SameAsBase | Body::PatchedBase, _) => {
                let number = self.next_body.wrapping_add(self.streams().signed(Stream::References)?);
                Some(self.base.file(number)?)
            }
            _ => None,
        };
        if let Some(body) = body {
            self.next_body = self.base.number(body) + 1;
        }
        let wrong = Error::Format("an entry refers to itself or to what follows");
        (piece.content, piece.size) = match (shape.body, body) {
            (Body::SameAsHead | Body::SameAsBase, Some(file)) => (Content::Base(file), self.base.size(file)),
            (Body::PatchedHead | Body::PatchedBase, Some(file)) => {
                let difference = self.streams().signed(Stream::Sizes)?;
                let size = self.base.size(file).wrapping_add_signed(difference);
                let spare = std::mem::take(&mut self.spare);
                let patched = Patched::new(file, self.base.size(file), size, self.checked, spare);
                self.new = Some(New::Patched(Box::new(patched)));
                (Content::New, size)
            }
            (Body::SameAsTarget, _) => {
                let back = self.streams().number(Stream::References)?;
                let entry = (self.sizes.len() as u64).checked_sub(back).filter(|_| back > 0);
                let entry = entry.ok_or(wrong)?;
                let size = usize::try_from(entry).ok().and_then(|entry| self.sizes.get(entry));
                let size = *size.ok_or(Error::Format("an entry refers to itself or to what follows"))?;
                (Content::Target(entry as u32), size)
            }
            (Body::Text | Body::Binary, _) => {
                let left = self.streams().number(Stream::Sizes)?;
                let stream = if shape.body == Body::Text {
                    Stream::Text
                } else {
                    Stream::Binary
                };
                self.new = Some(New::Plain { stream, left });
                (Content::New, left)
            }
            _ => (Content::None, 0),
        };
        if piece.size == 0 {
            self.new = None;
            piece.content = Content::None;
        }
        // Before anything is made room for, or read: a size is only a claim.
        if piece.size > self.header.tar_bytes {
            return Err(Error::Format("the result is larger than announced"));
        }
        self.headers(shape.raw, head, piece.size)?;
        piece.entry = Some(self.sizes.len() as u32);
        piece.head = head;
        self.sizes.push(piece.size);
        self.size_before = piece.size;
        Ok(())
    }

    fn raw_blocks(head: &[u8]) -> Result<(&[u8], &[u8; BLOCK]), Error> {
        head.split_last_chunk::<BLOCK>()
            .ok_or(Error::Format("an entry's base has no header to predict from"))
    }

    fn headers(&mut self, raw: Raw, head: Option<FileId>, size: u64) -> Result<(), Error> {
        if raw == Raw::Odd {
            return self.odd(RAW_LIMIT);
        }
        self.padding();
        let mut buffer = std::mem::take(&mut self.blocks);
        let base = head.map(|head| self.base.blocks(head, &mut buffer));
        let base = base.map(Self::raw_blocks).transpose()?;
        match (raw, base) {
            (Raw::Extended, _) => self.odd(RAW_LIMIT)?,
            (Raw::SameExtension, Some((before, _))) => self.raw.extend_from_slice(before),
            (Raw::SameExtension, None) => return Err(Error::Format("an entry refers to a base it does not have")),
            _ => {}
        }
        let block = self.heads.read(
            base.map(|(_, block)| block),
            size,
            &mut Source::new(&mut self.source, &mut self.decoders),
        )?;
        self.raw.extend_from_slice(&block);
        self.blocks = buffer;
        Ok(())
    }

    /// Reads new content, as much as fits; 0 at its end. `base` is asked for what is copied from old files.
    pub fn read(&mut self, base: &mut dyn Contents, into: &mut [u8]) -> Result<usize, Error> {
        let Some(new) = &mut self.new else { return Ok(0) };
        let (n, left) = match new {
            New::Plain { stream, left } => {
                let n = usize::try_from(*left).map_or(into.len(), |left| left.min(into.len()));
                Source::new(&mut self.source, &mut self.decoders).bytes(*stream, &mut into[..n])?;
                *left -= n as u64;
                (n, *left)
            }
            New::Patched(patched) => {
                let n = patched.read(
                    &mut Source::new(&mut self.source, &mut self.decoders),
                    &self.base,
                    base,
                    into,
                )?;
                (n, patched.left())
            }
        };
        if left == 0
            && let Some(New::Patched(patched)) = self.new.take()
        {
            self.spare = patched.finish();
        }
        Ok(n)
    }

    /// The base's file that the new content is patched from.
    fn patched_from(&self) -> Option<FileId> {
        match &self.new {
            Some(New::Patched(patched)) => Some(patched.file()),
            _ => None,
        }
    }

    /// Goes through the patch of a file that has changed or is lost, so that what comes after it can be read.
    fn pass_patch(&mut self, contents: &mut dyn Contents, lost: bool) -> Result<(), Error> {
        if let Some(New::Patched(patched)) = &mut self.new {
            patched.in_vain(lost);
        }
        let mut buffer = vec![0; 16 << 10];
        let contents = if lost { &mut Nothing } else { contents };
        while self.new.is_some() {
            self.read(contents, &mut buffer)?;
        }
        Ok(())
    }

    /// Where the content of the piece that came last begins in the tar, and the name in its header.
    fn place_of(&self, piece: &Piece) -> (u64, Vec<u8>) {
        // The padding of the file before is what is left over of whole blocks.
        let blocks = &self.raw[self.raw.len() % BLOCK..];
        let entry = Reader::with_tap(blocks, ()).next_entry();
        let name = entry.ok().flatten().map_or(Vec::new(), |entry| entry.name);
        (self.made - piece.size, name)
    }

    /// Checks that the delta ends where the target does.
    pub fn finish(self) -> Result<(), Error> {
        if !self.done {
            return Err(Error::Format("the delta was not applied to its end"));
        }
        self.decoders.finish(self.source)
    }
}

/// What is known of an entry before its content comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The entry in the target, counted from 0.
    pub entry: u32,
    pub content: Content,
    /// The entry of the base that has the same name, if the delta names it.
    pub head: Option<FileId>,
    /// CRC-64 of the content if that is a file of the base's: as the base's layer has it, and so as the delta's maker had
    /// it, for the fingerprints agree.
    pub crc: Option<u64>,
}

/// Hints on entries whose content is somewhere already, in order. The stream is ahead of whoever unpacks it by what is
/// buffered, so hints wait here until they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Hints(Arc<Mutex<VecDeque<Hint>>>);

impl Hints {
    /// Takes the hint on an entry; entries must be asked for in order.
    pub fn take(&self, entry: u32) -> Option<Hint> {
        let mut hints = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while hints.front().is_some_and(|hint| hint.entry < entry) {
            hints.pop_front();
        }
        hints.pop_front_if(|hint| hint.entry == entry)
    }

    fn put(&self, hint: Hint) {
        let mut hints = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        hints.push_back(hint);
    }
}

/// Where the content of the piece at work comes from, if it was to be made from a file of the base's.
#[derive(Clone, Copy)]
enum Way {
    Unknown,
    AsToldByTheDelta,
    Elsewhere { instead_of: FileId, begun: bool },
}

/// The target's tar as a stream. Every file of the base that it reads is checked against its CRC-64, and at the end
/// the whole against the diff ID: a read that says "end" says that the tar is the right one.
///
/// What would be made from a file that is not whole any more ([`Contents::state`]) comes from elsewhere, without a hint,
/// for nothing is to be linked to that file. A patch is gone through all the same, for the sake of what follows it.
pub struct Target<R, C> {
    pieces: Option<Pieces<R>>,
    contents: C,
    hints: Hints,
    /// Raw bytes of the piece given out so far.
    raw_at: usize,
    piece: Piece,
    /// Content bytes of the piece given out so far, and their checksum.
    at: u64,
    crc: Crc64,
    hash: Option<Context>,
    way: Way,
    /// The first bytes are being passed.
    skipping: bool,
}

impl<R: Read, C: Contents> Target<R, C> {
    /// Reads the target of a delta with the base's contents.
    pub fn new(pieces: Pieces<R>, contents: C) -> Target<R, C> {
        Target {
            pieces: Some(pieces),
            contents,
            hints: Hints::default(),
            raw_at: 0,
            piece: Piece {
                entry: None,
                head: None,
                content: Content::None,
                size: 0,
            },
            at: 0,
            crc: Crc64::default(),
            hash: Some(Context::new(&SHA256)),
            way: Way::AsToldByTheDelta,
            skipping: false,
        }
    }

    /// Leaves the check against the diff ID to the caller, who computes it anyway, and with it that of the base's files:
    /// every byte of them that is used is in the result, so a second sum over them finds nothing more.
    pub fn unhashed(mut self) -> Target<R, C> {
        self.leave_checks();
        self
    }

    fn leave_checks(&mut self) {
        self.hash = None;
        if let Some(pieces) = &mut self.pieces {
            pieces.checked = false;
        }
    }

    /// Passes the first bytes of the tar, which somebody has already, and leaves the check against the diff ID to them.
    /// What is taken whole from elsewhere is not read.
    pub fn skip(&mut self, mut bytes: u64) -> Result<(), Error> {
        self.leave_checks();
        self.skipping = true;
        let mut buffer = vec![0; 16 << 10];
        while bytes > 0 {
            let is_raw = self
                .pieces
                .as_ref()
                .is_none_or(|pieces| self.raw_at < pieces.raw().len());
            let left = self.piece.size - self.at;
            if !is_raw && left > 0 && self.piece.content == Content::New && matches!(self.way, Way::Unknown) {
                self.find_way()?;
            }
            let taken = matches!(self.piece.content, Content::Base(_) | Content::Target(_))
                || matches!(self.way, Way::Elsewhere { .. });
            if !is_raw && left > 0 && taken {
                let n = left.min(bytes);
                self.at += n;
                bytes -= n;
                continue;
            }
            let room = usize::try_from(bytes).map_or(buffer.len(), |bytes| bytes.min(buffer.len()));
            match self.read_some(&mut buffer[..room])? {
                0 => return Err(Error::Format("the result is smaller than what was made of it")),
                n => bytes -= n as u64,
            }
        }
        self.skipping = false;
        Ok(())
    }

    /// Finds out where the content of the piece at work comes from.
    fn find_way(&mut self) -> Result<(), Error> {
        let Some(pieces) = &mut self.pieces else { return Ok(()) };
        let file = match self.piece.content {
            Content::Base(file) => Some(file),
            _ => pieces.patched_from(),
        };
        let state = file.map_or(State::Whole, |file| self.contents.state(file));
        self.way = match (file, state) {
            (None, _) | (_, State::Whole) => Way::AsToldByTheDelta,
            (Some(instead_of), state) => {
                pieces.pass_patch(&mut self.contents, state == State::Lost)?;
                Way::Elsewhere {
                    instead_of,
                    begun: false,
                }
            }
        };
        Ok(())
    }

    /// The hints that come with the stream.
    pub fn hints(&self) -> Hints {
        self.hints.clone()
    }

    /// The contents, for a caller who has more to ask of them.
    pub fn contents_mut(&mut self) -> &mut C {
        &mut self.contents
    }

    /// Reads some bytes, with the reason if that fails. After a failure there is nothing more to read.
    pub fn read_some(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let n = self.fill(into).inspect_err(|_| self.pieces = None)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&into[..n]);
        }
        Ok(n)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(pieces) = &mut self.pieces else { return Ok(0) };
            let raw = &pieces.raw()[self.raw_at..];
            if !raw.is_empty() {
                let n = raw.len().min(into.len());
                into[..n].copy_from_slice(&raw[..n]);
                self.raw_at += n;
                return Ok(n);
            }
            if self.at < self.piece.size {
                return self.content(into);
            }
            match pieces.next_piece()? {
                Some(piece) => {
                    (self.piece, self.raw_at, self.at) = (piece, 0, 0);
                    self.crc = Crc64::default();
                    self.way = Way::Unknown;
                    // What is only passed may be taken from the base without looking at it.
                    if !self.skipping {
                        self.find_way()?;
                    }
                    let Some(pieces) = &self.pieces else { return Ok(0) };
                    let as_told = !matches!(self.way, Way::Elsewhere { .. });
                    if let (Some(entry), Content::Base(_) | Content::Target(_)) = (piece.entry, piece.content)
                        && as_told
                    {
                        let Piece { content, head, .. } = piece;
                        let crc = match content {
                            Content::Base(file) => Some(pieces.base.layer(file).crc(file.entry)),
                            _ => None,
                        };
                        self.hints.put(Hint {
                            entry,
                            content,
                            head,
                            crc,
                        });
                    }
                }
                None => {
                    let target = pieces.header().target.clone();
                    if let Some(pieces) = self.pieces.take() {
                        pieces.finish()?;
                    }
                    if self.hash.take().is_some_and(|hash| digest(hash) != target) {
                        return Err(Error::WrongResult);
                    }
                    return Ok(0);
                }
            }
        }
    }

    fn content(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if let Way::Unknown = self.way {
            self.find_way()?;
        }
        let Some(pieces) = &mut self.pieces else { return Ok(0) };
        let left = self.piece.size - self.at;
        let room = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let into = &mut into[..room];
        if let Way::Elsewhere { instead_of, begun } = &mut self.way {
            if !std::mem::replace(begun, true) {
                let (at, name) = pieces.place_of(&self.piece);
                self.contents.begin_elsewhere(&Wanted {
                    instead_of: *instead_of,
                    name: &name,
                    at,
                    size: self.piece.size,
                    done: self.at,
                })?;
            }
            self.contents.read_elsewhere(into)?;
            return Ok(self.gave(room));
        }
        let n = match self.piece.content {
            Content::None => return Err(Error::Format("an entry without content has a size")),
            Content::New => pieces.read(&mut self.contents, into)?,
            Content::Target(entry) => {
                self.contents.read_target(entry, self.at, into)?;
                into.len()
            }
            Content::Base(file) => {
                let wrong = |source| Error::BaseFile {
                    layer: file.layer,
                    entry: file.entry,
                    source,
                };
                self.contents.read_base(file, self.at, into).map_err(wrong)?;
                if self.hash.is_none() {
                    return Ok(self.gave(room));
                }
                self.crc.update(into);
                if into.len() as u64 == left && self.crc.value() != pieces.base.layer(file).crc(file.entry) {
                    return Err(wrong(io::Error::new(io::ErrorKind::InvalidData, "it has changed")));
                }
                into.len()
            }
        };
        Ok(self.gave(n))
    }

    fn gave(&mut self, n: usize) -> usize {
        self.at += n as u64;
        n
    }
}

impl<R: Read, C: Contents> Read for Target<R, C> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(into)?)
    }
}
