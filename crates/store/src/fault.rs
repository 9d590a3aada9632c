//! Known ways of losing data, for `cargo xtask crash` to be caught doing: a campaign that cannot fail proves nothing.
//!
//! Without the feature `known-bad`, which only the campaign's driver is built with, [`is`] is a constant `false` and
//! nothing of this is in the binary.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// A layer's files are never synced.
    NoDataSync = 1,
    /// A layer's record is made durable before its files are.
    RecordFirst = 2,
    /// Records are renamed into place without `fsync`.
    RenameWithoutSync = 3,
    /// A layer's files are removed before its record is.
    FilesFirst = 4,
}

#[cfg(not(feature = "known-bad"))]
pub(crate) const fn is(_: Fault) -> bool {
    false
}

#[cfg(feature = "known-bad")]
mod chosen {
    use super::Fault;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

    static CHOSEN: AtomicU8 = AtomicU8::new(0);
    static BATCH: AtomicU32 = AtomicU32::new(0);
    static BOOT: OnceLock<String> = OnceLock::new();

    /// Makes batches so small, in bytes, that small images have many.
    pub fn limit_batches(bytes: u32) {
        BATCH.store(bytes, Relaxed);
    }

    pub(crate) fn batch_limit() -> Option<u64> {
        Some(BATCH.load(Relaxed)).filter(|&bytes| bytes > 0).map(u64::from)
    }

    /// Gives this process a boot of its own: a replayed crash is not survived by the page cache.
    pub fn boot_as(id: &str) {
        let _ = BOOT.set(id.to_owned());
    }

    pub(crate) fn boot() -> Option<String> {
        BOOT.get().cloned()
    }

    /// Chooses what this process does wrong from now on.
    pub fn choose(fault: Option<Fault>) {
        CHOSEN.store(fault.map_or(0, |fault| fault as u8), Relaxed);
    }

    pub(crate) fn is(fault: Fault) -> bool {
        CHOSEN.load(Relaxed) == fault as u8
    }
}

#[cfg(feature = "known-bad")]
pub(crate) use chosen::{batch_limit, boot, is};
#[cfg(feature = "known-bad")]
pub use chosen::{boot_as, choose, limit_batches};
