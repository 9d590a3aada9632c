//! Makes files durable behind the writer's back, a batch at a time, and gives their memory back to the system.
//!
//! A thread runs `syncfs`, then `FADV_DONTNEED` over the batch's files. The hand-over waits for the batch before, so
//! that at most two batches are in the page cache: one on its way to the device, one being written.

use crate::checkpoint::Pending;
use crate::error::{Doing, Result};
use crate::fault::{self, Fault};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What an entry takes besides its content: half a page on average, its inode and its place in a directory.
const ENTRY: u64 = 2048;

/// Files that are kept open until their batch is on the device, at most; others are opened again by their names.
const OPEN: u64 = 4000;

/// Bytes of these names in a batch.
const NAMES: usize = 1 << 20;

/// Oldest a batch gets while something comes: what comes slowly is dear to fetch again after a power failure.
const AGE: Duration = Duration::from_secs(20);

/// What becomes durable at once, and the checkpoint that is true from then on.
#[derive(Default)]
struct Batch {
    files: Vec<OwnedFd>,
    /// In the directory that is unpacked into.
    names: Vec<Vec<u8>>,
    checkpoint: Option<Pending>,
}

/// The writer's end.
pub(super) struct Batches {
    to: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<Result<()>>>,
    batch: Batch,
    bytes: u64,
    name_bytes: usize,
    byte_limit: u64,
    descriptor_limit: usize,
    begun: Instant,
}

impl Batches {
    /// Starts the thread for the file system of `directory`.
    pub fn start(directory: &Path) -> Result<Batches> {
        let root = crate::durable::open_directory(directory)?;
        let (to, from) = sync_channel(0);
        let shown = directory.to_owned();
        let thread = std::thread::Builder::new()
            .name("layer-sync".into())
            .stack_size(64 * 1024);
        let thread = thread
            .spawn(move || sync(root.as_fd(), &shown, &from))
            .doing("start a thread to sync", directory)?;
        Ok(Batches {
            to: Some(to),
            thread: Some(thread),
            batch: Batch::default(),
            bytes: 0,
            name_bytes: 0,
            byte_limit: byte_limit(),
            descriptor_limit: descriptor_limit(),
            begun: Instant::now(),
        })
    }

    /// Counts bytes just written to a file that goes on.
    pub fn wrote(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Takes a file that is complete, with its clean path.
    pub fn file(&mut self, file: OwnedFd, path: &[u8]) {
        match self.batch.files.len() < self.descriptor_limit {
            true => self.batch.files.push(file),
            // To let go of pages is worth no more memory than this; an archive chooses how long its names are.
            false if self.name_bytes < NAMES => {
                self.name_bytes += path.len();
                self.batch.names.push(path.to_vec());
            }
            false => {}
        }
        self.entry();
    }

    /// Takes a file that goes on: a large one is let go of in pieces.
    pub fn part(&mut self, file: &OwnedFd) -> Result<()> {
        let file = file.try_clone();
        let file = file.doing("duplicate a descriptor of", "a file being unpacked")?;
        self.batch.files.push(file);
        Ok(())
    }

    /// Counts an entry without content.
    pub fn entry(&mut self) {
        self.bytes += ENTRY;
    }

    /// Says if it is time for [`Batches::hand_over`].
    pub fn is_due(&self) -> bool {
        self.bytes >= self.byte_limit || (self.bytes > 0 && self.begun.elapsed() >= AGE)
    }

    /// Waits until everything is on the device, and reports what went wrong on the way.
    pub fn finish(mut self) -> Result<()> {
        self.hand_over(None)?;
        self.join()
    }

    /// Has everything so far made durable, and after that the checkpoint written that says so.
    pub fn hand_over(&mut self, checkpoint: Option<Pending>) -> Result<()> {
        (self.bytes, self.name_bytes, self.begun) = (0, 0, Instant::now());
        let batch = Batch {
            checkpoint,
            ..std::mem::take(&mut self.batch)
        };
        match self.to.as_ref().map(|to| to.send(batch)) {
            Some(Ok(())) => Ok(()),
            // The thread ends early only with an error, which says what the matter is.
            _ => self.join(),
        }
    }

    fn join(&mut self) -> Result<()> {
        self.to = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

/// A writer that fails still waits for the thread: its directory must be quiet before it is removed.
impl Drop for Batches {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sync(root: BorrowedFd<'_>, shown: &Path, batches: &Receiver<Batch>) -> Result<()> {
    while let Ok(batch) = batches.recv() {
        if !fault::is(Fault::NoDataSync) && !fault::is(Fault::RecordFirst) {
            sys::fs::syncfs(root).doing("sync file system of", shown)?;
        }
        if let Some(checkpoint) = batch.checkpoint {
            checkpoint.write()?;
        }
        for file in batch.files {
            // Advice: where it is not taken, the kernel finds the pages itself, later.
            let _ = sys::fs::drop_cache(&file);
        }
        for name in batch.names {
            drop(crate::rebuild::open(root, &name));
        }
    }
    Ok(())
}

/// A thirty-second of memory, 4 to 26 MiB: two of them and the file system's own blocks must not push out what the device
/// is working with, and two are what a power failure costs at most. Larger ones would be fewer requests: each sync
/// writes some thirty blocks of bitmaps, inodes and journal for itself.
fn byte_limit() -> u64 {
    #[cfg(feature = "known-bad")]
    if let Some(limit) = fault::batch_limit() {
        return limit;
    }
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "the kernel's long has 32 bits on some targets")]
    let memory = u64::from(info.mem_unit).max(1).saturating_mul(info.totalram.into());
    (memory / 32).clamp(4 << 20, 26 << 20)
}

/// An eighth of the descriptors this process may have, so that several layers can be unpacked at once.
fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    usize::try_from((limit / 8).clamp(16, OPEN)).unwrap_or(16)
}
