//! File system calls that the standard library has no safe name for.

use rustix::fs::{Advice, AtFlags, StatxAttributes, StatxFlags, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Writes everything dirty on the file system of `fd` to the device and reports write errors since `fd` was opened
/// (Linux 5.8 and later report them).
pub fn syncfs(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::syncfs(&fd))?)
}

/// Asks the kernel to forget a file's clean pages. Dirty pages stay.
pub fn drop_cache(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fadvise(fd, 0, None, Advice::DontNeed)?)
}

/// A path to an open file. Needs /proc.
pub fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string())
}

/// The same of a part of it.
pub fn drop_cache_of(fd: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    let bytes = std::num::NonZeroU64::new(bytes);
    Ok(rustix::fs::fadvise(fd, offset, bytes, Advice::DontNeed)?)
}

/// Waits until some bytes of a file are on their way to the device and have arrived in it, which may still lose them with
/// power: neither its cache is flushed nor is anything written that says where they are (`sync_file_range(2)`).
pub fn write_back(fd: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let number = |value: u64| i64::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, bytes) = (number(offset)?, number(bytes)?);
    // SAFETY: takes numbers only, and the descriptor is open while it is borrowed.
    match unsafe { libc::sync_file_range(fd.as_fd().as_raw_fd(), offset, bytes, all) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel begin to read some bytes of a file, without waiting for them.
pub fn will_need(fd: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    let bytes = std::num::NonZeroU64::new(bytes);
    Ok(rustix::fs::fadvise(fd, offset, bytes, Advice::WillNeed)?)
}

/// A path to `name` in an open directory for calls that take only paths, such as `lsetxattr`. Needs /proc.
pub fn path_at(directory: BorrowedFd<'_>, name: &Path) -> PathBuf {
    path_of(directory).join(name)
}

/// Sets an extended attribute of `name` in a directory, never of what it links to.
pub fn set_xattr(directory: BorrowedFd<'_>, name: &Path, key: &[u8], value: &[u8]) -> io::Result<()> {
    let key = CString::new(key)?;
    Ok(rustix::fs::lsetxattr(
        path_at(directory, name),
        key.as_c_str(),
        value,
        XattrFlags::empty(),
    )?)
}

/// Sets an extended attribute of an open file.
pub fn set_xattr_of(fd: impl AsFd, key: &[u8], value: &[u8]) -> io::Result<()> {
    let key = CString::new(key)?;
    Ok(rustix::fs::fsetxattr(fd, key.as_c_str(), value, XattrFlags::empty())?)
}

/// Reads an extended attribute, or nothing where there is none or the file system has no such thing.
pub fn get_xattr(directory: BorrowedFd<'_>, name: &Path, key: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = path_at(directory, name);
    loop {
        let length = match rustix::fs::lgetxattr_query(&path, key) {
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            other => other?,
        };
        let mut value = vec![0u8; length];
        match rustix::fs::lgetxattr(&path, key, &mut value[..]) {
            Err(Errno::RANGE) => continue,
            Err(Errno::NODATA) => return Ok(None),
            other => value.truncate(other?),
        }
        return Ok(Some(value));
    }
}

/// The names of a file's extended attributes; none where the file system has no such thing.
pub fn list_xattrs(directory: BorrowedFd<'_>, name: &Path) -> io::Result<Vec<CString>> {
    let path = path_at(directory, name);
    loop {
        let length = match rustix::fs::llistxattr_query(&path) {
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            other => other?,
        };
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut names = vec![0u8; length];
        match rustix::fs::llistxattr(&path, &mut names[..]) {
            Err(Errno::RANGE) => continue,
            other => names.truncate(other?),
        }
        let names = names.split(|&b| b == 0).filter(|name| !name.is_empty());
        return Ok(names.filter_map(|name| CString::new(name).ok()).collect());
    }
}

/// Reads an extended attribute of an open file, as [`get_xattr`].
pub fn get_xattr_of(fd: impl AsFd, key: &CStr) -> io::Result<Option<Vec<u8>>> {
    loop {
        let length = match rustix::fs::fgetxattr_query(&fd, key) {
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            other => other?,
        };
        let mut value = vec![0u8; length];
        match rustix::fs::fgetxattr(&fd, key, &mut value[..]) {
            Err(Errno::RANGE) => continue,
            Err(Errno::NODATA) => return Ok(None),
            other => value.truncate(other?),
        }
        return Ok(Some(value));
    }
}

/// The names of an open file's extended attributes, as [`list_xattrs`].
pub fn list_xattrs_of(fd: impl AsFd) -> io::Result<Vec<CString>> {
    loop {
        let length = match rustix::fs::flistxattr_query(&fd) {
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            other => other?,
        };
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut names = vec![0u8; length];
        match rustix::fs::flistxattr(&fd, &mut names[..]) {
            Err(Errno::RANGE) => continue,
            other => names.truncate(other?),
        }
        let names = names.split(|&b| b == 0).filter(|name| !name.is_empty());
        return Ok(names.filter_map(|name| CString::new(name).ok()).collect());
    }
}

/// Makes `target` share the blocks of `source` (btrfs, xfs); `EOPNOTSUPP` and `EXDEV` mean: copy.
pub fn reflink(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(target, source)?)
}

/// Renames without replacing: `EEXIST` if `to` is there.
pub fn rename_exclusive(from_dir: BorrowedFd<'_>, from: &Path, to_dir: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        from_dir,
        from,
        to_dir,
        to,
        rustix::fs::RenameFlags::NOREPLACE,
    )?)
}

/// Lets two names change places in one step (Linux 3.15; not every file system can).
pub fn rename_exchange(one: &Path, other: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    Ok(rustix::fs::renameat_with(
        here,
        one,
        here,
        other,
        rustix::fs::RenameFlags::EXCHANGE,
    )?)
}

/// Bytes on the file system of a path: in all, and free for us.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((
        stat.f_blocks.saturating_mul(stat.f_frsize),
        stat.f_bavail.saturating_mul(stat.f_frsize),
    ))
}

/// Inodes free on the file system of a path; nothing where they are made as they are needed.
pub fn free_inodes(path: &Path) -> io::Result<Option<u64>> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_files > 0).then_some(stat.f_favail))
}

/// Says if a path is where something is mounted, also a directory of the same file system: by `statx` (Linux 5.8), else
/// by the list of mounts.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let known = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::empty());
    let root = StatxAttributes::MOUNT_ROOT;
    match known {
        Ok(found) if found.stx_attributes_mask.contains(root) => Ok(found.stx_attributes.contains(root)),
        Ok(_) | Err(rustix::io::Errno::NOSYS) => {
            let path = path.canonicalize()?;
            let mounts = std::fs::read("/proc/self/mountinfo")?;
            Ok(is_listed(&mounts, path.as_os_str().as_bytes()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Says if a path is a mount point by proc(5)'s `mountinfo`, in which blanks and the like are `\\040`.
fn is_listed(mounts: &[u8], path: &[u8]) -> bool {
    mounts.split(|&b| b == b'\n').any(|line| {
        let Some(place) = line.split(|&b| b == b' ').nth(4) else {
            return false;
        };
        let mut plain = Vec::with_capacity(place.len());
        let mut rest = place;
        while let Some((&first, tail)) = rest.split_first() {
            let octal = (first == b'\\')
                .then(|| tail.get(..3))
                .flatten()
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 8).ok());
            plain.push(octal.unwrap_or(first));
            rest = if octal.is_some() { &tail[3..] } else { tail };
        }
        plain == path
    })
}

/// Runs `work` on a thread whose working directory is `directory`; the process's own stays as it is.
///
/// For mount data that must fit in a page: short relative paths do where absolute ones do not.
pub fn in_directory<T: Send>(directory: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let enter = || -> io::Result<()> {
        // SAFETY: CLONE_FS alone gives this thread its own working directory, root and umask. No descriptor table is
        // unshared, so no other thread's descriptors change meaning, and the thread ends when `work` returns.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS)? };
        Ok(rustix::process::chdir(directory)?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(256 * 1024);
        let thread = thread.spawn_scoped(scope, || {
            enter()?;
            work()
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The process's umask, read without changing it.
pub fn umask() -> io::Result<u32> {
    let status = std::fs::read("/proc/self/status")?;
    let line = status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"Umask:"));
    let text = line.map(|line| std::ffi::OsStr::from_bytes(line).to_string_lossy().trim().to_owned());
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "read umask: /proc/self/status has none");
    u32::from_str_radix(&text.ok_or_else(missing)?, 8).map_err(|_| missing())
}

/// Raises the soft limit of open files to the hard one and says what it is. For the start of the daemon.
pub fn raise_file_limit() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let hard = limit.maximum;
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: hard,
            maximum: hard,
        },
    )?;
    Ok(hard.unwrap_or(u64::MAX))
}
/// The kernel's word for the machine (`uname -m`).
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The magic number of the file system that holds a path (statfs(2)).
pub fn magic(path: &Path) -> io::Result<u32> {
    let found = rustix::fs::statfs(path)?;
    // The kernel's numbers have 32 bits; the field's type differs by architecture.
    Ok((found.f_type as u64 & 0xffff_ffff) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
        assert!(is_mount_point(Path::new("/no/such/place")).is_err());
        let list = b"22 28 0:21 / /sys rw,nosuid - sysfs sysfs rw\n36 28 8:1 /x /mnt/a\\040b rw - ext4 /dev/sda1 rw\n";
        assert!(is_listed(list, b"/sys") && is_listed(list, b"/mnt/a b"));
        assert!(!is_listed(list, b"/") && !is_listed(list, b"/mnt/a") && !is_listed(list, b""));
    }
}
