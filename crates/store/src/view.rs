//! A container's files as it sees them, volumes and binds included, without being in it: for `cp`.
//!
//! The work is done on a thread with a mount namespace of its own, in which the container's mounts are put over its
//! root; they end with the thread. Every path is an untrusted one: it is resolved inside the root, links included, by
//! descriptor, and what it was resolved to is what is used.

use crate::error::{Doing, Error, Result};
use crate::mount_points;
use crate::tree_tar;
use crate::unpack::{self, Rules};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::resolve::{self, Scope};

/// Something to be put over a place in the root.
#[derive(Debug, Clone)]
pub struct Bind {
    pub source: PathBuf,
    /// Absolute in the container.
    pub target: PathBuf,
}

/// A container's files. Lives on a thread of its own.
pub struct View {
    root: OwnedFd,
}

/// What there is at a path, as `docker cp` asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a link leads in the end, absolute in the container.
    pub link_target: String,
}

/// Runs `work` with a container's root and its mounts.
pub fn within<T: Send>(root: &Path, binds: &[Bind], work: impl FnOnce(&View) -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("view".into())
            .spawn_scoped(scope, || {
                sys::namespace::unshare(sys::namespace::NEWNS).doing("make a mount namespace for", root)?;
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).doing("make mounts private for", root)?;
                let view = View {
                    root: open_path(None, root)?,
                };
                let mut binds: Vec<&Bind> = binds.iter().collect();
                // What lies in another is put there after it.
                binds.sort_by_key(|bind| bind.target.components().count());
                for bind in binds {
                    view.bind(bind)?;
                }
                work(&view)
            })
            .doing("start a thread for", root)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::Invalid("the thread that looks at a container panicked".into())))
    })
}

fn open_path(at: Option<BorrowedFd<'_>>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match at {
        Some(at) => rustix::fs::openat(at, path, flags, Mode::empty()),
        None => rustix::fs::open(path, flags, Mode::empty()),
    }
    .doing("open", path)
}

/// A descriptor as a path: what was resolved stays what is used.
fn held(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()))
}

/// A path's directory and its last component, which is empty for the directory itself.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|b| *b == b'/');
    let (directory, name) = slash.map_or((&b""[..], path), |at| path.split_at(at + 1));
    match name {
        b"." => (directory, b""),
        // `..` is no name in a directory: it is resolved with the rest.
        b".." => (path, b""),
        name => (directory, name),
    }
}

/// The last component as Go's `filepath.Base` has it.
fn base(path: &[u8]) -> &[u8] {
    let trimmed = &path[..path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1)];
    match trimmed.iter().rposition(|b| *b == b'/') {
        _ if trimmed.is_empty() => b"/",
        Some(slash) => &trimmed[slash + 1..],
        None => trimmed,
    }
}

impl View {
    fn bind(&self, bind: &Bind) -> Result<()> {
        let Ok(source) = std::fs::metadata(&bind.source) else {
            return Ok(());
        };
        let find = || {
            resolve::open(
                self.root.as_fd(),
                &bind.target,
                Scope::InRoot,
                OFlags::PATH,
                Mode::empty(),
            )
        };
        let target = match find() {
            // Never started: the place is made by the start, and so by us.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let place = bind.target.to_string_lossy();
                let place = [place.trim_start_matches('/')];
                let (directories, files): (&[&str], &[&str]) = match source.is_dir() {
                    true => (&place, &[]),
                    false => (&[], &place),
                };
                mount_points::make(&held(&self.root), directories, files, &[])?;
                find()
            }
            other => other,
        }
        .doing("find", &bind.target)?;
        rustix::mount::mount_bind_recursive(&bind.source, held(&target)).doing("mount over", &bind.target)
    }

    /// Opens the directory that a path leads to.
    fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let path = Path::new(OsStr::from_bytes(path));
        let path = if path.as_os_str().is_empty() {
            Path::new("/")
        } else {
            path
        };
        let found = resolve::open(
            self.root.as_fd(),
            path,
            Scope::InRoot,
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        );
        found.map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::NOENT | Errno::NOTDIR) => Error::NotFound(path.display().to_string()),
            _ => Error::Io {
                doing: format!("open {}", path.display()),
                source: e,
            },
        })
    }

    fn find<'a>(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8], Stat)> {
        let (directory, name) = split(path);
        let directory = self.directory(directory)?;
        let looked_up: &[u8] = if name.is_empty() { b"." } else { name };
        let stat = match rustix::fs::statat(&directory, looked_up, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(Error::NotFound(String::from_utf8_lossy(path).into_owned()));
            }
            other => other.doing("stat", OsStr::from_bytes(path))?,
        };
        Ok((directory, name, stat))
    }

    /// Looks at a path; a link at its end is not followed.
    pub fn stat(&self, path: &[u8]) -> Result<PathStat> {
        let (directory, name, stat) = self.find(path)?;
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        Ok(PathStat {
            name: String::from_utf8_lossy(base(path)).into_owned(),
            size: stat.st_size,
            mode: stat.st_mode,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            link_target: if link {
                self.target(&directory, path, name)?
            } else {
                String::new()
            },
        })
    }

    fn target(&self, directory: &OwnedFd, path: &[u8], name: &[u8]) -> Result<String> {
        let whole = Path::new(OsStr::from_bytes(path));
        let found = resolve::open(self.root.as_fd(), whole, Scope::InRoot, OFlags::PATH, Mode::empty());
        let known = |fd: &OwnedFd| std::fs::read_link(held(fd)).ok();
        let below = found.ok().and_then(|found| {
            let (root, found) = (known(&self.root)?, known(&found)?);
            Some(Path::new("/").join(found.strip_prefix(root).ok()?))
        });
        // A link to nothing: what it says, from where it is.
        let said = rustix::fs::readlinkat(directory, name, Vec::new()).doing("read", whole)?;
        let said = PathBuf::from(std::ffi::OsString::from_vec(said.into_bytes()));
        let parent = Path::new(OsStr::from_bytes(split(path).0));
        let target = below.unwrap_or_else(|| Path::new("/").join(parent).join(said));
        Ok(target.display().to_string())
    }

    /// Writes what is at a path as a tar, under the path's last component.
    pub fn tar(&self, path: &[u8], out: impl Write) -> Result<()> {
        let (directory, name, stat) = self.find(path)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let shown_as = base(path);
        if !is_directory || name.is_empty() {
            return tree_tar::write_as(&held(&directory).join("."), name, shown_as, out);
        }
        let inner = open_path(Some(directory.as_fd()), Path::new(OsStr::from_bytes(name)))?;
        tree_tar::write_as(&held(&inner).join("."), b"", shown_as, out)
    }

    /// Unpacks a tar into the directory at a path, links followed. Durable when it returns.
    pub fn extract(&self, path: &[u8], tar: &mut dyn Read, rules: Rules) -> Result<()> {
        let directory = self.directory_to_write(path)?;
        let place = held(&directory).join(".");
        let unpacked = unpack::into_directory(tar, &place, rules).map(drop);
        // The descriptor is ours alone: who reads of an error knows the path.
        let shown = String::from_utf8_lossy(path);
        unpacked.map_err(|error| error.renamed(&place.display().to_string(), shown.trim_end_matches('/')))
    }

    /// Where a path leads, for those who must know what it lies on; absolute in the container.
    pub fn resolved(&self, path: &[u8]) -> Result<PathBuf> {
        let directory = self.directory_to_write(path)?;
        let known = |fd: &OwnedFd| std::fs::read_link(held(fd)).doing("read", held(fd));
        let (root, found) = (known(&self.root)?, known(&directory)?);
        Ok(Path::new("/").join(found.strip_prefix(root).unwrap_or(Path::new(""))))
    }

    fn directory_to_write(&self, path: &[u8]) -> Result<OwnedFd> {
        let there = Path::new(OsStr::from_bytes(path));
        let found = resolve::open(self.root.as_fd(), there, Scope::InRoot, OFlags::PATH, Mode::empty());
        let found = match found {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOENT) => {
                return Err(Error::NotFound(there.display().to_string()));
            }
            other => other.doing("open", there)?,
        };
        let stat = rustix::fs::fstat(&found).doing("stat", there)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(found),
            _ => Err(Error::Conflict("extraction point is not a directory".into())),
        }
    }

    /// Reads a small file of the container, for looking users up; empty where there is none.
    pub fn small_file(&self, path: &Path, limit: u64) -> String {
        let mut text = Vec::new();
        if let Ok(file) = resolve::open_file(self.root.as_fd(), path, Scope::InRoot) {
            let _ = std::fs::File::from(file).take(limit).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths() {
        for (path, directory, name, last) in [
            ("/a/b", "/a/", "b", "b"),
            ("/a/b/", "/a/b/", "", "b"),
            ("/a/b/.", "/a/b/", "", "."),
            ("/a/..", "/a/..", "", ".."),
            ("/", "/", "", "/"),
            ("a", "", "a", "a"),
        ] {
            let got = split(path.as_bytes());
            assert_eq!(got, (directory.as_bytes(), name.as_bytes()), "{path}");
            assert_eq!(base(path.as_bytes()), last.as_bytes(), "{path}");
        }
    }
}
