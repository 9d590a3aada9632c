//! Copies a directory tree by descriptors, for Docker's `tmpcopyup`.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

const READ_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies what is in `from` into `to`, with owners and modes. Sockets and devices are left out.
pub fn copy_tree(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let from = rustix::fs::openat(from, ".", READ_DIR, Mode::empty())?;
    let to = rustix::fs::openat(to, ".", READ_DIR, Mode::empty())?;
    copy_owner(&from, &to)?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let status = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(&to, name, Mode::from_raw_mode(0o700))?;
                let below = rustix::fs::openat(&from, name, READ_DIR, Mode::empty())?;
                let made = rustix::fs::openat(&to, name, READ_DIR, Mode::empty())?;
                copy_tree(&below, &made)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut source = std::fs::File::from(rustix::fs::openat(&from, name, flags, Mode::empty())?);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut copy = std::fs::File::from(rustix::fs::openat(&to, name, flags, Mode::from_raw_mode(0o600))?);
                io::copy(&mut source, &mut copy)?;
                copy_owner(&source, &copy)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&from, name, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), &to, name)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_owner(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    use rustix::fs::{Gid, Uid};
    let status = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        &to,
        Some(Uid::from_raw(status.st_uid)),
        Some(Gid::from_raw(status.st_gid)),
    )?;
    Ok(rustix::fs::fchmod(to, Mode::from_raw_mode(status.st_mode & 0o7777))?)
}
