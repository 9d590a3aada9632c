//! Empty files and directories that a container needs as mount points, made inside an image's untrusted tree.
//!
//! Links in the image are followed inside its own root only; what exists is left as it is.

use crate::error::{Doing, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use sys::resolve::{self, Scope};

/// Makes directories, empty files and symbolic links (path, target) below `root`, with their parents.
pub fn make(root: &Path, directories: &[&str], files: &[&str], links: &[(&str, &str)]) -> Result<()> {
    let top = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(std::io::Error::from)
        .doing("open", root)?;
    for path in directories {
        directory(&top, Path::new(path)).doing("make the mount point", root.join(path))?;
    }
    for path in files {
        place(&top, Path::new(path), |parent, name| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            exists_is_fine(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o755)).map(drop))
        })
        .doing("make the mount point", root.join(path))?;
    }
    for (path, target) in links {
        place(&top, Path::new(path), |parent, name| {
            exists_is_fine(rustix::fs::symlinkat(*target, parent, name))
        })
        .doing("make the link", root.join(path))?;
    }
    Ok(())
}

fn exists_is_fine(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn place(
    top: &OwnedFd,
    path: &Path,
    make: impl FnOnce(&OwnedFd, &std::ffi::OsStr) -> rustix::io::Result<()>,
) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = directory(top, parent)?;
    // What the path leads to may be a link of the image's to something inside: that is a mount point too.
    match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(()),
        Err(_) => Ok(make(&parent, name)?),
    }
}

/// Opens a directory below `top`, making what is missing of it.
fn directory(top: &OwnedFd, path: &Path) -> std::io::Result<OwnedFd> {
    let mut at = resolve::open_directory(top.as_fd(), Path::new("."), Scope::InRoot)?;
    let mut so_far = std::path::PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        so_far.push(name);
        at = match resolve::open_directory(top.as_fd(), &so_far, Scope::InRoot) {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                exists_is_fine(rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)))?;
                resolve::open_directory(top.as_fd(), &so_far, Scope::InRoot)?
            }
            Err(e) => return Err(e),
        };
    }
    Ok(at)
}
