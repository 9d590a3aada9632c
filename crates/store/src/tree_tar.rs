//! Writes a directory tree as a tar: a container's changes as a layer, or a whole file system for export.

use crate::error::{Doing, Result};
use crate::walk::{self, Found};
use oci::tar::{Entry, Kind, Time, Writer};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// What overlay's marks become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The directory is an overlay upper layer: whiteouts and opaque directories become `.wh.` names.
    Layer,
    /// The directory is what it looks like.
    Plain,
}

/// Writes the tree below `root`, without `root` itself, as Docker does: names in byte order, seconds without
/// fractions, numeric owners, hard links as links, sockets left out, file capabilities kept. The stream is flushed.
pub fn write(root: &Path, style: Style, out: impl Write) -> Result<()> {
    let mut out = Out::new(out, b"");
    walk::walk(root, |found| add(root, style, found, &mut out))?;
    out.writer.finish().doing("write tar of", root)?;
    Ok(())
}

/// Writes one file as an archive, under another name; a directory with all that is below it. `name` is looked up in
/// `directory`, links are not followed; the empty one is the directory itself.
pub(crate) fn write_as(directory: &Path, name: &[u8], shown_as: &[u8], out: impl Write) -> Result<()> {
    let opened = crate::durable::open_directory(directory)?;
    let looked_up: &[u8] = if name.is_empty() { b"." } else { name };
    let stat = rustix::fs::statat(&opened, looked_up, AtFlags::SYMLINK_NOFOLLOW).doing("stat", directory)?;
    let mut out = Out::new(out, b"");
    let found = Found {
        path: shown_as,
        parent: opened.as_fd(),
        name: looked_up,
        stat,
    };
    let whole = directory.join(found.name_path());
    add(&whole, Style::Plain, &found, &mut out)?;
    if found.kind() == FileType::Directory {
        out.prefix = [shown_as.strip_suffix(b"/").unwrap_or(shown_as), b"/"].concat();
        walk::walk(&whole, |found| add(&whole, Style::Plain, found, &mut out))?;
    }
    out.writer.finish().doing("write tar of", directory)?;
    Ok(())
}

/// The archive, what stands before each name in it, and the first name of each file that has several.
struct Out<W: Write> {
    writer: Writer<W>,
    prefix: Vec<u8>,
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Out<W> {
    fn new(out: W, prefix: &[u8]) -> Out<W> {
        Out {
            writer: Writer::new(out),
            prefix: prefix.to_vec(),
            links: HashMap::new(),
        }
    }

    fn name(&self, path: &[u8]) -> Vec<u8> {
        [&self.prefix, path].concat()
    }
}

fn add<W: Write>(root: &Path, style: Style, found: &Found<'_>, out: &mut Out<W>) -> Result<()> {
    let shown = || walk::shown(root, found);
    if style == Style::Layer && found.is_whiteout() {
        let mut entry = Entry::new(Kind::Regular, out.name(&whiteout(found.path, found.name)));
        entry.mode = 0o600;
        describe(found, &mut entry);
        return out.writer.start(&entry).doing("write tar of", shown());
    }
    let Some(mut entry) = entry(found, out.name(found.path)).doing("read", shown())? else {
        log::warn!("left out of tar: socket {}", shown().display());
        return Ok(());
    };
    if entry.kind != Kind::Directory && found.stat.st_nlink > 1 {
        let inode = (found.stat.st_dev, found.stat.st_ino);
        match out.links.get(&inode) {
            Some(first) => {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                return out.writer.start(&entry).doing("write tar of", shown());
            }
            None => drop(out.links.insert(inode, entry.name.clone())),
        }
    }
    if entry.kind == Kind::Regular {
        entry.size = found.size();
        return content(found, &entry, &mut out.writer).doing("write tar of", shown());
    }
    out.writer.start(&entry).doing("write tar of", shown())?;
    let opaque = || sys::fs::get_xattr(found.parent, found.name_path(), c"trusted.overlay.opaque");
    if style == Style::Layer
        && entry.kind == Kind::Directory
        && opaque().doing("read", shown())?.as_deref() == Some(b"y")
    {
        let mut mark = Entry::new(Kind::Regular, out.name(&[found.path, b"/.wh..wh..opq"].concat()));
        mark.mode = entry.mode & 0o777;
        describe(found, &mut mark);
        out.writer.start(&mark).doing("write tar of", shown())?;
    }
    Ok(())
}

/// What an entry says of a file, but for content; nothing for what a tar cannot hold.
fn entry(found: &Found<'_>, name: Vec<u8>) -> io::Result<Option<Entry>> {
    let kind = match found.kind() {
        FileType::RegularFile => Kind::Regular,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    };
    let mut entry = Entry::new(kind, name);
    match kind {
        Kind::Directory if !entry.name.ends_with(b"/") => entry.name.push(b'/'),
        Kind::Symlink => entry.link = rustix::fs::readlinkat(found.parent, found.name, Vec::new())?.into_bytes(),
        Kind::CharDevice | Kind::BlockDevice => {
            entry.device_major = rustix::fs::major(found.stat.st_rdev);
            entry.device_minor = rustix::fs::minor(found.stat.st_rdev);
        }
        _ => {}
    }
    // With the file type bits, as Docker writes modes.
    entry.mode = found.stat.st_mode;
    describe(found, &mut entry);
    if let Some(value) = sys::fs::get_xattr(found.parent, found.name_path(), c"security.capability")? {
        entry.xattrs.push((b"security.capability".to_vec(), value));
    }
    for key in sys::fs::list_xattrs(found.parent, found.name_path())? {
        if key.to_bytes().starts_with(b"user.")
            && let Some(value) = sys::fs::get_xattr(found.parent, found.name_path(), &key)?
        {
            entry.xattrs.push((key.into_bytes(), value));
        }
    }
    Ok(Some(entry))
}

fn describe(found: &Found<'_>, entry: &mut Entry) {
    entry.uid = found.stat.st_uid;
    entry.gid = found.stat.st_gid;
    entry.mtime = Time {
        seconds: found.stat.st_mtime,
        nanoseconds: 0,
    };
}

fn content<W: Write>(found: &Found<'_>, entry: &Entry, writer: &mut Writer<W>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(found.parent, found.name, flags, Mode::empty())?);
    // A file that shrinks while it is read is filled up: the header with its size is written.
    writer.append(entry, &mut (&file).chain(io::repeat(0)))?;
    // What was read for this alone must not push out what the device works with.
    let _ = sys::fs::drop_cache(&file);
    Ok(())
}

fn whiteout(path: &[u8], name: &[u8]) -> Vec<u8> {
    let directory = &path[..path.len() - name.len()];
    [directory, b".wh.", name].concat()
}
