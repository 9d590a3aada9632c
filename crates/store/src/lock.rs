//! The lock that keeps a second daemon off a data root.
//!
//! An `flock` of a file of ours: the kernel drops it when the process ends, however it ends, so nothing stale remains.

use crate::error::{Doing, Error, Result};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held as long as the store is open.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its drop")] File);

impl Lock {
    /// Takes the lock, or says at once that somebody has it.
    pub fn take(root: &Path) -> Result<Lock> {
        let path = root.join(".balena-lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = file.doing("open", &path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Conflict(format!(
                "lock data root {}: another daemon uses it",
                root.display()
            ))),
            Err(error) => Err(error).doing("lock", &path),
        }
    }
}
