//! Contents of single files of a layer out of its own blob, where a delta's base has them no more.
//!
//! That is possible where the blob has places in its middle that can be read without what comes before: a plain tar,
//! eStargz, zstd:chunked ([`oci::blob_index`]). Nothing is asked of the registry before something is wanted. What comes
//! need not be right, and is not checked here: it is part of the layer's tar, whose sha256 is. Memory: the index, 5 MiB at
//! most, a gzip or zstd decoder, some buffers.

mod ranges;

use crate::find_delta::megabytes;
use crate::pace::Pace;
use delta::{FileId, Wanted};
use oci::blob_index::{FOOTER, Format, Index, Part, Table};
use oci::manifest::Descriptor;
use ranges::{Ask, Ranges, wrong};
use registry::{BlobError, BlobReader, ErrorKind, Repository};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::vec;
use store::decompress::{self, Compression};

/// Files that are named in the log.
const NAMED: usize = 16;

/// A layer's blob at its registry. Cheap to clone; clones share all of it.
#[derive(Clone)]
pub(crate) struct Rescue(Rc<RefCell<State>>);

struct State {
    blob: Descriptor,
    ranges: Shared,
    places: Option<Places>,
    /// Parts of the file at work that are still to come, and the one that is being read, with bytes left of it.
    parts: vec::IntoIter<Part>,
    part: Option<(Box<dyn Read>, u64)>,
    /// Files of the base that were done without.
    files: BTreeSet<FileId>,
}

/// How to find a file in the blob.
enum Places {
    /// Where it is in the tar.
    Tar,
    Index(Index, Compression),
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rescued {
    pub files: usize,
    /// Bytes of the blob that were asked for.
    pub bytes: u64,
}

/// In a line for the user.
impl fmt::Display for Rescued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, have) = match self.files {
            1 => ("file", "has"),
            _ => ("files", "have"),
        };
        let bytes = megabytes(self.bytes);
        write!(
            f,
            "{} {files} of the base {have} changed: fetched {bytes} of the full layer",
            self.files
        )
    }
}

impl Rescue {
    pub fn new(repository: &Repository, blob: &Descriptor, pace: &Pace) -> Rescue {
        let (repository, pace, descriptor) = (repository.clone(), pace.clone(), blob.clone());
        let ask = move |part| {
            let reader = repository.blob_part(&descriptor, part).map_err(about)?;
            Ok(Box::new(Paced(reader, pace.clone())) as Box<dyn Read>)
        };
        Rescue::of(blob, Box::new(ask))
    }

    fn of(blob: &Descriptor, ask: Ask) -> Rescue {
        Rescue(Rc::new(RefCell::new(State {
            blob: blob.clone(),
            ranges: Shared(Rc::new(RefCell::new(Ranges::new(blob.size, ask)))),
            places: None,
            parts: Vec::new().into_iter(),
            part: None,
            files: BTreeSet::new(),
        })))
    }

    /// Finds out if files of the blob can be read, which may ask the registry.
    pub fn prepare(&self) -> io::Result<()> {
        self.0.borrow_mut().find_places()
    }

    /// What was done so far; nothing if all came from the base.
    pub fn rescued(&self) -> Option<Rescued> {
        let state = self.0.borrow();
        (!state.files.is_empty()).then(|| Rescued {
            files: state.files.len(),
            bytes: state.ranges.0.borrow().fetched(),
        })
    }

    /// The layers, by their place in the delta's list, of which files were done without.
    pub fn layers(&self) -> BTreeSet<u32> {
        self.0.borrow().files.iter().map(|file| file.layer).collect()
    }
}

impl store::Elsewhere for Rescue {
    fn begin(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        self.0.borrow_mut().begin(wanted)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.0.borrow_mut().read(into)
    }
}

impl State {
    fn find_places(&mut self) -> io::Result<()> {
        if self.places.is_some() {
            return Ok(());
        }
        if self.blob.media_type.ends_with("tar") {
            self.places = Some(Places::Tar);
            return Ok(());
        }
        let size = self.blob.size;
        let table = match Table::of(&self.blob) {
            Some(table) => Some(table),
            None => {
                let mut last = Vec::new();
                self.ranges
                    .part(size.saturating_sub(FOOTER)..size)?
                    .read_to_end(&mut last)?;
                Table::find(&last, size)
            }
        };
        let Some(table) = table else {
            return Err(wrong("no file of the full layer can be fetched by itself"));
        };
        let compression = match table.format {
            Format::Estargz => Compression::Gzip,
            Format::ZstdChunked => Compression::Zstd,
        };
        let packed = self.ranges.part(table.start..table.end)?;
        let index = Index::read(table, BufReader::new(decompress::part(packed, compression)?))?;
        self.places = Some(Places::Index(index, compression));
        Ok(())
    }

    fn begin(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        self.find_places()?;
        let shown = String::from_utf8_lossy(wanted.name);
        self.part = None;
        let parts = match &self.places {
            Some(Places::Index(index, _)) => index.file(wanted.name, wanted.size),
            _ => Some(vec![Part {
                start: wanted.at,
                end: wanted.at.saturating_add(wanted.size),
                skip: 0,
                size: wanted.size,
            }]),
        };
        let mut parts = parts.ok_or_else(|| wrong(&format!("the index of the full layer's blob has no {shown}")))?;
        let mut done = wanted.done;
        parts.retain_mut(|part| {
            let passed = done.min(part.size);
            done -= passed;
            (part.skip, part.size) = (part.skip + passed, part.size - passed);
            part.size > 0
        });
        // Chunks of one file follow each other, if the index is as it should be.
        let in_order = parts.windows(2).all(|two| two[0].end <= two[1].start);
        let end = parts.last().filter(|_| in_order).map_or(0, |part| part.end);
        self.ranges.0.borrow_mut().expect(end);
        self.parts = parts.into_iter();
        if self.files.insert(wanted.instead_of) && self.files.len() <= NAMED {
            log::warn!(
                "layer {}: {shown} comes from the blob: the base's file has changed",
                self.blob.digest
            );
        }
        Ok(())
    }

    fn read(&mut self, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let (from, left) = match &mut self.part {
                Some((from, left)) if *left > 0 => (from, left),
                _ => {
                    let next = self.parts.next().ok_or_else(|| wrong("a file has too few parts"))?;
                    self.part = Some((self.open(&next)?, next.size));
                    continue;
                }
            };
            let room = usize::try_from(*left).map_or(into.len(), |left| left.min(into.len()));
            match from.read(&mut into[..room])? {
                0 => return Err(wrong("a part of a file is shorter than the blob's index says")),
                n => {
                    *left -= n as u64;
                    into = &mut into[n..];
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, part: &Part) -> io::Result<Box<dyn Read>> {
        // The one before is done with, and would read on.
        self.part = None;
        let Some(Places::Index(_, compression)) = &self.places else {
            let start = part.start.saturating_add(part.skip);
            return Ok(Box::new(self.ranges.part(start..part.end)?));
        };
        let packed = self.ranges.part(part.start..part.end)?;
        let mut content = decompress::part(packed, *compression)?;
        let passed = io::copy(&mut content.by_ref().take(part.skip), &mut io::sink())?;
        match passed == part.skip {
            true => Ok(content),
            false => Err(wrong("a part of a file is shorter than the blob's index says")),
        }
    }
}

/// The blob, for one reader at a time.
#[derive(Clone)]
struct Shared(Rc<RefCell<Ranges>>);

impl Shared {
    fn part(&self, part: std::ops::Range<u64>) -> io::Result<Shared> {
        self.0.borrow_mut().seek(part)?;
        Ok(self.clone())
    }
}

impl Read for Shared {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(into)
    }
}

/// Keeps to the allowance of all pulls.
struct Paced(BlobReader, Pace);

impl Read for Paced {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.0.advance(into).map_err(about)?;
        let wait = self.1.take(n);
        match wait.is_zero() || self.0.cancel_handle().sleep(wait) {
            true => Ok(n),
            false => Err(about(BlobError::Cancelled)),
        }
    }
}

/// To the store an interruption is what can be gone on after, and only the network's troubles and a client that left are.
fn about(error: BlobError) -> io::Error {
    let passes = match &error {
        BlobError::Broken { .. } | BlobError::Cancelled => true,
        BlobError::Registry(error) => matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::RateLimited | ErrorKind::Cancelled
        ),
        _ => false,
    };
    match passes {
        true => io::Error::other(error),
        false => wrong(&error.to_string()),
    }
}
