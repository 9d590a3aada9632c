//! What a container changed in its image, as `docker diff` tells it.

use crate::error::{Doing, Result};
use crate::walk::{self, Found};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::resolve::{self, Scope};

/// How something changed; the numbers are the Engine API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Absolute in the container.
    pub path: PathBuf,
}

/// Compares an overlay upper directory with the directories below it, nearest first. A directory that is there only
/// because something in it changed is told as modified, before that.
pub(crate) fn between(upper: &Path, lower: &[PathBuf]) -> Result<Vec<Change>> {
    let lower = lower
        .iter()
        .map(|path| crate::durable::open_directory(path))
        .collect::<Result<Vec<_>>>()?;
    let mut changes = Vec::new();
    let mut told: HashSet<Vec<u8>> = HashSet::new();
    walk::walk(upper, |found| {
        let kind = if found.is_whiteout() {
            ChangeKind::Deleted
        } else {
            match find_below(&lower, found)? {
                None => ChangeKind::Added,
                Some(below) if same_directory(&below, &found.stat) => return Ok(()),
                Some(_) => ChangeKind::Modified,
            }
        };
        if found.kind() == FileType::Directory {
            told.insert(found.path.to_vec());
        }
        if kind != ChangeKind::Modified {
            let slashes = found
                .path
                .iter()
                .enumerate()
                .filter(|(_, b)| **b == b'/')
                .map(|(at, _)| at);
            for directory in slashes.map(|at| &found.path[..at]) {
                if told.insert(directory.to_vec()) {
                    changes.push(change(ChangeKind::Modified, directory));
                }
            }
        }
        changes.push(change(kind, found.path));
        Ok(())
    })?;
    Ok(changes)
}

fn change(kind: ChangeKind, path: &[u8]) -> Change {
    Change {
        kind,
        path: Path::new("/").join(OsStr::from_bytes(path)),
    }
}

fn find_below(lower: &[OwnedFd], found: &Found<'_>) -> Result<Option<Stat>> {
    let path = Path::new(OsStr::from_bytes(found.path));
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    for directory in lower {
        let at = match resolve::open(
            directory.as_fd(),
            parent,
            Scope::Beneath,
            OFlags::PATH | OFlags::NOFOLLOW,
            rustix::fs::Mode::empty(),
        ) {
            // Nothing of that name here, or something else than a directory, which hides those below.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => continue,
            Err(_) => return Ok(None),
            Ok(at) => at,
        };
        match rustix::fs::statat(&at, found.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => return Ok(None),
            other => {
                let stat = other.doing("stat", path)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                let deleted = kind == FileType::CharacterDevice && stat.st_rdev == 0;
                return Ok((!deleted).then_some(stat));
            }
        }
    }
    Ok(None)
}

/// A directory copied up only for what is in it has everything as it was below.
fn same_directory(below: &Stat, above: &Stat) -> bool {
    let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    is_directory(below)
        && is_directory(above)
        && (below.st_mode, below.st_uid, below.st_gid) == (above.st_mode, above.st_uid, above.st_gid)
        && (below.st_mtime, below.st_mtime_nsec) == (above.st_mtime, above.st_mtime_nsec)
}
