//! What an image has in the place of a new volume, copied into it.

use crate::error::{Doing, Error, Result};
use crate::tree_tar::{self, Style};
use crate::unpack;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use sys::resolve::{self, Scope};

/// Copies the directory `path` of an untrusted `root`, links followed inside the root only, into `target` with the
/// directory's own owner and mode; if `target` has anything in it, or there is no such directory, nothing is done.
/// Says whether it copied.
pub fn into_empty(root: &Path, path: &Path, target: &Path) -> Result<bool> {
    if fs::read_dir(target).doing("list", target)?.next().is_some() {
        return Ok(false);
    }
    let top = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("open", root)?;
    let source = match resolve::open_directory(top.as_fd(), path, Scope::InRoot) {
        Ok(source) => source,
        Err(e) if matches!(e.raw_os_error(), Some(2 | 20)) => return Ok(false),
        Err(e) => return Err(e).doing("open", root.join(path)),
    };
    // Through the descriptor: what it was resolved to stays what is read.
    let held = std::path::PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    let held = fs::canonicalize(&held).doing("find", root.join(path))?;
    let (reader, writer) = std::io::pipe().doing("make", "a pipe")?;
    let copied = std::thread::scope(|scope| {
        let from = held.clone();
        let writing = scope.spawn(move || tree_tar::write(&from, Style::Plain, writer));
        let read = unpack::into_directory(reader, target, unpack::Rules::copy());
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(Error::Invalid("copy: the reading thread panicked".into())));
        read.and(written)
    });
    if let Err(error) = copied {
        for entry in fs::read_dir(target).doing("list", target)?.flatten() {
            let path = entry.path();
            let _ = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
        return Err(error);
    }
    let found = fs::metadata(&held).doing("look at", &held)?;
    std::os::unix::fs::chown(target, Some(found.uid()), Some(found.gid())).doing("change the owner of", target)?;
    fs::set_permissions(target, fs::Permissions::from_mode(found.mode() & 0o7777))
        .doing("change the mode of", target)?;
    Ok(true)
}
