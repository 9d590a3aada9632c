//! Layers of the store as a delta's base: found by diff ID, held while in use, their files read one at a time.
//!
//! A layer's headers and checksums come from its tar-split, so none of its files is read to begin with; whoever reads
//! one, a delta's reader or writer, checks it against its CRC-64. Memory: about 180 bytes an entry. One file is open.

use crate::error::{Error, Result};
use crate::layers::{ChainId, DiffId, LayerId, Layers, missing};
use crate::rebuild::{Passing, open};
use delta::{Builder, Contents, FileId, Layer};
use oci::tar::Entry;
use oci::tar_split::{Lines, Piece};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A layer that is there and stays there while this is held, with what a delta knows it by.
#[derive(Debug)]
pub struct BaseLayer {
    layer: Arc<Layer>,
    root: OwnedFd,
    held: LayerId,
}

impl BaseLayer {
    /// Headers, sizes and checksums.
    pub fn layer(&self) -> &Arc<Layer> {
        &self.layer
    }

    pub fn id(&self) -> &LayerId {
        &self.held
    }
}

impl Layers {
    /// All layers of a diff ID, in whatever chain, but those that were found damaged.
    pub fn with_diff_id(&self, diff: &DiffId) -> Vec<LayerId> {
        let all = self.list().into_iter();
        all.filter(|(chain, info)| info.diff_id == *diff && !self.is_damaged(chain))
            .filter_map(|(chain, _)| self.get(&chain))
            .collect()
    }

    /// Reads what a delta has to know of a layer.
    pub fn base(&self, held: LayerId) -> Result<BaseLayer> {
        let chain = held.chain_id();
        let info = self.info(chain).ok_or_else(|| missing(chain))?;
        let (path, lines) = self.tar_split(chain)?;
        let (mut lines, mut builder) = (Lines::new(lines), Builder::default());
        let damaged = |why: &dyn std::fmt::Display| Error::Invalid(format!("read {}: {why}", path.display()));
        while let Some(piece) = lines.next_piece().map_err(|e| damaged(&e))? {
            match piece {
                Piece::Raw(bytes) => builder.raw(&bytes),
                Piece::File { size, crc, .. } => {
                    let crc = match <[u8; 8]>::try_from(&crc[..]) {
                        Ok(crc) => u64::from_be_bytes(crc),
                        Err(_) if size == 0 => 0,
                        Err(_) => return Err(damaged(&"a checksum has not 8 bytes")),
                    };
                    builder.file(size, crc).map_err(|e| damaged(&e))?;
                }
            }
        }
        let diff = self.layout().overlay_layer(&info.cache_id).join("diff");
        Ok(BaseLayer {
            layer: Arc::new(builder.finish(info.diff_id.0)),
            root: crate::durable::open_directory(&diff)?,
            held,
        })
    }
}

/// A base file that is open.
struct Opened {
    id: FileId,
    entry: Entry,
    /// Its pages are let go of when another file is opened.
    file: Passing,
}

/// The files of several layers, which are counted as they are given.
pub struct BaseFiles {
    layers: Vec<BaseLayer>,
    opened: Option<Opened>,
}

impl BaseFiles {
    pub fn new(layers: Vec<BaseLayer>) -> BaseFiles {
        BaseFiles { layers, opened: None }
    }

    /// The layers, as a delta's reader wants them.
    pub fn layers(&self) -> Vec<Arc<Layer>> {
        self.layers.iter().map(|base| base.layer.clone()).collect()
    }

    /// Which of the layers are on a list.
    pub(crate) fn among(&self, chains: &[ChainId]) -> Vec<u32> {
        let is_there = |base: &BaseLayer| chains.contains(base.held.chain_id());
        (0..)
            .zip(&self.layers)
            .filter(|(_, base)| is_there(base))
            .map(|(at, _)| at)
            .collect()
    }

    /// Opens a file, unless it is the one that is open, and says what its layer's tar says of it. It must still have
    /// the kind and the size that it was unpacked with.
    pub(crate) fn open(&mut self, id: FileId) -> io::Result<(&File, &Entry)> {
        if self.opened.as_ref().is_none_or(|opened| opened.id != id) {
            self.opened = None;
            self.opened = Some(self.find(id)?);
        }
        let opened = self.opened.as_ref().expect("it was opened right now");
        Ok((opened.file.file(), &opened.entry))
    }

    pub(crate) fn close(&mut self) {
        self.opened = None;
    }

    fn find(&self, id: FileId) -> io::Result<Opened> {
        let base = usize::try_from(id.layer).ok().and_then(|at| self.layers.get(at));
        let base = base.ok_or(io::ErrorKind::NotFound)?;
        let entry = base.layer.entry(id.entry).ok_or(io::ErrorKind::NotFound)?;
        let file = open(base.root.as_fd(), &entry.name)?;
        let found = file.file().metadata()?;
        let size = base.layer.size(id.entry);
        if !found.is_file() || found.len() != size {
            let text = format!("{} is not the file it was", String::from_utf8_lossy(&entry.name));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Opened { id, entry, file })
    }
}

impl Contents for BaseFiles {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.open(file)?.0.read_exact_at(into, offset)
    }

    /// There is no target yet: for a target that is being unpacked there is [`crate::StagedLayer::unpack_delta`].
    fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
