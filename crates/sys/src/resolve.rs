//! Opens paths inside a directory somebody else controls, without ever leaving it.
//!
//! `openat2` does it on Linux 5.6 and later; before that, or where a seccomp filter hides it, a walk opens each
//! component with `O_NOFOLLOW` and keeps the descriptors, so that nothing renamed meanwhile leads outside.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What happens to a path that would lead outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The directory is `/`: absolute paths and links start there, `..` stops there.
    InRoot,
    /// Leaving is an error (`EXDEV`), be it by `..` or by an absolute link.
    Beneath,
}

/// Most links followed on one path, as in the kernel.
const LINKS: u32 = 40;

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens `path` inside `root`; `O_CLOEXEC` is added. With `O_CREAT` the file appears inside `root` as well.
pub fn open(root: BorrowedFd<'_>, path: &Path, scope: Scope, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS
        | match scope {
            Scope::InRoot => ResolveFlags::IN_ROOT,
            Scope::Beneath => ResolveFlags::BENEATH,
        };
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        // EAGAIN: something was renamed during the resolution. A few times is luck, for ever is an attack.
        for _ in 0..32 {
            match rustix::fs::openat2(root, path, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS) => {
                    NO_OPENAT2.store(true, Ordering::Relaxed);
                    return walk(root, path, scope, flags, mode);
                }
                // A filter's answer for "unknown call"; a true EPERM will come again from the walk.
                Err(Errno::PERM) => return walk(root, path, scope, flags, mode),
                other => return Ok(other?),
            }
        }
    }
    walk(root, path, scope, flags, mode)
}

/// Opens a directory inside `root`, following links inside it, for use as a `dirfd`.
pub fn open_directory(root: BorrowedFd<'_>, path: &Path, scope: Scope) -> io::Result<OwnedFd> {
    open(root, path, scope, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// Opens a file inside `root` for reading, without waiting for whoever writes a pipe and without becoming its terminal.
pub fn open_file(root: BorrowedFd<'_>, path: &Path, scope: Scope) -> io::Result<OwnedFd> {
    open(
        root,
        path,
        scope,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
    )
}

/// The same without `openat2`.
fn walk(root: BorrowedFd<'_>, path: &Path, scope: Scope, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut todo = Vec::new();
    push(&mut todo, path.as_os_str().as_bytes());
    if path.as_os_str().is_empty() {
        return Err(Errno::NOENT.into());
    }
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Directories from below the root down to where we are.
    let mut stack: Vec<OwnedFd> = Vec::new();
    if scope == Scope::Beneath && path.is_absolute() {
        return Err(Errno::XDEV.into());
    }
    let mut links = 0;
    while let Some(name) = todo.pop() {
        let here = stack.last().map_or(root, |fd| fd.as_fd());
        if name == ".." {
            if stack.pop().is_none() && scope == Scope::Beneath {
                return Err(Errno::XDEV.into());
            }
            continue;
        }
        let last = todo.is_empty();
        let next = match rustix::fs::openat(here, &name, step, Mode::empty()) {
            Err(Errno::NOENT) if last && flags.contains(OFlags::CREATE) => {
                return Ok(rustix::fs::openat(here, &name, flags | OFlags::NOFOLLOW, mode)?);
            }
            other => other?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        if kind == FileType::Symlink && !(last && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&next, "", Vec::new())?;
            let target = target.as_bytes();
            if target.starts_with(b"/") {
                if scope == Scope::Beneath {
                    return Err(Errno::XDEV.into());
                }
                stack.clear();
            }
            push(&mut todo, target);
            continue;
        }
        if last {
            // What we looked at may have become a link since: NOFOLLOW makes that an error, not a way out.
            return Ok(rustix::fs::openat(here, &name, flags | OFlags::NOFOLLOW, mode)?);
        }
        if kind != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        stack.push(next);
    }
    // The path ended in `..`, `.` or `/`: the directory we stand in.
    let here = stack.last().map_or(root, |fd| fd.as_fd());
    Ok(rustix::fs::openat(here, ".", flags, mode)?)
}

/// Puts the components of a path on the stack of what is to be walked, first on top.
fn push(todo: &mut Vec<OsString>, path: &[u8]) {
    let names = path
        .split(|&b| b == b'/')
        .filter(|name| !name.is_empty() && name != b".");
    todo.extend(names.rev().map(|name| OsString::from_vec(name.to_vec())));
}

/// Says if a name exists in a directory, itself and not what it may link to.
pub fn exists(directory: BorrowedFd<'_>, name: &Path) -> io::Result<bool> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    type Open = fn(BorrowedFd<'_>, &Path, Scope, OFlags, Mode) -> io::Result<OwnedFd>;

    fn root() -> (tempfile::TempDir, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), "inside").unwrap();
        symlink("/a", dir.path().join("absolute")).unwrap();
        symlink("../../../../a", dir.path().join("a/b/up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        symlink("/etc/passwd", dir.path().join("a/passwd")).unwrap();
        let fd = fs::File::open(dir.path()).unwrap();
        (dir, fd)
    }

    #[test]
    fn both_ways_stay_inside() {
        let (_dir, fd) = root();
        for open in [open as Open, walk as Open] {
            let get = |path: &str, scope| open(fd.as_fd(), Path::new(path), scope, OFlags::RDONLY, Mode::empty());
            for inside in [
                "a/file",
                "/a/file",
                "absolute/file",
                "a/b/up/file",
                "../../a/file",
                "a/b/../file",
            ] {
                let mut text = String::new();
                io::Read::read_to_string(&mut fs::File::from(get(inside, Scope::InRoot).unwrap()), &mut text).unwrap();
                assert_eq!(text, "inside", "{inside}");
            }
            assert_eq!(
                get("a/passwd", Scope::InRoot).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            assert_eq!(
                get("loop", Scope::InRoot).unwrap_err().raw_os_error(),
                Some(Errno::LOOP.raw_os_error())
            );
            assert!(get("a/b/..", Scope::InRoot).is_ok());
            assert!(get("a/file/x", Scope::InRoot).is_err());
            for outside in ["/a/file", "absolute/file", "a/b/up/file", "../x", "a/passwd"] {
                let error = get(outside, Scope::Beneath).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()), "{outside}");
            }
            assert!(get("a/file", Scope::Beneath).is_ok());
        }
    }
}
