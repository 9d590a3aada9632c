//! Makes a layer's tar again, bit for bit, from its files and its tar-split: for push and save.

use crate::error::{Doing, Error, Result};
use crate::layers::{ChainId, LayerId, Layers, missing};
use flate2::bufread::MultiGzDecoder;
use oci::tar_split::{self, AssembleError};
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::resolve::{self, Scope};

type Lines = BufReader<MultiGzDecoder<BufReader<File>>>;

/// A file of a layer whose pages are let go of when it has been read.
struct Passing(File);

impl Read for Passing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = sys::fs::drop_cache(&self.0);
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
        let open = |name: &[u8]| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let name = Path::new(OsStr::from_bytes(name));
            resolve::open(root.as_fd(), name, Scope::InRoot, flags, Mode::empty()).map(|fd| Passing(File::from(fd)))
        };
        tar_split::assemble(&mut lines, open, out).map_err(|error| self.about(chain, &path, error))
    }

    /// Bytes of the tar a layer came from; no file of the layer is read.
    pub fn tar_length(&self, layer: &LayerId) -> Result<u64> {
        let chain = layer.chain_id();
        let (path, mut lines) = self.tar_split(chain)?;
        tar_split::length(&mut lines).map_err(|error| self.about(chain, &path, error))
    }

    fn tar_split(&self, chain: &ChainId) -> Result<(PathBuf, Lines)> {
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
