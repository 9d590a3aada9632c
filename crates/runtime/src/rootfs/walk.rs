//! Paths under a container's root, resolved as the container would see them and never outside it.
//!
//! Every component is opened by descriptor without following links; a link's text is walked from the root
//! in turn and `..` pops the stack of open directories, so neither a link in the image nor a rename during
//! the walk leads out. This works on every kernel; where nothing is to be made, `openat2` does it in one call.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// What to make of a path that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Nothing,
    /// The missing directories, with mode 755.
    Directory,
    /// The missing directories and an empty file.
    File,
}

/// The root directory of a container.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// A resolved place: the thing itself (`O_PATH`), and how to find it again under its parent.
#[derive(Debug)]
pub struct Place {
    pub fd: OwnedFd,
    parent: OwnedFd,
    name: OsString,
    /// Whether the walk made it.
    pub made: bool,
}

/// The path by which the kernel reaches an open descriptor of this process.
pub fn fd_path(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Root {
    /// Opens the directory at a path of the host.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            directory: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens what is at `path` (`O_PATH`, links followed within the root).
    pub fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed meanwhile. ELOOP: a magic link, which the walk reads as text.
        match rustix::fs::openat2(&self.directory, relative, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::AGAIN | Errno::LOOP | Errno::PERM | Errno::INVAL) => {
                Ok(self.walk(path, Make::Nothing)?.fd)
            }
            result => Ok(result?),
        }
    }

    /// Resolves `path`, making what is missing.
    pub fn walk(&self, path: &Path, make: Make) -> io::Result<Place> {
        let mut stack: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut rest: VecDeque<OsString> = components(path.as_os_str()).collect();
        let mut links = 0;
        let mut made = false;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                stack.pop();
                continue;
            }
            let parent = stack.last().map_or(self.directory.as_fd(), |(fd, _)| fd.as_fd());
            let fd = match rustix::fs::openat(parent, &name, PATH_ONLY, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) if make != Make::Nothing => {
                    if rest.is_empty() && make == Make::File {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        drop(rustix::fs::openat(parent, &name, flags, Mode::from_raw_mode(0o755))?);
                    } else {
                        rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o755))?;
                    }
                    made = rest.is_empty();
                    rustix::fs::openat(parent, &name, PATH_ONLY, Mode::empty())?
                }
                Err(error) => return Err(error.into()),
            };
            let status = rustix::fs::fstat(&fd)?;
            if FileType::from_raw_mode(status.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
                let target = OsStr::from_bytes(target.as_bytes());
                if target.as_bytes().first() == Some(&b'/') {
                    stack.clear();
                }
                for component in components(target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(component);
                }
                continue;
            }
            stack.push((fd, name));
        }
        let Some((fd, name)) = stack.pop() else {
            return Ok(Place {
                fd: self.directory.try_clone()?,
                parent: self.directory.try_clone()?,
                name: ".".into(),
                made: false,
            });
        };
        let parent = match stack.pop() {
            Some((parent, _)) => parent,
            None => self.directory.try_clone()?,
        };
        Ok(Place { fd, parent, name, made })
    }
}

fn components(path: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsString::from_vec(part.to_vec()))
}

impl Place {
    /// The path through which `mount(2)` reaches it.
    pub fn path(&self) -> PathBuf {
        fd_path(&self.fd)
    }

    /// Opens again what is now at this place: after a mount, the root of that mount.
    pub fn reopen(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.parent, &self.name, PATH_ONLY, Mode::empty())?)
    }

    /// The directory that holds it.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Its name in that directory.
    pub fn name(&self) -> &OsStr {
        &self.name
    }
}

/// Whether what is open is a directory.
pub fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    let status = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn inode(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    fn inode_of(path: &Path) -> u64 {
        inode(&rustix::fs::open(path, PATH_ONLY, Mode::empty()).unwrap())
    }

    #[test]
    fn links_stay_within_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::create_dir(top.join("etc")).unwrap();
        symlink("/etc", top.join("absolute")).unwrap();
        symlink("../../../../../../etc", top.join("a/b/up")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let root = Root::open(top).unwrap();
        let etc = inode_of(&top.join("etc"));
        for path in [
            "absolute",
            "/a/b/up",
            "../../etc",
            "a/b/../../etc",
            "/absolute/../absolute",
        ] {
            assert_eq!(
                inode(&root.walk(Path::new(path), Make::Nothing).unwrap().fd),
                etc,
                "{path}"
            );
            assert_eq!(inode(&root.find(Path::new(path)).unwrap()), etc, "{path}");
        }
        assert!(root.walk(Path::new("loop"), Make::Directory).is_err());
        assert!(root.find(Path::new("loop")).is_err());
    }

    #[test]
    fn missing_parts_are_made_inside() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        // Dangling, as `/var/run -> /run` in an image without /run.
        symlink("/run/deep", top.join("link")).unwrap();
        let root = Root::open(top).unwrap();
        let place = root.walk(Path::new("/link/x/file"), Make::File).unwrap();
        assert!(place.made);
        assert!(top.join("run/deep/x/file").is_file());
        assert!(!root.walk(Path::new("/link/x/file"), Make::File).unwrap().made);
        assert!(!is_directory(&place.fd).unwrap());
        assert_eq!(inode(&place.reopen().unwrap()), inode(&place.fd));
    }

    #[test]
    fn a_file_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let error = root.walk(Path::new("file/x"), Make::Directory).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }
}
