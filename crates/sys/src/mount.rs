//! Mounts: what rustix has no call for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
/// `AT_RECURSIVE` of `linux/fcntl.h`.
const AT_RECURSIVE: libc::c_int = 0x8000;
/// The same number on every architecture we build for.
const SYS_MOUNT_SETATTR: libc::c_long = 442;

/// Makes the mount behind `mount` and all mounts below it read-only (Linux 5.12).
pub fn set_readonly_recursive(mount: impl AsFd) -> io::Result<()> {
    let attributes = Attributes {
        set: MOUNT_ATTR_RDONLY,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the path is the empty string, the structure of the length given lives through the call.
    let result = unsafe {
        libc::syscall(
            SYS_MOUNT_SETATTR,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | AT_RECURSIVE,
            &attributes,
            size_of::<Attributes>(),
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
