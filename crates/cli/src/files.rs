//! Local files as a tar, and a tar as local files: what `cp` does on this side.
//!
//! What comes from a container is untrusted: every name is resolved inside the directory it is unpacked into, links
//! that the archive itself made included, so nothing lands outside. Owners are the caller's, as with Docker.

use oci::tar::{Entry, Kind, Reader, Time, Writer};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use sys::resolve::{self, Scope};

/// Writes a file, or a directory with all below it, under another name.
pub fn pack(path: &Path, name: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer::new(io::BufWriter::with_capacity(64 * 1024, out));
    let mut links = HashMap::new();
    pack_one(path, name.as_bytes(), &mut writer, &mut links)?;
    writer.finish().map(drop)
}

type Links = HashMap<(u64, u64), Vec<u8>>;

fn pack_one<W: Write>(path: &Path, name: &[u8], writer: &mut Writer<W>, links: &mut Links) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let Some(mut entry) = entry_of(path, name, &found)? else {
        return Ok(());
    };
    if entry.kind == Kind::Directory {
        writer.start(&entry)?;
        let mut names: Vec<_> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for child in names {
            let below = [&entry.name[..], child.as_bytes()].concat();
            pack_one(&path.join(&child), &below, writer, links)?;
        }
        return Ok(());
    }
    if found.nlink() > 1 {
        match links.get(&(found.dev(), found.ino())) {
            Some(first) => {
                (entry.kind, entry.link, entry.size) = (Kind::HardLink, first.clone(), 0);
                return writer.start(&entry);
            }
            None => drop(links.insert((found.dev(), found.ino()), entry.name.clone())),
        }
    }
    match entry.kind {
        // A file that shrinks while it is read is filled up: the header with its size is written.
        Kind::Regular => writer.append(&entry, &mut File::open(path)?.chain(io::repeat(0))),
        _ => writer.start(&entry),
    }
}

fn entry_of(path: &Path, name: &[u8], found: &Metadata) -> io::Result<Option<Entry>> {
    let kind = match found.file_type() {
        t if t.is_dir() => Kind::Directory,
        t if t.is_file() => Kind::Regular,
        t if t.is_symlink() => Kind::Symlink,
        t if t.is_char_device() => Kind::CharDevice,
        t if t.is_block_device() => Kind::BlockDevice,
        t if t.is_fifo() => Kind::Fifo,
        // A tar cannot hold a socket.
        _ => return Ok(None),
    };
    let mut entry = Entry::new(kind, name);
    match kind {
        Kind::Directory => entry.name.push(b'/'),
        Kind::Regular => entry.size = found.len(),
        Kind::Symlink => entry.link = fs::read_link(path)?.into_os_string().into_encoded_bytes(),
        Kind::CharDevice | Kind::BlockDevice => {
            entry.device_major = rustix::fs::major(found.rdev());
            entry.device_minor = rustix::fs::minor(found.rdev());
        }
        _ => {}
    }
    (entry.mode, entry.uid, entry.gid) = (found.mode() & 0o7777, found.uid(), found.gid());
    entry.mtime = Time {
        seconds: found.mtime(),
        nanoseconds: 0,
    };
    Ok(Some(entry))
}

/// Unpacks a tar into a directory; `old` at the beginning of each name becomes `new`.
pub fn unpack(tar: &mut dyn Read, directory: &Path, (old, new): (&str, &str)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty())?;
    let mut reader = Reader::new(tar);
    let mut times = Vec::new();
    while let Some(mut entry) = reader.next_entry().map_err(io::Error::from)? {
        entry.name = renamed(&entry.name, old, new);
        if entry.kind == Kind::HardLink {
            entry.link = renamed(&entry.link, old, new);
        }
        unpack_one(&root, &entry, &mut reader, &mut times)?;
    }
    for (path, time) in times.into_iter().rev() {
        if let Ok(directory) = resolve::open_directory(root.as_fd(), Path::new(OsStr::from_bytes(&path)), Scope::InRoot)
        {
            let _ = rustix::fs::utimensat(&directory, ".", &time, AtFlags::empty());
        }
    }
    Ok(())
}

/// The first `old` in a name becomes `new`, as Docker's client does it.
fn renamed(name: &[u8], old: &str, new: &str) -> Vec<u8> {
    let old = if old == "/" { b"" } else { old.as_bytes() };
    if old == new.as_bytes() {
        return name.to_vec();
    }
    match name.strip_prefix(old) {
        Some(rest) => [new.as_bytes(), rest].concat(),
        None => name.to_vec(),
    }
}

/// A name's parts without `.`; nothing for one with `..`, which no honest archive has.
fn parts(name: &[u8]) -> io::Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = name
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    match parts.contains(&&b".."[..]) {
        true => Err(io::Error::other(format!(
            "{:?} is outside of where it is copied to",
            String::from_utf8_lossy(name)
        ))),
        false => Ok(parts),
    }
}

fn parent(root: &OwnedFd, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut at = resolve::open_directory(root.as_fd(), Path::new("."), Scope::InRoot)?;
    let mut path = Vec::new();
    for part in parts {
        path.extend_from_slice(part);
        let here = Path::new(OsStr::from_bytes(&path));
        at = match resolve::open_directory(root.as_fd(), here, Scope::InRoot) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&at, *part, Mode::from_raw_mode(0o777))?;
                resolve::open_directory(root.as_fd(), here, Scope::InRoot)?
            }
            other => other?,
        };
        path.push(b'/');
    }
    Ok(at)
}

fn unpack_one(
    root: &OwnedFd,
    entry: &Entry,
    content: &mut dyn Read,
    times: &mut Vec<(Vec<u8>, Timestamps)>,
) -> io::Result<()> {
    let parts = parts(&entry.name)?;
    let time = Timespec {
        tv_sec: entry.mtime.seconds,
        tv_nsec: entry.mtime.nanoseconds as _,
    };
    let time = Timestamps {
        last_access: time,
        last_modification: time,
    };
    // The directory that everything goes into stays as it is.
    let Some((name, directories)) = parts.split_last() else {
        return Ok(());
    };
    let at = parent(root, directories)?;
    let mode = Mode::from_raw_mode(entry.mode & 0o7777);
    let there = rustix::fs::statat(&at, *name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let is_directory = there.map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    let shown = String::from_utf8_lossy(&entry.name).into_owned();
    match (is_directory, entry.kind == Kind::Directory) {
        (Some(true), false) => {
            return Err(io::Error::other(format!(
                "cannot overwrite directory {shown:?} with non-directory"
            )));
        }
        (Some(false), true) => {
            return Err(io::Error::other(format!(
                "cannot overwrite non-directory {shown:?} with directory"
            )));
        }
        (Some(false), false) => rustix::fs::unlinkat(&at, *name, AtFlags::empty())?,
        _ => {}
    }
    match entry.kind {
        Kind::Directory => {
            match rustix::fs::mkdirat(&at, *name, mode) {
                Err(Errno::EXIST) => {}
                other => other?,
            }
            rustix::fs::chmodat(&at, *name, mode, AtFlags::empty())?;
            times.push((parts.join(&b'/'), time));
        }
        Kind::Regular => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&at, *name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(file);
            if io::copy(content, &mut file)? != entry.size {
                return Err(io::Error::other(format!("{shown}: unexpected EOF")));
            }
            rustix::fs::fchmod(&file, mode)?;
            rustix::fs::futimens(&file, &time)?;
        }
        Kind::Symlink => {
            rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &at, *name)?;
            rustix::fs::utimensat(&at, *name, &time, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Kind::HardLink => {
            let target = self::parts(&entry.link)?;
            let (last, directories) = target
                .split_last()
                .ok_or_else(|| io::Error::other(format!("{shown}: a link to nothing")))?;
            let from = parent(root, directories)?;
            rustix::fs::linkat(&from, *last, &at, *name, AtFlags::empty())?;
        }
        Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
            let kind = match entry.kind {
                Kind::Fifo => FileType::Fifo,
                Kind::CharDevice => FileType::CharacterDevice,
                _ => FileType::BlockDevice,
            };
            let device = rustix::fs::makedev(entry.device_major, entry.device_minor);
            rustix::fs::mknodat(&at, *name, kind, mode, device)?;
        }
        Kind::Other(flag) => return Err(io::Error::other(format!("{shown}: unhandled tar header type {flag}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/file"), "content").unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/b/same")).unwrap();
        std::os::unix::fs::symlink("../x", from.join("a/link")).unwrap();
        let mut tar = Vec::new();
        pack(&from.join("a"), "a", &mut tar).unwrap();
        unpack(&mut &tar[..], &to, ("a", "z")).unwrap();
        assert_eq!(fs::read_to_string(to.join("z/file")).unwrap(), "content");
        assert_eq!(fs::metadata(to.join("z/b/same")).unwrap().nlink(), 2);
        assert_eq!(fs::read_link(to.join("z/link")).unwrap(), Path::new("../x"));
        unpack(&mut &tar[..], &to, ("a", "z")).unwrap();
    }

    /// An archive that makes a link and writes through it stays where it is.
    #[test]
    fn nothing_lands_outside() {
        let directory = tempfile::tempdir().unwrap();
        let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        let mut writer = Writer::new(Vec::new());
        let mut link = Entry::new(Kind::Symlink, "a");
        link.link = outside.as_os_str().as_bytes().to_vec();
        writer.start(&link).unwrap();
        let mut file = Entry::new(Kind::Regular, "a/evil");
        (file.size, file.mode) = (1, 0o644);
        writer.append(&file, &mut &b"x"[..]).unwrap();
        let tar = writer.finish().unwrap();
        let _ = unpack(&mut &tar[..], &inside, ("", ""));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        for name in ["../evil", "/../evil", "b/../../evil"] {
            let mut writer = Writer::new(Vec::new());
            file.name = name.into();
            writer.append(&file, &mut &b"x"[..]).unwrap();
            let tar = writer.finish().unwrap();
            assert!(unpack(&mut &tar[..], &inside, ("", "")).is_err(), "{name}");
        }
        assert!(!directory.path().join("evil").exists());
    }
}
