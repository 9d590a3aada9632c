//! The bytes of a delta that have come, kept until its layer is whole: with them a pull that was interrupted goes on.
//!
//! What a delta's reader has in memory, up to 18 MiB of windows, is too much for a checkpoint. Its bytes are few and read
//! quickly, so these are kept, in `balena-pulls/<chain ID>/delta`, and read once more from the first one on; what they
//! make up to the checkpoint is in the layer's directory already. The first bytes stay in memory: an update that is
//! over before its first checkpoint writes none of them.

use crate::error::{Doing, Error, Result};
use crate::{checkpoint, durable};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that wait in memory at most.
const WAITING: usize = 64 << 10;

/// The file's name.
const NAME: &str = "delta";

/// Bytes that came, shared between who reads the delta and who notes checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct Spool(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    directory: PathBuf,
    /// Nothing while the bytes wait.
    file: Option<File>,
    waiting: Vec<u8>,
    bytes: u64,
    /// A file that tells of them while there is no other checkpoint, and what is in it.
    first: Option<(PathBuf, Vec<u8>)>,
}

impl Spool {
    pub fn new(directory: &Path) -> Spool {
        Spool::at(directory, None, 0)
    }

    fn at(directory: &Path, file: Option<File>, bytes: u64) -> Spool {
        Spool(Arc::new(Mutex::new(State {
            directory: directory.to_owned(),
            file,
            waiting: Vec::new(),
            bytes,
            first: None,
        })))
    }

    /// Goes on behind so many bytes, and gives them to be read.
    pub fn resume(directory: &Path, bytes: u64) -> Result<(Spool, io::Take<File>)> {
        let path = directory.join(NAME);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).open(&path).doing("open", &path)?;
        file.set_len(bytes).doing("set size of", &path)?;
        file.seek(SeekFrom::End(0)).doing("seek in", &path)?;
        let from = File::open(&path).doing("open", &path)?;
        Ok((Spool::at(directory, Some(file), bytes), from.take(bytes)))
    }

    /// Bytes that an earlier run left.
    pub fn kept(directory: &Path) -> Option<u64> {
        let file = std::fs::metadata(directory.join(NAME)).ok()?;
        Some(file.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the checkpoint of before the layer's first byte, which is written if many bytes come before another is.
    pub fn begin(&self, path: PathBuf, checkpoint: Vec<u8>) {
        self.state().first = Some((path, checkpoint));
    }

    /// Has all bytes so far in the file, and says how many.
    pub fn keep(&self) -> Result<u64> {
        let mut state = self.state();
        state.write_waiting()?;
        Ok(state.bytes)
    }

    fn add(&self, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.waiting.extend_from_slice(bytes);
        state.bytes += bytes.len() as u64;
        if state.file.is_some() || state.waiting.len() > WAITING {
            state.write_waiting()?;
        }
        Ok(())
    }
}

impl State {
    fn write_waiting(&mut self) -> Result<()> {
        let path = self.directory.join(NAME);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                checkpoint::make_directory(&self.directory)?;
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(true);
                none.insert(options.open(&path).doing("create", &path)?)
            }
        };
        file.write_all(&self.waiting).doing("write", &path)?;
        self.waiting = Vec::new();
        match self.first.take() {
            Some((path, checkpoint)) => durable::overwrite(&path, &checkpoint),
            None => Ok(()),
        }
    }
}

/// What came of a delta so far, to be read once more from the first byte on. It can be read also when its layer's
/// directory is removed.
pub struct Kept {
    spool: Spool,
    at: u64,
}

impl Kept {
    pub(crate) fn new(spool: Spool) -> Kept {
        Kept { spool, at: 0 }
    }
}

impl Read for Kept {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let state = self.spool.state();
        let n = match &state.file {
            Some(file) => file.read_at(into, self.at)?,
            None => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                let left = state.waiting.get(at..).unwrap_or_default();
                let n = into.len().min(left.len());
                into[..n].copy_from_slice(&left[..n]);
                n
            }
        };
        drop(state);
        self.at += n as u64;
        Ok(n)
    }
}

/// A delta as it comes, kept on the way. What an earlier pull kept is read first.
pub struct Spooled<R> {
    before: Option<io::Take<File>>,
    rest: R,
    /// Nothing if it cannot be gone on with anyway.
    spool: Option<Spool>,
}

impl<R: Read> Spooled<R> {
    pub(crate) fn new(before: Option<io::Take<File>>, rest: R, spool: Option<Spool>) -> Spooled<R> {
        Spooled { before, rest, spool }
    }
}

impl<R: Read> Read for Spooled<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(before) = &mut self.before {
            let n = before.read(into)?;
            if n > 0 || into.is_empty() {
                return Ok(n);
            }
            self.before = None;
        }
        let n = self.rest.read(into)?;
        if let Some(spool) = &self.spool {
            spool.add(&into[..n]).map_err(|error| match error {
                Error::Io { source, .. } => source,
                other => io::Error::other(other.to_string()),
            })?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_can_be_read_again_when_its_directory_is_gone() {
        for length in [1000, WAITING / 2, 3 * WAITING] {
            let bytes: Vec<u8> = (0..length as u32).flat_map(u32::to_le_bytes).take(length).collect();
            let above = tempfile::tempdir().unwrap();
            let directory = above.path().join("pulls/one");
            let spool = Spool::new(&directory);
            let mut spooled = Spooled::new(None, &bytes[..], Some(spool.clone()));
            spooled
                .by_ref()
                .take(length as u64 - 7)
                .read_to_end(&mut Vec::new())
                .unwrap();
            let kept = Kept::new(spool);
            if directory.exists() {
                std::fs::remove_dir_all(&directory).unwrap();
            }
            let mut again = Vec::new();
            kept.chain(&bytes[length - 7..]).read_to_end(&mut again).unwrap();
            assert!(again == bytes, "{length}");
        }
    }
}
