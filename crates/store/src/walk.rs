//! Walks a directory tree that a container may be changing, without ever leaving it: every step is by descriptor.

use crate::error::{Doing, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Something in the tree.
pub(crate) struct Found<'a> {
    /// From the root of the walk, without a leading slash.
    pub path: &'a [u8],
    pub parent: BorrowedFd<'a>,
    pub name: &'a [u8],
    pub stat: Stat,
}

impl Found<'_> {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Overlay's mark of something deleted: a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.stat.st_rdev == 0
    }

    pub fn name_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.name))
    }

    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }
}

struct Level {
    directory: OwnedFd,
    /// Names still to visit, last first.
    names: Vec<Vec<u8>>,
    /// Length of the path of the directory.
    path: usize,
}

/// Visits everything below `root`, a directory before what is in it, names in byte order. What vanishes meanwhile is
/// left out. Descriptors and memory: one level at a time, and the names of each level.
pub(crate) fn walk(root: &Path, mut visit: impl FnMut(&Found<'_>) -> Result<()>) -> Result<()> {
    let directory = crate::durable::open_directory(root)?;
    let names = names(&directory, root)?;
    let mut levels = vec![Level {
        directory,
        names,
        path: 0,
    }];
    let mut path = Vec::new();
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path);
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let shown = || root.join(OsStr::from_bytes(&path));
        let stat = match rustix::fs::statat(&level.directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other.doing("stat", shown())?,
        };
        let found = Found {
            path: &path,
            parent: level.directory.as_fd(),
            name: &name,
            stat,
        };
        visit(&found)?;
        if found.kind() != FileType::Directory {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(&level.directory, &*name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            other => other.doing("open", shown())?,
        };
        let names = self::names(&directory, &shown())?;
        levels.push(Level {
            directory,
            names,
            path: path.len(),
        });
    }
    Ok(())
}

/// Names in a directory in falling order.
fn names(directory: &OwnedFd, shown: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).doing("list", shown)? {
        let name = entry.doing("list", shown)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Bytes of the files below a directory as Docker counts them: no directories, each inode once.
pub(crate) fn size(root: &Path) -> Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut size = 0;
    walk(root, |found| {
        let linked = found.stat.st_nlink > 1;
        if found.kind() != FileType::Directory && (!linked || seen.insert((found.stat.st_dev, found.stat.st_ino))) {
            size += found.size();
        }
        Ok(())
    })?;
    Ok(size)
}

/// The full path of something found, for messages.
pub(crate) fn shown(root: &Path, found: &Found<'_>) -> PathBuf {
    root.join(OsStr::from_bytes(found.path))
}
