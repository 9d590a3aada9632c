//! Makes a delta: two looks at the target, one at the base.
//!
//! The caller surveys each layer ([`Survey::read`]), then [`write`] plans, reads the target's tar once more and writes.
//! Memory: the surveys; for the file at work at most 16 MiB of its old and of its new content, and 48 MiB to find the
//! one in the other; the coders' windows with their search trees, 95 MiB for binary and 55 MiB for text when full.

mod copies;
mod patching;
mod plan;
mod sections;
mod survey;
mod tables;

pub use survey::Survey;

use crate::contents::Contents;
use crate::entry::{Base, Body, HeadBase, PIECE, RAW_LIMIT, Raw, Shape, TAIL, ZEROS};
use crate::error::Error;
use crate::header::{BaseLayer, Header};
use crate::heads::Heads;
use crate::layer::{FileId, Hashing, Parts, digest, split_padding, take_apart};
use crate::stream::{Stream, Streams};
use oci::tar::{BLOCK, Entry, TarError};
use patching::Patching;
use plan::{Planned, Way};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What a delta came to.
#[derive(Debug, Clone)]
pub struct Report {
    pub header: Header,
    /// Bytes of the delta.
    pub bytes: u64,
    /// Of each stream its name, its bytes and what they were packed to.
    pub streams: Vec<(&'static str, u64, u64)>,
    /// Entries whose content is the base's, the target's own, patched, new; in this order.
    pub ways: [Amount; 4],
    /// Of the first of these, what has another header than in the base, and so cannot be the same file.
    pub touched: Amount,
    /// The entries whose content takes most of the delta, and about how many of its bytes, most first.
    pub largest: Vec<(u32, u64)>,
}

impl Report {
    /// Bytes that applying adds to a disk at most: of all that is not a file of the base's as it is, in blocks of
    /// 4 KiB. Where files can share blocks, those that were only touched add nothing.
    pub fn space(&self) -> u64 {
        let written = self.ways[1..].iter().chain([&self.touched]);
        written.map(|way| way.blocks * 4096).sum()
    }

    /// Bytes of it that are added also where files can share blocks: patched and new files.
    pub fn written(&self) -> u64 {
        self.ways[2..].iter().map(|way| way.blocks * 4096).sum()
    }
}

impl Amount {
    fn add(&mut self, size: u64) {
        self.files += 1;
        self.bytes += size;
        self.blocks += size.div_ceil(4096);
    }
}

/// How many entries a report names as the largest.
const LARGEST: usize = 16;

/// A number of files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
    /// Of 4 KiB, each file's own.
    pub blocks: u64,
}

/// Writes the delta that makes `target` from the layers of `base`, lowest first. `tar` is the target's tar once more.
/// `contents` is asked for files of the base, whose layers are counted as in `base`, and never for the target's.
pub fn write(
    base: &[&Survey],
    contents: &mut dyn Contents,
    target: &Survey,
    tar: impl Read,
    out: &mut dyn Write,
) -> Result<Report, Error> {
    let mut plan = plan::plan(base, target);
    // Only layers that are read become part of the delta: any image that has them will do.
    let mut used = vec![false; base.len()];
    for file in plan.iter().flat_map(files_of) {
        used[file.layer as usize] = true;
    }
    let kept: Vec<usize> = (0..base.len()).filter(|&layer| used[layer]).collect();
    let renumbered = |file: &mut FileId| {
        let place = kept.iter().position(|&layer| layer == file.layer as usize);
        file.layer = place.map_or(0, |place| place as u32);
    };
    for planned in &mut plan {
        planned.head.iter_mut().for_each(renumbered);
        if let Way::Same(file) | Way::Patch(file) = &mut planned.way {
            renumbered(file);
        }
    }
    let layers: Vec<_> = kept.iter().map(|&layer| base[layer].layer()).collect();
    let header = Header {
        target: target.diff_id().clone(),
        tar_bytes: target.tar_bytes(),
        entries: target.layer.entries(),
        base: layers
            .iter()
            .map(|layer| BaseLayer {
                diff_id: layer.diff_id().clone(),
                fingerprint: layer.fingerprint(),
            })
            .collect(),
    };
    let head = header.write();
    out.write_all(&head)?;
    let writer = Writer {
        plan: plan.iter(),
        facts: target.facts.iter(),
        base: Base::new(layers.into_iter().map(|layer| Arc::new(layer.clone())).collect()),
        kept: &kept,
        contents,
        streams: Streams::new(out),
        heads: Heads::new(),
        raw: Vec::new(),
        in_pieces: false,
        size_before: 0,
        next_head: 0,
        next_body: 0,
        number: 0,
        body: None,
        ways: Default::default(),
        touched: Amount::default(),
        before: Default::default(),
        costs: Vec::new(),
    };
    let mut tar = Hashing::new(tar);
    let mut writer = match take_apart(&mut tar, writer) {
        Ok(writer) => writer,
        Err(TarError::Io(error)) => return Err(unwrapped(error)),
        Err(error) => return Err(Error::Io(error.into())),
    };
    if digest(tar.context) != *target.diff_id() {
        return Err(changed());
    }
    writer.tail()?;
    writer.streams.end_group()?;
    let names = [
        "shapes",
        "fields",
        "references",
        "sizes",
        "times",
        "names",
        "copies",
        "news",
        "seeks",
        "places",
        "changes",
        "text",
        "binary",
    ];
    let totals = names.into_iter().zip(writer.streams.totals);
    Ok(Report {
        header,
        bytes: head.len() as u64 + writer.streams.written,
        streams: totals.map(|(name, (bytes, packed))| (name, bytes, packed)).collect(),
        ways: writer.ways,
        touched: writer.touched,
        largest: largest(&writer.costs, &writer.streams.totals),
    })
}

/// Spreads what the streams were packed to over the bytes that entries put into them.
fn largest(costs: &[(u32, Counts)], totals: &[(u64, u64); crate::stream::STREAMS]) -> Vec<(u32, u64)> {
    let packed = |counts: &Counts| -> u64 {
        let each = counts.iter().zip(totals).filter(|(_, (bytes, _))| *bytes > 0);
        each.map(|(&count, &(bytes, packed))| {
            u64::try_from(u128::from(count) * u128::from(packed) / u128::from(bytes)).unwrap_or(u64::MAX)
        })
        .sum()
    };
    let mut all: Vec<(u32, u64)> = costs.iter().map(|(entry, counts)| (*entry, packed(counts))).collect();
    all.sort_by_key(|&(entry, bytes)| (std::cmp::Reverse(bytes), entry));
    all
}

/// Bytes in each stream.
type Counts = [u64; crate::stream::STREAMS];

fn files_of(planned: &Planned) -> impl Iterator<Item = FileId> + use<> {
    let body = match planned.way {
        Way::Same(file) | Way::Patch(file) => Some(file),
        _ => None,
    };
    planned.head.into_iter().chain(body)
}

fn changed() -> Error {
    Error::Io(io::Error::other(
        "make delta: the target's tar has changed between two readings",
    ))
}

/// An error of ours that went through a reader that knows only `io::Error`.
fn unwrapped(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Io(error),
    }
}

/// Content on its way to the streams.
enum Making {
    /// Known to be elsewhere.
    Nothing,
    Plain(Stream),
    Patch(Box<Patching>),
}

struct Writer<'a> {
    plan: std::slice::Iter<'a, Planned>,
    facts: std::slice::Iter<'a, survey::Facts>,
    base: Base,
    /// The caller's numbers of the base's layers.
    kept: &'a [usize],
    contents: &'a mut dyn Contents,
    streams: Streams<'a>,
    heads: Heads,
    raw: Vec<u8>,
    /// Raw bytes went out as pieces since the last entry: what follows has no padding in front.
    in_pieces: bool,
    size_before: u64,
    next_head: i64,
    next_body: i64,
    number: u64,
    body: Option<Making>,
    ways: [Amount; 4],
    touched: Amount,
    /// What was in the streams before the content at work.
    before: Counts,
    /// What the dearest entries put into them.
    costs: Vec<(u32, Counts)>,
}

impl Parts for Writer<'_> {
    fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.raw.len() + bytes.len() > RAW_LIMIT {
            let (now, later) = bytes.split_at(RAW_LIMIT - self.raw.len());
            self.raw.extend_from_slice(now);
            bytes = later;
            self.piece()?;
        }
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    fn begin(&mut self, _: &Entry, held: bool) -> io::Result<()> {
        self.body = None;
        if held {
            self.body = Some(self.entry()?);
        }
        self.before = self.streams.counts();
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = match &mut self.body {
            Some(Making::Plain(stream)) => {
                let stream = *stream;
                return Ok(self.streams.bytes(stream, bytes)?);
            }
            Some(Making::Patch(patching)) => patching.push(bytes),
            _ => false,
        };
        if full { Ok(self.patch()?) } else { Ok(()) }
    }

    fn end(&mut self, _: u64) -> io::Result<()> {
        match self.body.take() {
            // No content of its own: all of it is raw.
            None => {
                self.entry()?;
            }
            Some(body) => {
                self.body = Some(body);
                self.patch()?;
                self.cost();
            }
        }
        Ok(self.streams.maybe_end_group()?)
    }
}

impl Writer<'_> {
    /// Notes what the content that has just ended put into the streams, if it is among the most.
    fn cost(&mut self) {
        let mut counts = self.streams.counts();
        for (count, before) in counts.iter_mut().zip(&self.before) {
            *count -= before;
        }
        let sum = |counts: &Counts| counts.iter().sum::<u64>();
        let (entry, bytes) = ((self.number - 1) as u32, sum(&counts));
        if bytes == 0 {
            return;
        }
        if self.costs.len() < LARGEST {
            self.costs.push((entry, counts));
        } else if let Some(least) = self.costs.iter_mut().min_by_key(|(_, counts)| sum(counts))
            && sum(&least.1) < bytes
        {
            *least = (entry, counts);
        }
    }

    /// Writes raw bytes that are too many to wait for their entry.
    fn piece(&mut self) -> Result<(), Error> {
        self.streams.byte(Stream::Shapes, PIECE);
        self.streams.number(Stream::Sizes, self.raw.len() as u64);
        self.streams.bytes(Stream::Names, &self.raw)?;
        self.raw.clear();
        (self.in_pieces, self.size_before) = (true, 0);
        self.streams.maybe_end_group()
    }

    /// Writes an entry up to its content, and says what to do with that.
    fn entry(&mut self) -> Result<Making, Error> {
        let (Some(planned), Some(facts)) = (self.plan.next().copied(), self.facts.next().copied()) else {
            return Err(changed());
        };
        let raw = std::mem::take(&mut self.raw);
        let blocks = if self.in_pieces {
            None
        } else {
            split_padding(&raw, self.size_before)
        };
        let mut buffer = Vec::new();
        let base_blocks = planned.head.map(|head| self.base.blocks(head, &mut buffer));
        let base_blocks = base_blocks.unwrap_or_default();
        // A base whose headers were too long to keep predicts nothing.
        let head = planned.head.filter(|_| !base_blocks.is_empty());
        let base_parts = base_blocks.split_last_chunk::<BLOCK>();
        let parts = blocks.and_then(|blocks| blocks.split_last_chunk::<BLOCK>());
        let kind = match (parts, base_parts) {
            (None, _) => Raw::Odd,
            (Some(([], _)), _) => Raw::Plain,
            (Some((before, _)), Some((base_before, _))) if before == base_before => Raw::SameExtension,
            _ => Raw::Extended,
        };
        let body = match planned.way {
            Way::None => Body::None,
            Way::Same(file) if head == Some(file) => Body::SameAsHead,
            Way::Same(_) => Body::SameAsBase,
            Way::Again(_) => Body::SameAsTarget,
            Way::Patch(file) if head == Some(file) => Body::PatchedHead,
            Way::Patch(_) => Body::PatchedBase,
            Way::New if facts.text => Body::Text,
            Way::New => Body::Binary,
        };
        let base = match head {
            None => HeadBase::None,
            Some(head) if self.base.number(head) == self.next_head => HeadBase::Next,
            Some(_) => HeadBase::Named,
        };
        // The same file under the same name, and no header of it differs.
        let as_it_is = body == Body::SameAsHead && blocks.is_some_and(|blocks| blocks == base_blocks);
        let shape = Shape { base, raw: kind, body };
        self.streams.byte(Stream::Shapes, shape.byte());
        if let Some(head) = head {
            let number = self.base.number(head);
            if base == HeadBase::Named {
                self.streams.signed(Stream::References, number - self.next_head);
            }
            self.next_head = number + 1;
        }
        if let Way::Same(file) | Way::Patch(file) = planned.way {
            let number = self.base.number(file);
            if matches!(body, Body::SameAsBase | Body::PatchedBase) {
                self.streams.signed(Stream::References, number - self.next_body);
            }
            self.next_body = number + 1;
        }
        match planned.way {
            Way::Again(entry) => self.streams.number(Stream::References, self.number - u64::from(entry)),
            Way::Patch(file) => {
                let difference = (facts.size as i64).wrapping_sub(self.base.size(file) as i64);
                self.streams.signed(Stream::Sizes, difference);
            }
            Way::New => self.streams.number(Stream::Sizes, facts.size),
            _ => {}
        }
        match parts {
            None => {
                self.streams.number(Stream::Sizes, raw.len() as u64);
                self.streams.bytes(Stream::Names, &raw)?;
            }
            Some((before, block)) => {
                if kind == Raw::Extended {
                    self.streams.number(Stream::Sizes, before.len() as u64);
                    self.streams.bytes(Stream::Names, before)?;
                }
                let base = base_parts.map(|(_, block)| block);
                self.heads.write(block, base, facts.size, &mut self.streams)?;
            }
        }
        self.number += 1;
        (self.size_before, self.in_pieces) = (facts.size, false);
        let (which, making) = match planned.way {
            Way::None => return Ok(Making::Nothing),
            Way::Same(_) => (0, Making::Nothing),
            Way::Again(_) => (1, Making::Nothing),
            Way::Patch(file) => {
                let theirs = FileId {
                    layer: self.kept[file.layer as usize] as u32,
                    ..file
                };
                let patching = Patching::new(theirs, self.base.size(file), facts.size, facts.text);
                let making = Making::Patch(Box::new(patching));
                (2, making)
            }
            Way::New if facts.text => (3, Making::Plain(Stream::Text)),
            Way::New => (3, Making::Plain(Stream::Binary)),
        };
        self.ways[which].add(facts.size);
        if which == 0 && !as_it_is {
            self.touched.add(facts.size);
        }
        Ok(making)
    }

    /// Writes a piece of a patched file, if there is one at work.
    fn patch(&mut self) -> Result<(), Error> {
        match &mut self.body {
            Some(Making::Patch(patching)) => patching.write(self.contents, &mut self.streams),
            _ => Ok(()),
        }
    }

    /// Writes what follows the last entry.
    fn tail(&mut self) -> Result<(), Error> {
        let raw = std::mem::take(&mut self.raw);
        let padding = usize::try_from(self.size_before.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        if raw.len() >= padding && raw.iter().all(|&byte| byte == 0) && !self.in_pieces {
            self.streams.byte(Stream::Shapes, ZEROS);
            self.streams.number(Stream::Sizes, (raw.len() - padding) as u64);
            return Ok(());
        }
        self.streams.byte(Stream::Shapes, TAIL);
        self.streams.number(Stream::Sizes, raw.len() as u64);
        self.streams.bytes(Stream::Names, &raw)
    }
}
