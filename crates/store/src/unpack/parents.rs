//! Finds the directory an entry goes into, keeping the directories on the way open: neighbours are the rule.

use crate::error::{Doing, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use sys::resolve::{self, Scope};

/// Directories kept open on the way to the one in use; deeper ones are found from the root again.
const OPEN_LIMIT: usize = 48;

/// The root and the way to the directory used last.
pub(super) struct Parents {
    root: Rc<OwnedFd>,
    /// Where the root is, for messages.
    shown: PathBuf,
    /// Open directories on `path`, each with the length of its own path, ascending.
    open: Vec<(usize, Rc<OwnedFd>)>,
    path: Vec<u8>,
    followed: bool,
}

impl Parents {
    pub fn new(root: OwnedFd, shown: &Path) -> Parents {
        Parents {
            root: Rc::new(root),
            shown: shown.to_owned(),
            open: Vec::new(),
            path: Vec::new(),
            followed: false,
        }
    }

    /// The full path of something in the root, for messages.
    pub fn shown(&self, path: &[u8]) -> PathBuf {
        self.shown.join(OsStr::from_bytes(path))
    }

    /// Says if a link was ever followed, so that a directory was not only used by its own path.
    pub fn has_followed(&self) -> bool {
        self.followed
    }

    /// Forgets what is open: something was removed or replaced, so a path may now lead elsewhere.
    pub fn forget(&mut self) {
        self.open.clear();
        self.path.clear();
    }

    /// Goes up until what is open lies on the way to a clean path. Of each directory that is left, tells the path and
    /// the directory above it, if that is open.
    pub fn leave(&mut self, path: &[u8], mut left: impl FnMut(&[u8], &OwnedFd) -> Result<()>) -> Result<()> {
        while let Some((end, _)) = self.open.pop_if(|(end, _)| !is_within(path, &self.path[..*end])) {
            let gone = &self.path[..end];
            let above = split(gone).0.len();
            match self.open.last() {
                Some((end, fd)) if *end == above => left(gone, fd)?,
                None if above == 0 => left(gone, &self.root)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the directory of a clean path, making the missing ones with mode 0755 if `make`.
    pub fn open(&mut self, path: &[u8], make: bool) -> Result<Rc<OwnedFd>> {
        self.leave(path, |_, _| Ok(()))?;
        let mut end = self.open.last().map_or(0, |(end, _)| *end);
        self.path.clear();
        self.path.extend_from_slice(path);
        let mut here = self.open.last().map_or(&self.root, |(_, fd)| fd).clone();
        while end < path.len() {
            let start = if end == 0 { 0 } else { end + 1 };
            end = path[start..]
                .iter()
                .position(|&b| b == b'/')
                .map_or(path.len(), |length| start + length);
            here = Rc::new(self.step(&here, &path[start..end], &path[..end], make)?);
            if self.open.len() == OPEN_LIMIT {
                self.open.remove(0);
            }
            self.open.push((end, here.clone()));
        }
        Ok(here)
    }

    fn step(&mut self, here: &OwnedFd, name: &[u8], path: &[u8], make: bool) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(here, name, flags, Mode::empty()) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) if make => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(here, name, mode).doing("create directory", self.shown(path))?;
                // The umask may have taken bits; nobody else is here, so the name is still the directory's.
                rustix::fs::chmodat(here, name, mode, AtFlags::empty()).doing("set mode of", self.shown(path))?;
                return rustix::fs::openat(here, name, flags, Mode::empty()).doing("open", self.shown(path));
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error).doing("open", self.shown(path)),
        }
        let stat = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW).doing("stat", self.shown(path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(Error::Invalid(format!(
                "open {}: not a directory",
                self.shown(path).display()
            )));
        }
        self.followed = true;
        let inside = Path::new(OsStr::from_bytes(path));
        resolve::open_directory(self.root.as_fd(), inside, Scope::InRoot).doing("follow", self.shown(path))
    }

    /// Opens the directory that holds a clean path without remembering the way.
    pub fn find(&self, path: &[u8]) -> Result<OwnedFd> {
        let inside = if path.is_empty() {
            Path::new(".")
        } else {
            Path::new(OsStr::from_bytes(path))
        };
        resolve::open_directory(self.root.as_fd(), inside, Scope::InRoot).doing("open", self.shown(path))
    }
}

/// Cleans a name as if it stood behind `/`: no leading or double slashes, no `.`, and `..` stops at the root.
pub(crate) fn clean(name: &[u8], path: &mut Vec<u8>) {
    path.clear();
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
}

/// Says if a clean path is another or lies in it.
pub(super) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.starts_with(directory) && matches!(path.get(directory.len()), None | Some(b'/'))
}

/// Splits a clean path into its directory and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        for (name, wanted) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("a/b/../..", ""),
            ("..", ""),
            (".", ""),
            ("", ""),
            ("...", "..."),
        ] {
            let mut path = Vec::new();
            clean(name.as_bytes(), &mut path);
            assert_eq!(path, wanted.as_bytes(), "{name}");
        }
    }
}
