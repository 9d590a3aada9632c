//! The tars of an image's layers, one after the other, as one file that can be read anywhere: what balenaEngine's
//! deltas are applied to.
//!
//! Nothing is written for it: headers are kept in memory, packed, about 200 bytes an entry; contents are read from the
//! layers' files, of which one is open. The files are not checked here: who reads knows what must come out.

use crate::error::{Doing, Error, Result};
use crate::layers::{ChainId, DiffId, LayerId, Layers, missing};
use crate::layout::Layout;
use crate::rebuild::{Passing, open};
use flate2::bufread::MultiGzDecoder;
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::tar_split::{Lines, Piece};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Raw bytes of a segment at most.
const SEGMENT: usize = 32 * 1024;

/// A stretch of the tars: raw bytes, packed, or a file's content, its name. Both lie in `BaseTar::packed` up to `end`.
struct Segment {
    start: u64,
    end: usize,
    is_file: bool,
}

/// Several layers' tars in a row.
#[derive(Default)]
pub struct BaseTar {
    packed: Vec<u8>,
    segments: Vec<Segment>,
    bytes: u64,
    /// The layers' directories, each with the segment that it begins with.
    roots: Vec<(usize, OwnedFd)>,
    /// So that they stay; a store of somebody else's has no such thing.
    held: Vec<LayerId>,
    /// What was read last.
    raw: Option<(usize, Vec<u8>)>,
    opened: Option<(usize, Passing)>,
}

impl BaseTar {
    /// Bytes of all tars.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, split: &Path, diff: &Path) -> Result<()> {
        self.roots
            .push((self.segments.len(), crate::durable::open_directory(diff)?));
        let compressed = BufReader::new(File::open(split).doing("open", split)?);
        let mut lines = Lines::new(BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(compressed)));
        let damaged = |why: &dyn std::fmt::Display| Error::Invalid(format!("read {}: {why}", split.display()));
        while let Some(piece) = lines.next_piece().map_err(|e| damaged(&e))? {
            match piece {
                Piece::Raw(bytes) => bytes.chunks(SEGMENT).try_for_each(|part| {
                    delta::pack(part, &mut self.packed);
                    self.segment(part.len() as u64, false)
                }),
                Piece::File { size: 0, .. } => Ok(()),
                Piece::File { name, size, .. } => {
                    self.packed.extend_from_slice(&name);
                    self.segment(size, true)
                }
            }?;
        }
        Ok(())
    }

    fn segment(&mut self, bytes: u64, is_file: bool) -> Result<()> {
        self.segments.push(Segment {
            start: self.bytes,
            end: self.packed.len(),
            is_file,
        });
        let sum = self.bytes.checked_add(bytes);
        self.bytes = sum.ok_or_else(|| Error::Invalid("the base's tars are too large".into()))?;
        Ok(())
    }

    fn text(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.segments[before].end);
        &self.packed[start..self.segments[at].end]
    }

    /// Reads from one segment; the whole of `into` lies in it.
    fn read_in(&mut self, at: usize, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.segments[at].is_file {
            if self.opened.as_ref().is_none_or(|(opened, _)| *opened != at) {
                self.opened = None;
                let root = self.roots.partition_point(|(first, _)| *first <= at);
                let (_, root) = root
                    .checked_sub(1)
                    .map(|at| &self.roots[at])
                    .ok_or(io::ErrorKind::NotFound)?;
                self.opened = Some((at, open(root.as_fd(), self.text(at))?));
            }
            let (_, file) = self.opened.as_ref().expect("it was opened right now");
            return file.file().read_exact_at(into, offset);
        }
        if self.raw.as_ref().is_none_or(|(read, _)| *read != at) {
            self.raw = Some((at, delta::unpack(self.text(at))));
        }
        let (_, raw) = self.raw.as_ref().expect("it was unpacked right now");
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let part = start.checked_add(into.len()).and_then(|end| raw.get(start..end));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl delta::rsync::ReadAt for BaseTar {
    fn read_at(&mut self, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let at = self.segments.partition_point(|segment| segment.start <= offset);
            let at = at.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
            let start = self.segments[at].start;
            let end = self.segments.get(at + 1).map_or(self.bytes, |next| next.start);
            let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            if left == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let n = left.min(into.len());
            let (now, rest) = into.split_at_mut(n);
            self.read_in(at, offset - start, now)?;
            (offset, into) = (offset + n as u64, rest);
        }
        Ok(())
    }
}

impl delta::rsync::ReadAt for &mut BaseTar {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, into)
    }
}

impl Layers {
    /// The tars of layers, lowest first, held as long as this is.
    pub fn base_tar(&self, layers: &[LayerId]) -> Result<BaseTar> {
        let mut tar = BaseTar::default();
        for layer in layers {
            let chain = layer.chain_id();
            let info = self.info(chain).ok_or_else(|| missing(chain))?;
            let split = self.layout().layer_record(chain).join("tar-split.json.gz");
            tar.add(&split, &self.layout().overlay_layer(&info.cache_id).join("diff"))?;
            tar.held.push(layer.clone());
        }
        Ok(tar)
    }
}

/// A data root that another engine made, and of which only images are read. Nothing in it is locked, held or changed.
#[derive(Debug, Clone)]
pub struct OtherStore(Layout);

impl OtherStore {
    pub fn new(root: &Path) -> OtherStore {
        OtherStore(Layout::new(root))
    }

    /// The config of an image, if it is there.
    pub fn config(&self, image: &Digest) -> Result<Option<ImageConfig>> {
        let path = self.0.image_content(image);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.doing("read", &path)?,
        };
        if crate::hash::sha256(&bytes) != *image {
            return Err(Error::Invalid(format!("{} is damaged", path.display())));
        }
        let config = ImageConfig::parse(&bytes);
        config
            .map(Some)
            .map_err(|e| Error::Invalid(format!("read {}: {e}", path.display())))
    }

    /// The tars of layers, given by the diff IDs of all from the lowest one on; `from` of them are left out.
    pub fn base_tar(&self, diffs: &[Digest], from: usize) -> Result<BaseTar> {
        let (mut tar, mut chain) = (BaseTar::default(), None::<ChainId>);
        for (at, diff) in diffs.iter().enumerate() {
            let next = ChainId::of(chain.as_ref(), &DiffId(diff.clone()));
            let record = self.0.layer_record(&next);
            if at >= from {
                let path = record.join("cache-id");
                let cache_id = std::fs::read_to_string(&path).doing("read", &path)?;
                if !crate::id::is_long(cache_id.trim()) {
                    return Err(Error::Invalid(format!("{} is damaged", path.display())));
                }
                let diff = self.0.overlay_layer(cache_id.trim()).join("diff");
                tar.add(&record.join("tar-split.json.gz"), &diff)?;
            }
            chain = Some(next);
        }
        Ok(tar)
    }
}
