//! Makes a layer's tar again, bit for bit, from its files and its tar-split: for push and save.

use crate::checkpoint::Place;
use crate::error::{Doing, Error, Result};
use crate::layers::{ChainId, LayerId, Layers, missing};
use flate2::bufread::MultiGzDecoder;
use oci::tar_split::{self, AssembleError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use sys::resolve::{self, Scope};

pub(crate) type Lines = BufReader<MultiGzDecoder<BufReader<File>>>;

/// A file of a layer whose pages are let go of behind whoever reads it.
#[derive(Debug)]
pub(crate) struct Passing {
    file: File,
    at: u64,
    /// Up to here its pages were let go of.
    behind: u64,
    /// Up to here the kernel was asked to read; nothing if that is left to it.
    ahead: Option<u64>,
}

/// Bytes of a large file in the page cache behind its reader, and before it.
const BEHIND: u64 = 4 << 20;
const AHEAD: u64 = 1 << 20;

impl Passing {
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Has the kernel begin to read its first bytes, and go on with it while it is read; returns how many at a time.
    pub fn will_need(&mut self, size: u64) -> u64 {
        let bytes = size.min(AHEAD);
        self.ahead = Some(bytes);
        // Advice: where it is not taken, reading waits.
        let _ = sys::fs::will_need(&self.file, 0, bytes);
        bytes
    }
}

impl Read for Passing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(into)?;
        self.at += n as u64;
        if let Some(ahead) = &mut self.ahead
            && *ahead >= AHEAD
            && self.at + AHEAD / 2 >= *ahead
        {
            let _ = sys::fs::will_need(&self.file, *ahead, AHEAD);
            *ahead += AHEAD;
        }
        if self.at - self.behind >= BEHIND {
            let _ = sys::fs::drop_cache_of(&self.file, self.behind, self.at - self.behind);
            self.behind = self.at;
        }
        Ok(n)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = sys::fs::drop_cache(&self.file);
    }
}

/// Opens a file of a layer by its name in the layer's tar. Reading it does not set its time of last access, which would
/// be a write to the device for each file: that needs its owner's rights.
pub(crate) fn open(root: BorrowedFd<'_>, name: &[u8]) -> io::Result<Passing> {
    // A `..` takes the name before it away, as when it was unpacked: there need be no such directory.
    let mut cleaned = Vec::new();
    let name = match name.windows(2).any(|pair| pair == b"..") {
        true => {
            crate::unpack::clean(name, &mut cleaned);
            &cleaned
        }
        false => name,
    };
    let name = Path::new(OsStr::from_bytes(name));
    passing(|flags| resolve::open(root, name, Scope::InRoot, flags, Mode::empty()))
}

/// The same by its last component, in its directory.
pub(crate) fn open_at(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Passing> {
    debug_assert!(!name.contains(&b'/') && name != b"..");
    passing(|flags| {
        Ok(rustix::fs::openat(
            directory,
            name,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    })
}

fn passing(open: impl Fn(OFlags) -> io::Result<OwnedFd>) -> io::Result<Passing> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = match open(flags | OFlags::NOATIME) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => open(flags),
        other => other,
    };
    opened.map(|fd| Passing {
        file: File::from(fd),
        at: 0,
        behind: 0,
        ahead: None,
    })
}

/// The beginning of a layer's tar made again from what an interrupted pull left, as a stream of exactly so many bytes.
///
/// It is read off the disk, not believed: files are checked against their CRC-64 here, and whoever hashes the stream
/// and what comes after it knows that everything a checkpoint claims is really there.
pub(crate) struct Prefix {
    from: Option<PipeReader>,
    left: u64,
    thread: Option<JoinHandle<std::result::Result<(), String>>>,
}

impl Prefix {
    /// Nothing: there is no checkpoint.
    pub fn none() -> Prefix {
        Prefix {
            from: None,
            left: 0,
            thread: None,
        }
    }

    /// Starts a thread that makes the tar up to a place, from the layer's directory and its tar-split.
    pub fn start(diff: &Path, tar_split: &Path, place: &Place) -> Result<Prefix> {
        let root = crate::durable::open_directory(diff)?;
        let split = File::open(tar_split).doing("open", tar_split)?;
        let (from, to) = io::pipe().doing("make a pipe for", diff)?;
        let (split_bytes, file) = (place.split_bytes, place.file.clone());
        let make = move || {
            let compressed = BufReader::new(split.take(split_bytes));
            let mut lines = BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(compressed));
            let mut out = to;
            let assembled = tar_split::assemble(&mut lines, |name| open(root.as_fd(), name), &mut out);
            assembled.map_err(|e| e.to_string())?;
            if let Some((name, bytes)) = file {
                let begun = open(root.as_fd(), &name).and_then(|file| io::copy(&mut file.take(bytes), &mut out));
                begun.map_err(|e| e.to_string())?;
            }
            Ok(())
        };
        let thread = std::thread::Builder::new()
            .name("layer-again".into())
            .stack_size(256 * 1024)
            .spawn(make)
            .doing("start a thread to read", diff)?;
        Ok(Prefix {
            from: Some(from),
            left: place.tar,
            thread: Some(thread),
        })
    }
}

impl Read for Prefix {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(from) = self.from.as_mut().filter(|_| self.left > 0) else {
            return Ok(0);
        };
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let n = from.read(&mut into[..most])?;
        if n == 0 && most > 0 {
            let why = self.thread.take().map(JoinHandle::join);
            let why = match why {
                Some(Ok(Err(why))) => why,
                _ => "it is too short".into(),
            };
            let text = format!("what an interrupted pull left is damaged: {why}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        // The thread's next write fails.
        self.from = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Layers {
    /// Writes the tar a layer came from. Each file is checked against its CRC-64 on the way; whoever needs to be sure
    /// of the whole hashes it and compares with the diff ID.
    pub fn write_tar(&self, layer: &LayerId, out: &mut dyn Write) -> Result<()> {
        let chain = layer.chain_id();
        let info = self.info(chain).ok_or_else(|| missing(chain))?;
        let (path, mut lines) = self.tar_split(chain)?;
        let diff = self.layout().overlay_layer(&info.cache_id).join("diff");
        let root = crate::durable::open_directory(&diff)?;
        tar_split::assemble(&mut lines, |name| open(root.as_fd(), name), out)
            .map_err(|error| self.about(chain, &path, error))
    }

    /// Bytes of the tar a layer came from; no file of the layer is read.
    pub fn tar_length(&self, layer: &LayerId) -> Result<u64> {
        let chain = layer.chain_id();
        let (path, lines) = self.tar_split(chain)?;
        tar_split::length(lines).map_err(|error| self.about(chain, &path, error))
    }

    pub(crate) fn tar_split(&self, chain: &ChainId) -> Result<(PathBuf, Lines)> {
        let path = self.layout().layer_record(chain).join("tar-split.json.gz");
        let compressed = BufReader::new(File::open(&path).doing("open", &path)?);
        Ok((
            path,
            BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(compressed)),
        ))
    }

    fn about(&self, chain: &ChainId, path: &Path, error: AssembleError) -> Error {
        match error {
            AssembleError::Write(source) => Error::Io {
                doing: format!("write tar of layer {}", chain.digest()),
                source,
            },
            AssembleError::Read { source, .. } => Error::Io {
                doing: format!("read {}", path.display()),
                source,
            },
            other => Error::Invalid(format!("rebuild layer {}: {other}", chain.digest())),
        }
    }
}
