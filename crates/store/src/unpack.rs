//! Unpacks a tar stream into a directory without filling the page cache.
//!
//! One pass: the caller's thread reads, hashes, notes tar-split and writes files ([`tree`]); a second thread makes
//! them durable in batches and lets go of their pages ([`batch`]). Memory: a few buffers, 8 bytes an entry to notice
//! names that come twice, and the name and times of each directory until the end. Nothing in a stream can reach
//! outside the directory: every step is relative to a descriptor of a directory inside it.

mod batch;
mod parents;
mod tree;

pub use tree::Rules;

use crate::error::{Doing, Error, Result};
use crate::hash::Hashing;
use crate::layers::DiffId;
use batch::Batches;
use flate2::{Compression, write::GzEncoder};
use oci::tar::{Reader, TarError};
use oci::tar_split::Splitter;
use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use tree::Tree;

/// Bytes read at once: large enough to make few calls, small enough for a device with 64 MB.
const BUFFER: usize = 128 * 1024;

/// What came out of a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The sha256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the files unpacked, counted as Docker counts a layer's size.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// Entries in the tar.
    pub entries: u64,
}

/// Unpacks a layer's tar into `diff` and writes its tar-split to the new file `tar_split`. `seal` writes what else
/// must be durable at the end. When this returns, all of it is: files, times, tar-split.
pub(crate) fn layer(
    tar: impl Read,
    diff: &Path,
    tar_split: &Path,
    seal: impl FnOnce(&Outcome) -> Result<()>,
) -> Result<Outcome> {
    let root = crate::durable::open_directory(diff)?;
    let split_file = File::create_new(tar_split).doing("create", tar_split)?;
    let kept = split_file.try_clone().doing("open", tar_split)?;
    let split = GzEncoder::new(BufWriter::with_capacity(BUFFER / 4, split_file), Compression::fast());
    let source = BufReader::with_capacity(BUFFER, Hashing::new(tar));
    let mut reader = Reader::with_tap(source, Splitter::new(split));
    let mut tree = Tree::new(root, diff, Rules::layer())?;
    let mut batches = Batches::start(diff)?;
    let mut names = Names::default();
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().map_err(read_error)? {
        entries += 1;
        if !names.is_new(&entry.name) {
            // tar-split cannot tell two files of one name apart, so Docker refuses such a layer in these words.
            return Err(Error::Invalid("duplicates of file paths not supported".into()));
        }
        let content = tree.add(&entry, &mut reader, &mut batches)?;
        let (size, crc) = content.unwrap_or((0, 0));
        reader
            .tap_mut()
            .file(&entry.name, size, crc)
            .doing("write", tar_split)?;
    }
    let (source, split, tar_bytes) = reader.finish().map_err(read_error)?;
    let out = split.finish().and_then(GzEncoder::finish).doing("write", tar_split)?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .doing("write", tar_split)?;
    let size = tree.finish()?;
    let outcome = Outcome {
        diff_id: DiffId(source.into_inner().finish().0),
        size,
        tar_bytes,
        entries,
    };
    seal(&outcome)?;
    batches.file(OwnedFd::from(kept))?;
    batches.finish()?;
    Ok(outcome)
}

/// Unpacks a tar into a directory that is in use, by other rules than a layer's: `docker cp`, `ADD`. Durable when it
/// returns. Returns the bytes of the files unpacked.
pub fn into_directory(tar: impl Read, directory: &Path, rules: Rules) -> Result<u64> {
    let root = crate::durable::open_directory(directory)?;
    let mut reader = Reader::with_tap(BufReader::with_capacity(BUFFER, tar), ());
    let mut tree = Tree::new(root, directory, rules)?;
    let mut batches = Batches::start(directory)?;
    while let Some(entry) = reader.next_entry().map_err(read_error)? {
        tree.add(&entry, &mut reader, &mut batches)?;
    }
    reader.finish().map_err(read_error)?;
    let size = tree.finish()?;
    batches.finish()?;
    Ok(size)
}

fn read_error(error: TarError) -> Error {
    match error {
        TarError::Io(source) => Error::Io {
            doing: "read layer".into(),
            source,
        },
        other => Error::Invalid(other.to_string()),
    }
}

/// Which names an archive had so far, as keyed hashes: no names to keep, and none to be made collide.
#[derive(Default)]
struct Names {
    key: RandomState,
    seen: HashSet<u64>,
}

impl Names {
    fn is_new(&mut self, name: &[u8]) -> bool {
        let mut path = Vec::with_capacity(name.len());
        parents::clean(name, &mut path);
        self.seen.insert(self.key.hash_one(&path))
    }
}
