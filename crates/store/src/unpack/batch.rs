//! Makes files durable behind the writer's back, a batch at a time, and gives their memory back to the system.
//!
//! A thread runs `syncfs`, then `FADV_DONTNEED` over the batch's files. Meanwhile the writer goes on, but only so far.
//! Two things are bounded: what a power failure costs, and what is in the page cache, which large files leave early
//! ([`Early`]). Most of both is the batch's, for each sync writes some thirty blocks of bitmaps, inodes and journal for
//! itself, and little is enough to keep the writer at work meanwhile. For the same reason a last batch takes what is left
//! of its layer, if that fits into the bounds.

use super::early::Early;
use crate::checkpoint::Pending;
use crate::error::{Doing, Result};
use crate::fault::{self, Fault};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What an entry takes in the page cache besides its content: half a page on average, its inode and its place in a
/// directory.
const ENTRY: u64 = 2048;

/// Bytes that a power failure costs: in a batch, and in the next one while it is on its way.
const LOST: Limits = Limits {
    batch: 46 << 20,
    ahead: 16 << 20,
};

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
    early: Early,
    /// Bytes of the batch, and those of them that are in the page cache.
    bytes: u64,
    cached: u64,
    name_bytes: usize,
    /// Tells that a batch is on the device; whether one is on its way.
    done: Receiver<()>,
    under_way: bool,
    /// Bytes of that one, counted as those of the batch were.
    under_way_bytes: u64,
    under_way_cached: u64,
    lost: Limits,
    in_cache: Limits,
    descriptor_limit: usize,
    begun: Instant,
}

/// Bytes of a batch, and of the next one while it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    batch: u64,
    ahead: u64,
}

impl Limits {
    /// Both together are never exceeded by more than a piece.
    fn both(self) -> u64 {
        self.batch.saturating_add(self.ahead)
    }

    /// Says if a batch of `bytes` is to be handed over, when `rest` tells how many more are expected before the end.
    fn is_full(self, bytes: u64, rest: impl Fn() -> Option<u64>) -> bool {
        let takes_all = || rest().is_some_and(|rest| bytes.saturating_add(rest) <= self.both());
        bytes >= self.batch && (bytes >= self.both() || !takes_all())
    }
}

impl Batches {
    /// Starts the thread for the file system of `directory`.
    pub fn start(directory: &Path) -> Result<Batches> {
        let root = crate::durable::open_directory(directory)?;
        let (to, from) = sync_channel(0);
        let (tell, done) = sync_channel(1);
        let shown = directory.to_owned();
        let thread = std::thread::Builder::new()
            .name("layer-sync".into())
            .stack_size(64 * 1024);
        let thread = thread
            .spawn(move || sync(root.as_fd(), &shown, &from, &tell))
            .doing("start a thread to sync", directory)?;
        Ok(Batches {
            to: Some(to),
            thread: Some(thread),
            batch: Batch::default(),
            early: Early::default(),
            bytes: 0,
            cached: 0,
            name_bytes: 0,
            done,
            under_way: false,
            under_way_bytes: 0,
            under_way_cached: 0,
            lost: lost(),
            in_cache: in_cache(),
            descriptor_limit: descriptor_limit(),
            begun: Instant::now(),
        })
    }

    /// Takes note of a range just written to a file that goes on.
    pub fn wrote(&mut self, file: &OwnedFd, range: Range<u64>) -> Result<()> {
        self.bytes += range.end - range.start;
        self.cached += range.end - range.start;
        let gone = self.early.wrote(file, range)?;
        self.cached = self.cached.saturating_sub(gone);
        Ok(())
    }

    /// Takes a file that is complete, with its clean path.
    pub fn file(&mut self, file: OwnedFd, path: &[u8]) -> Result<()> {
        let gone = self.early.file(&file)?;
        self.cached = self.cached.saturating_sub(gone);
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
        Ok(())
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
        self.cached += ENTRY;
    }

    /// Says if it is time for [`Batches::hand_over`]. To be asked after every entry and piece of a file, for it waits
    /// when the writer is too far ahead. `rest` tells about how many bytes are still to come, if it can.
    pub fn is_due(&mut self, rest: impl Fn() -> Option<u64>) -> bool {
        let is_ahead = self.bytes >= self.lost.both().saturating_sub(self.under_way_bytes)
            || self.cached >= self.in_cache.both().saturating_sub(self.under_way_cached);
        if is_ahead {
            self.wait();
        }
        self.lost.is_full(self.bytes, &rest)
            || self.in_cache.is_full(self.cached, &rest)
            || (self.cached > 0 && self.begun.elapsed() >= AGE)
    }

    /// Waits for the batch that is on its way. If that ends in an error, the next hand-over reports it.
    fn wait(&mut self) {
        if std::mem::take(&mut self.under_way) {
            let _ = self.done.recv();
        }
        (self.under_way_bytes, self.under_way_cached) = (0, 0);
    }

    /// Waits until everything is on the device, and reports what went wrong on the way.
    pub fn finish(mut self) -> Result<()> {
        self.hand_over(None)?;
        self.join()
    }

    /// Has everything so far made durable, and after that the checkpoint written that says so.
    pub fn hand_over(&mut self, checkpoint: Option<Pending>) -> Result<()> {
        self.wait();
        (self.under_way_bytes, self.under_way_cached) = (self.bytes, self.cached);
        (self.bytes, self.cached, self.name_bytes, self.begun) = (0, 0, 0, Instant::now());
        self.batch.files.extend(self.early.leave());
        let batch = Batch {
            checkpoint,
            ..std::mem::take(&mut self.batch)
        };
        match self.to.as_ref().map(|to| to.send(batch)) {
            Some(Ok(())) => {
                self.under_way = true;
                Ok(())
            }
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

fn sync(root: BorrowedFd<'_>, shown: &Path, batches: &Receiver<Batch>, done: &SyncSender<()>) -> Result<()> {
    while let Ok(batch) = batches.recv() {
        if let Some(checkpoint) = &batch.checkpoint {
            checkpoint.make_room()?;
        }
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
        // Whoever does not wait for it has gone.
        let _ = done.send(());
    }
    Ok(())
}

fn lost() -> Limits {
    #[cfg(feature = "known-bad")]
    if let Some(batch) = fault::batch_limit() {
        return Limits { batch, ahead: batch };
    }
    LOST
}

/// Both together are a sixteenth of memory, 8 to 40 MiB: they and the file system's own blocks must not push out what the
/// device is working with.
fn in_cache() -> Limits {
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "the kernel's long has 32 bits on some targets")]
    let memory = u64::from(info.mem_unit).max(1).saturating_mul(info.totalram.into());
    let both = (memory / 16).clamp(8 << 20, 40 << 20);
    let ahead = both / 4;
    Limits {
        batch: both - ahead,
        ahead,
    }
}

/// An eighth of the descriptors this process may have, so that several layers can be unpacked at once.
fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    usize::try_from((limit / 8).clamp(16, OPEN)).unwrap_or(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_batch_takes_the_rest_if_that_fits() {
        let limits = Limits { batch: 40, ahead: 10 };
        for (bytes, rest, full) in [
            (39, None, false),
            (39, Some(1000), false),
            (40, None, true),
            (40, Some(10), false),
            (40, Some(11), true),
            (49, Some(1), false),
            // What was expected was less than what came.
            (50, Some(0), true),
            (u64::MAX, Some(u64::MAX), true),
        ] {
            assert_eq!(limits.is_full(bytes, || rest), full, "{bytes} {rest:?}");
        }
    }

    /// What is in two batches never exceeds both limits: a large batch leaves less room to the next.
    #[test]
    fn a_batch_that_took_more_leaves_less() {
        let at = tempfile::tempdir().unwrap();
        let mut batches = Batches::start(at.path()).unwrap();
        batches.lost = Limits { batch: 40, ahead: 10 };
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        batches.wrote(&file, 0..40).unwrap();
        assert!(batches.is_due(|| None) && !batches.is_due(|| Some(10)));
        batches.wrote(&file, 40..48).unwrap();
        assert!(batches.is_due(|| Some(10)));
        batches.hand_over(None).unwrap();
        assert_eq!((batches.under_way, batches.under_way_bytes), (true, 48));
        batches.wrote(&file, 48..49).unwrap();
        assert!(!batches.is_due(|| None) && batches.under_way);
        batches.wrote(&file, 49..50).unwrap();
        assert!(!batches.is_due(|| None) && !batches.under_way, "it was waited for");
        batches.finish().unwrap();
    }
}
