//! Namespaces: their clone flags, joining and leaving them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

pub const NEWTIME: u64 = 0x0000_0080;
pub const NEWNS: u64 = 0x0002_0000;
pub const NEWCGROUP: u64 = 0x0200_0000;
pub const NEWUTS: u64 = 0x0400_0000;
pub const NEWIPC: u64 = 0x0800_0000;
pub const NEWUSER: u64 = 0x1000_0000;
pub const NEWPID: u64 = 0x2000_0000;
pub const NEWNET: u64 = 0x4000_0000;
/// The child becomes a sibling: its parent is the caller's parent.
pub const PARENT: u64 = 0x0000_8000;

/// Moves this thread into the namespace behind `namespace`, which must be of kind `flag` (0: any).
///
/// A pid namespace applies to later children only.
pub fn join(namespace: impl AsFd, flag: u64) -> io::Result<()> {
    // SAFETY: an open descriptor and an integer.
    let result = unsafe { libc::setns(namespace.as_fd().as_raw_fd(), flag as libc::c_int) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Gives this thread namespaces of its own.
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: without CLONE_FILES or CLONE_VM nothing a Rust object owns changes.
    let result = unsafe { libc::unshare(flags as libc::c_int) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
