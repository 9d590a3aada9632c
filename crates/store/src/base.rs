//! Layers of the store as a delta's base: found by diff ID, held while in use, their files read one after the other.
//!
//! A layer's headers and checksums come from its tar-split, so none of its files is read to begin with; whoever reads
//! one, a delta's reader or writer, sees by its CRC-64 or by what comes of it that it is the same. Memory: about 180
//! bytes an entry. Open are the one being read, while files come in their order some that follow it, and some small
//! ones that wait for their pages to be let go of.

use crate::error::{Error, Result};
use crate::layers::{ChainId, DiffId, LayerId, Layers, missing};
use crate::rebuild::{Passing, open_at};
use crate::unpack::{clean, split};
use delta::{Builder, Contents, FileId, Layer, State, Wanted};
use oci::tar_split::{Crc64, Lines, Piece};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use sys::resolve::{self, Scope};

/// A layer that is there and stays there while this is held, with what a delta knows it by.
#[derive(Debug, Clone)]
pub struct BaseLayer {
    layer: Arc<Layer>,
    root: Arc<OwnedFd>,
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
            root: Arc::new(crate::durable::open_directory(&diff)?),
            held,
        })
    }
}

/// A base file that is open.
pub(crate) struct Opened {
    id: FileId,
    /// Its clean path in its layer.
    pub path: Vec<u8>,
    size: u64,
    pub stat: Stat,
    file: Arc<Passing>,
}

impl Opened {
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// It stays open while this is held.
    pub fn share(&self) -> Arc<Passing> {
        self.file.clone()
    }
}

/// The directory in which a file was opened last: neighbours are the rule, and the way from the root is most of what
/// opening one takes.
struct Directory {
    layer: u32,
    path: Vec<u8>,
    at: OwnedFd,
}

/// Files that are opened before their turn, and bytes of them that the kernel is asked to read meanwhile: a disk has
/// something to do while what it gave is hashed, and small files come as fast as a large one.
const AHEAD_FILES: usize = 16;
const AHEAD_BYTES: u64 = 1 << 20;

/// Files that were read and whose pages are still to be let go of. One by one is dear: the kernel has pages that were
/// read right now in a list of its own, and to get at them it asks all processors.
#[derive(Default)]
struct Passed {
    files: Vec<Arc<Passing>>,
    bytes: u64,
}

const PASSED_FILES: usize = 64;
const PASSED_BYTES: u64 = 4 << 20;

impl Passed {
    fn take(&mut self, opened: Opened) {
        self.bytes += opened.size;
        self.files.push(opened.file);
        if self.files.len() >= PASSED_FILES || self.bytes >= PASSED_BYTES {
            *self = Passed::default();
        }
    }
}

/// Somebody who has the contents of the layer that is made, for what cannot be made from a base.
pub trait Elsewhere {
    /// Begins with one.
    fn begin(&mut self, wanted: &Wanted<'_>) -> io::Result<()>;

    /// Fills `into` with its next bytes. They need not be right.
    fn read(&mut self, into: &mut [u8]) -> io::Result<()>;
}

/// The files of several layers, which are counted as they are given.
pub struct BaseFiles {
    layers: Vec<BaseLayer>,
    opened: Option<Opened>,
    passed: Passed,
    directory: Option<Directory>,
    /// Files that are likely next, in their order.
    ahead: VecDeque<Opened>,
    /// The one behind the last of them; or the one that would be the first.
    next: Option<FileId>,
    elsewhere: Option<Box<dyn Elsewhere>>,
    /// Files that are known to have another content than they had.
    changed: HashSet<FileId>,
}

impl BaseFiles {
    pub fn new(layers: Vec<BaseLayer>) -> BaseFiles {
        BaseFiles {
            layers,
            opened: None,
            passed: Passed::default(),
            directory: None,
            ahead: VecDeque::new(),
            next: None,
            elsewhere: None,
            changed: HashSet::new(),
        }
    }

    /// Has what would be made from a file that is missing, or is none of the size that it had, come from elsewhere; and
    /// so what would be made from files that are known to have changed.
    pub fn or_from(self, elsewhere: Box<dyn Elsewhere>, changed: &[FileId]) -> BaseFiles {
        BaseFiles {
            elsewhere: Some(elsewhere),
            changed: changed.iter().copied().collect(),
            ..self
        }
    }

    /// The files among those of these names in a layer that are there, of the size that they had, and of which the
    /// content is not what it was.
    pub fn find_changed(&mut self, layer: u32, names: &HashSet<String>) -> Vec<FileId> {
        let base = usize::try_from(layer).ok().and_then(|at| self.layers.get(at));
        let Some(known) = base.map(|base| base.layer.clone()) else {
            return Vec::new();
        };
        let is_named = |entry: &u32| {
            let named = known.entry(*entry);
            named.is_some_and(|named| names.contains(&*String::from_utf8_lossy(&named.name)))
        };
        let with_content = (0..known.entries()).filter(|&entry| known.size(entry) > 0);
        let named: Vec<u32> = with_content.filter(is_named).collect();
        let files = named.into_iter().map(|entry| FileId { layer, entry });
        files
            .filter(|&file| self.open(file).is_ok() && !self.is_as_it_was(file, &known))
            .collect()
    }

    fn is_as_it_was(&mut self, file: FileId, known: &Layer) -> bool {
        let (mut crc, mut at, size) = (Crc64::default(), 0, known.size(file.entry));
        let mut buffer = vec![0; 64 << 10];
        while at < size {
            let n = usize::try_from(size - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            if self.read_base(file, at, &mut buffer[..n]).is_err() {
                return false;
            }
            crc.update(&buffer[..n]);
            at += n as u64;
        }
        crc.value() == known.crc(file.entry)
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

    /// Opens a file, unless it is the one that is open. It must still have the kind and the size that it was unpacked
    /// with.
    pub(crate) fn open(&mut self, id: FileId) -> io::Result<&Opened> {
        if self.opened.as_ref().is_none_or(|opened| opened.id != id) {
            self.close();
            let opened = self.take_ahead(id)?;
            self.opened = Some(opened);
        }
        Ok(self.opened.as_ref().expect("it was opened right now"))
    }

    /// Takes a file from those that wait, or opens it. Files that come in their layer's order have others wait.
    fn take_ahead(&mut self, id: FileId) -> io::Result<Opened> {
        let waits = self.ahead.iter().position(|opened| opened.id == id);
        let in_order = waits.is_some() || self.next == Some(id);
        let opened = match waits {
            Some(at) => self.ahead.drain(..=at).next_back(),
            None => {
                self.ahead.clear();
                self.next = self.behind(id);
                None
            }
        };
        let opened = opened.map_or_else(|| self.find(id), Ok)?;
        let mut bytes: u64 = self.ahead.iter().map(|opened| opened.size).sum();
        while in_order
            && self.ahead.len() < AHEAD_FILES
            && bytes < AHEAD_BYTES
            && let Some(next) = self.next
        {
            self.next = self.behind(next);
            // One that is not there is an error when somebody asks for it.
            let Ok(opened) = self.find(next) else { continue };
            // Advice: where it is not taken, reading waits.
            let _ = sys::fs::will_need(opened.file(), 0, opened.size.min(AHEAD_BYTES / 4));
            bytes += opened.size;
            self.ahead.push_back(opened);
        }
        Ok(opened)
    }

    /// The next file with content in a layer.
    fn behind(&self, id: FileId) -> Option<FileId> {
        let layer = &self.layers.get(usize::try_from(id.layer).ok()?)?.layer;
        let entry = (id.entry + 1..layer.entries()).find(|&entry| layer.size(entry) > 0)?;
        Some(FileId { entry, ..id })
    }

    pub(crate) fn close(&mut self) {
        if let Some(opened) = self.opened.take() {
            self.passed.take(opened);
        }
    }

    fn find(&mut self, id: FileId) -> io::Result<Opened> {
        let base = usize::try_from(id.layer).ok().and_then(|at| self.layers.get(at));
        let base = base.ok_or(io::ErrorKind::NotFound)?;
        let entry = base.layer.entry(id.entry).ok_or(io::ErrorKind::NotFound)?;
        let mut path = Vec::with_capacity(entry.name.len());
        clean(&entry.name, &mut path);
        let (parent, name) = split(&path);
        if name.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let is_here = |here: &Directory| here.layer == id.layer && here.path == parent;
        if !self.directory.as_ref().is_some_and(is_here) {
            let inside = if parent.is_empty() { b"." } else { parent };
            let inside = Path::new(OsStr::from_bytes(inside));
            self.directory = Some(Directory {
                layer: id.layer,
                path: parent.to_vec(),
                at: resolve::open_directory(base.root.as_fd(), inside, Scope::InRoot)?,
            });
        }
        let directory = self.directory.as_ref().expect("it was opened right now");
        let file = open_at(directory.at.as_fd(), name)?;
        let stat = rustix::fs::fstat(file.file())?;
        let size = base.layer.size(id.entry);
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || u64::try_from(stat.st_size) != Ok(size) {
            let text = format!("{} is not the file it was", String::from_utf8_lossy(&path));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let file = Arc::new(file);
        Ok(Opened {
            id,
            path,
            size,
            stat,
            file,
        })
    }
}

impl Contents for BaseFiles {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.open(file)?.file().read_exact_at(into, offset)
    }

    /// There is no target yet: for a target that is being unpacked there is [`crate::StagedLayer::unpack_delta`].
    fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn state(&mut self, file: FileId) -> State {
        if self.elsewhere.is_none() {
            return State::Whole;
        }
        match self.open(file).err() {
            Some(error) if is_gone(&error) => State::Lost,
            None if self.changed.contains(&file) => State::Changed,
            // What else goes wrong is told when it is read.
            _ => State::Whole,
        }
    }

    fn begin_elsewhere(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        match &mut self.elsewhere {
            Some(elsewhere) => elsewhere.begin(wanted),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn read_elsewhere(&mut self, into: &mut [u8]) -> io::Result<()> {
        match &mut self.elsewhere {
            Some(elsewhere) => elsewhere.read(into),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Says if a file that could not be opened is not there, or something else is; or cannot be read from the device.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
    let is_link_or_damaged = [Errno::LOOP, Errno::IO, Errno::NXIO]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    matches!(error.kind(), InvalidData | IsADirectory | NotADirectory | NotFound) || is_link_or_damaged
}
