//! Makes the files of an archive in a directory, entry by entry.
//!
//! What a name means is Docker's: it is cleaned as if the directory were `/`; links in the middle of a name are
//! followed inside the directory; a last component that exists is replaced, except that a directory stays for a
//! directory. The order of calls for one file is fixed: owner before mode, because changing the owner takes
//! set-user-ID away; capabilities after the owner for the same reason; times last.

use super::batch::Batches;
use super::parents::{Parents, clean, is_within, split};
use super::reuse::{self, Known, Reuse};
use crate::error::{Doing, Error, Result};
use delta::Content;
use oci::tar::{Entry, Extent, Kind, Reader, Tap, Time};
use oci::tar_split::Crc64;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What differs between unpacking a layer and unpacking for `docker cp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `.wh.` names become overlay whiteouts.
    pub whiteouts: bool,
    /// A directory may take the place of another kind of file, and the other way round.
    pub replace_directories: bool,
    /// Everything belongs to this user and group, whatever the archive says.
    pub owner: Option<(u32, u32)>,
}

impl Rules {
    /// How Docker unpacks a layer.
    pub fn layer() -> Rules {
        Rules {
            whiteouts: true,
            replace_directories: true,
            owner: None,
        }
    }

    /// How Docker unpacks what is copied into a container.
    pub fn copy() -> Rules {
        Rules {
            whiteouts: false,
            replace_directories: true,
            owner: None,
        }
    }
}

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Longest name: the kernel's PATH_MAX without its NUL.
const NAME_LIMIT: usize = 4095;

/// The directory an archive is unpacked into.
pub(super) struct Tree {
    parents: Parents,
    rules: Rules,
    umask: u32,
    /// Times of directories, and whether they are set. Making a file in one changes them, so they are set when the
    /// directory is left: with what was made in it, which is one write of its inode to the device instead of two.
    times: BTreeMap<Vec<u8>, (Timestamps, bool)>,
    /// The directory that the last entry went into.
    last_parent: Vec<u8>,
    size: u64,
    /// An earlier run was here before: what is found need not come from this archive's entries so far.
    resumed: bool,
    /// New files may not have the group or mode asked for: a directory has set-group-ID or a default ACL.
    inherits: bool,
    /// Files that need not be written.
    reuse: Option<Reuse>,
}

/// The middle of a file's content.
pub(super) struct Middle<'a> {
    pub file: &'a OwnedFd,
    /// Bytes of it that are written; nothing for a sparse file, which cannot be gone on with.
    pub done: Option<u64>,
}

/// Called in the middle of files, for who wants to make a batch or note a checkpoint.
pub(super) type Pause<'a, R, T> = &'a mut dyn FnMut(&mut Reader<R, T>, &mut Batches, Middle<'_>) -> Result<()>;

/// A file that an earlier run had begun: bytes that are there, and their CRC.
pub(super) struct Begun {
    pub done: u64,
    pub crc: Crc64,
}

/// A name in an open directory, and the whole path for messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: &'a OwnedFd,
    name: &'a [u8],
    path: &'a [u8],
}

impl Tree {
    /// Unpacks below `root`, which is at `shown`.
    pub fn new(root: OwnedFd, shown: &Path, rules: Rules) -> Result<Tree> {
        let umask = sys::fs::umask().doing("unpack into", shown)?;
        // A layer's directory is new and ours; any other may have whatever attributes.
        let inherits = rules != Rules::layer();
        Ok(Tree {
            parents: Parents::new(root, shown),
            rules,
            umask,
            times: BTreeMap::new(),
            last_parent: Vec::new(),
            size: 0,
            resumed: false,
            inherits,
            reuse: None,
        })
    }

    /// An earlier run was here before.
    pub fn going_on(self, resumed: bool) -> Tree {
        Tree { resumed, ..self }
    }

    /// Has it link and share what is there already.
    pub fn reusing(self, reuse: Option<Reuse>) -> Tree {
        Tree { reuse, ..self }
    }

    /// Takes note of an entry that an earlier run made.
    pub fn recall(&mut self, entry: &Entry) {
        if let Some(reuse) = &mut self.reuse {
            reuse.recall(entry);
        }
        let mut path = Vec::with_capacity(entry.name.len());
        clean(&entry.name, &mut path);
        let name = split(&path).1;
        if name.is_empty() || (self.rules.whiteouts && name.starts_with(b".wh.")) {
            return;
        }
        match entry.kind {
            Kind::Directory => return self.directory_made(&path, entry),
            Kind::Regular => self.size += entry.size,
            Kind::Symlink => self.size += entry.link.len() as u64,
            _ => {}
        }
        if self.times.contains_key(&path) {
            self.forget_times(&path);
        }
    }

    /// Makes a directory of the archive opaque: a whiteout of its name is in the archive, too.
    pub fn make_opaque(&mut self, name: &[u8]) -> Result<()> {
        let mut path = Vec::with_capacity(name.len());
        clean(name, &mut path);
        let (parent, name) = split(&path);
        let at = self.parents.open(parent, false)?;
        self.set_opaque(Place {
            at: &at,
            name,
            path: &path,
        })
    }

    /// Makes one entry, or completes one that was begun. Of a regular file whose content can be read again, returns
    /// size and CRC-64.
    pub fn add<R: BufRead, T: Tap>(
        &mut self,
        entry: &Entry,
        begun: Option<Begun>,
        reader: &mut Reader<R, T>,
        batches: &mut Batches,
        pause: Pause<'_, R, T>,
    ) -> Result<Option<(u64, u64)>> {
        let known = self.reuse.as_mut().and_then(|reuse| reuse.next(entry));
        let mut path = Vec::with_capacity(entry.name.len());
        clean(&entry.name, &mut path);
        if path.len() > NAME_LIMIT {
            return Err(Error::Invalid(format!(
                "unpack {}: name too long",
                self.parents.shown(&path[..80]).display()
            )));
        }
        let (parent, name) = split(&path);
        if name.is_empty() {
            // Docker leaves the root as it is, whatever the archive says of it.
            if entry.kind == Kind::Directory {
                return Ok(None);
            }
            return Err(self.refuse(&path, "it would replace the root"));
        }
        self.enter(parent)?;
        let at = self.parents.open(parent, true)?;
        let place = Place {
            at: &at,
            name,
            path: &path,
        };
        match (name.strip_prefix(b".wh."), entry.kind) {
            (Some(hidden), _) if self.rules.whiteouts => {
                reader.tap_content();
                self.whiteout(place, hidden, entry)?;
            }
            (_, Kind::Regular) => {
                if let Some(known) = known
                    && begun.is_none()
                    && self.link_known(place, entry, known.content)?
                {
                    let crc = pass(entry.size, reader, known.crc)?;
                    self.size += entry.size;
                    batches.entry();
                    return Ok(Some((entry.size, crc)));
                }
                return self.regular(place, entry, (begun, known), reader, batches, pause);
            }
            (_, Kind::Directory) => self.directory(place, entry)?,
            (_, Kind::HardLink) => self.hard_link(place, entry)?,
            (_, Kind::Symlink) => {
                let target = OsStr::from_bytes(&entry.link);
                self.make(place, "create symlink", || {
                    rustix::fs::symlinkat(target, place.at, place.name)
                })?;
                self.size += entry.link.len() as u64;
                self.describe(place, entry, false)?;
            }
            (_, Kind::CharDevice | Kind::BlockDevice | Kind::Fifo) => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(entry.device_major, entry.device_minor);
                let mode = Mode::from_raw_mode(entry.mode & 0o777);
                self.make(place, "create device", || {
                    rustix::fs::mknodat(place.at, place.name, kind, mode, device)
                })?;
                self.describe(place, entry, true)?;
            }
            (_, Kind::Other(flag)) => return Err(self.refuse(&path, &format!("unhandled tar header type {flag}"))),
        }
        batches.entry();
        Ok(None)
    }

    /// Goes to the directory that the next entry is made in; those that are left get their times.
    fn enter(&mut self, parent: &[u8]) -> Result<()> {
        if parent == self.last_parent {
            return Ok(());
        }
        let (parents, all) = (&mut self.parents, &mut self.times);
        let shown = parents.shown(b"");
        parents.leave(parent, |path, above| match all.get_mut(path) {
            Some((times, set)) if !*set => {
                *set = true;
                set_times_at(above, split(path).1, times).doing("set times of", shown.join(OsStr::from_bytes(path)))
            }
            _ => Ok(()),
        })?;
        if let Some((_, set)) = self.times.get_mut(parent) {
            *set = false;
        }
        self.last_parent.clear();
        self.last_parent.extend_from_slice(parent);
        Ok(())
    }

    /// Sets the times of directories that have not got them yet, and returns the bytes of all files.
    pub fn finish(mut self) -> Result<u64> {
        for (path, (times, set)) in std::mem::take(&mut self.times) {
            if set && !self.parents.has_followed() {
                continue;
            }
            let (parent, name) = split(&path);
            let at = self.parents.open(parent, false)?;
            set_times_at(&at, name, &times).doing("set times of", self.parents.shown(&path))?;
        }
        Ok(self.size)
    }

    fn refuse(&self, path: &[u8], why: &str) -> Error {
        Error::Invalid(format!("unpack {}: {why}", self.parents.shown(path).display()))
    }

    /// Makes something new at a place; if there is something already, removes it and tries again.
    fn make<T>(&mut self, place: Place<'_>, verb: &str, make: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(place, false)?;
                make()
            }
            other => other,
        }
        .doing(verb, self.parents.shown(place.path))
    }

    /// Removes what is at a place.
    fn clear(&mut self, place: Place<'_>, for_directory: bool) -> Result<()> {
        let stat = self.stat(place)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !self.rules.replace_directories && is_directory != for_directory {
            let kind = |directory| if directory { "directory" } else { "non-directory" };
            let why = format!("cannot overwrite {} with {}", kind(is_directory), kind(for_directory));
            return Err(self.refuse(place.path, &why));
        }
        self.parents.forget();
        if is_directory {
            // Through the descriptor: the path from the root may go through links, which end in another root.
            let path = sys::fs::path_at(place.at.as_fd(), Path::new(OsStr::from_bytes(place.name)));
            if !self.resumed {
                self.size = self.size.saturating_sub(crate::walk::size(&path)?);
            }
            std::fs::remove_dir_all(path).doing("replace", self.parents.shown(place.path))?;
            self.forget_times(place.path);
        } else {
            rustix::fs::unlinkat(place.at, place.name, AtFlags::empty())
                .doing("replace", self.parents.shown(place.path))?;
            // Of what an earlier run left behind nothing was counted.
            let counted = !self.resumed && stat.st_nlink <= 1;
            if counted && FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
                self.size = self.size.saturating_sub(u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok(())
    }

    /// The directory at a path is gone, with all in it.
    fn forget_times(&mut self, gone: &[u8]) {
        self.times.retain(|path, _| !is_within(path, gone));
    }

    fn stat(&self, place: Place<'_>) -> Result<Stat> {
        rustix::fs::statat(place.at, place.name, AtFlags::SYMLINK_NOFOLLOW)
            .doing("stat", self.parents.shown(place.path))
    }

    fn regular<R: BufRead, T: Tap>(
        &mut self,
        place: Place<'_>,
        entry: &Entry,
        (begun, known): (Option<Begun>, Option<Known>),
        reader: &mut Reader<R, T>,
        batches: &mut Batches,
        pause: Pause<'_, R, T>,
    ) -> Result<Option<(u64, u64)>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let file = match &begun {
            None => self.make(place, "create", || {
                rustix::fs::openat(place.at, place.name, flags, mode)
            })?,
            Some(begun) => self.open_begun(place, begun)?,
        };
        let shared = match (known, &mut self.reuse) {
            (Some(known), Some(reuse)) if begun.is_none() => reuse.share_blocks(known.content, &file),
            _ => false,
        };
        let crc = known.and_then(|known| known.crc);
        let content = match &entry.sparse {
            None if shared => Some((entry.size, pass(entry.size, reader, crc)?)),
            None => {
                let begun = begun.unwrap_or(Begun {
                    done: 0,
                    crc: Crc64::default(),
                });
                let crc = self.content(place, &file, entry.size, begun, crc, reader, batches, pause)?;
                Some((entry.size, crc))
            }
            Some(extents) => {
                self.sparse(place, &file, entry.size, extents, reader, batches, pause)?;
                None
            }
        };
        self.size += entry.size;
        let shown = || self.parents.shown(place.path);
        if let Some((uid, gid)) = self.owner_to_set(entry) {
            rustix::fs::fchown(&file, Some(uid), Some(gid)).doing(&owner_text(uid, gid), shown())?;
        }
        if let Some(mode) = self.mode_to_set(entry) {
            rustix::fs::fchmod(&file, mode).doing("set mode of", shown())?;
        }
        for (key, value) in layer_xattrs(entry) {
            tolerate(sys::fs::set_xattr_of(&file, key, value), key, &shown())?;
        }
        set_times(&times(entry), |times| rustix::fs::futimens(&file, times)).doing("set times of", shown())?;
        batches.file(file, place.path)?;
        Ok(content)
    }

    /// Makes a file a link to one that is the same in everything; says if there is one.
    fn link_known(&mut self, place: Place<'_>, entry: &Entry, known: Content) -> Result<bool> {
        let reuse = self.reuse.as_mut();
        let Some((file, inode)) = reuse.and_then(|reuse| reuse.link_source(place.path, entry, known)) else {
            return Ok(false);
        };
        let file = file.file();
        let link = || match rustix::fs::linkat(file, c"", place.at, place.name, AtFlags::EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH, as in a container.
            Err(Errno::NOENT) => {
                let path = sys::fs::path_of(file.as_fd());
                rustix::fs::linkat(CWD, &path, place.at, place.name, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        };
        let linked = match link() {
            Err(Errno::EXIST) => {
                self.clear(place, false)?;
                link()
            }
            other => other,
        };
        match linked {
            Ok(()) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => {
                return Err(error).doing("link", self.parents.shown(place.path));
            }
            // Too many links, or a file system without: it is written.
            Err(_) => return Ok(false),
        }
        if let Some(reuse) = &mut self.reuse {
            reuse.linked(inode);
        }
        Ok(true)
    }

    /// Opens a file that an earlier run had begun, behind what counts of it.
    fn open_begun(&mut self, place: Place<'_>, begun: &Begun) -> Result<OwnedFd> {
        let shown = || self.parents.shown(place.path);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place.at, place.name, flags, Mode::empty()).doing("open", shown())?;
        let size = rustix::fs::fstat(&file).doing("stat", shown())?.st_size;
        if u64::try_from(size).unwrap_or(0) < begun.done {
            return Err(self.refuse(place.path, "less of it is there than a checkpoint says"));
        }
        rustix::fs::ftruncate(&file, begun.done).doing("set size of", shown())?;
        rustix::fs::seek(&file, SeekFrom::Start(begun.done)).doing("seek in", shown())?;
        Ok(file)
    }

    /// Writes content from the reader's buffer as it comes, and returns its CRC, which may be known.
    #[allow(clippy::too_many_arguments, reason = "one file's way from the reader to the device")]
    fn content<R: BufRead, T: Tap>(
        &self,
        place: Place<'_>,
        file: &OwnedFd,
        length: u64,
        Begun { mut done, mut crc }: Begun,
        known: Option<u64>,
        reader: &mut Reader<R, T>,
        batches: &mut Batches,
        pause: Pause<'_, R, T>,
    ) -> Result<u64> {
        while done < length {
            let sum = known.is_none().then_some(&mut crc);
            let n = self.piece(place, file, length - done, sum, reader)?;
            batches.wrote(file, done..done + n)?;
            done += n;
            if done < length {
                let done = Some(done);
                pause(reader, batches, Middle { file, done })?;
            }
        }
        Ok(known.unwrap_or(crc.value()))
    }

    /// Writes what the reader has at hand, at most `most` bytes, and says how many.
    fn piece<R: BufRead, T: Tap>(
        &self,
        place: Place<'_>,
        file: &OwnedFd,
        most: u64,
        crc: Option<&mut Crc64>,
        reader: &mut Reader<R, T>,
    ) -> Result<u64> {
        let chunk = reader.chunk().map_err(super::read_error)?;
        let n = usize::try_from(most).map_or(chunk.len(), |most| most.min(chunk.len()));
        let mut todo = &chunk[..n];
        while !todo.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(file, todo));
            todo = &todo[written.doing("write", self.parents.shown(place.path))?..];
        }
        if let Some(crc) = crc {
            crc.update(&chunk[..n]);
        }
        reader.consume(n).map_err(super::read_error)?;
        Ok(n as u64)
    }

    #[allow(clippy::too_many_arguments, reason = "one file's way from the reader to the device")]
    fn sparse<R: BufRead, T: Tap>(
        &self,
        place: Place<'_>,
        file: &OwnedFd,
        size: u64,
        extents: &[Extent],
        reader: &mut Reader<R, T>,
        batches: &mut Batches,
        pause: Pause<'_, R, T>,
    ) -> Result<()> {
        // The length first: what no extent covers is a hole.
        rustix::fs::ftruncate(file, size).doing("set size of", self.parents.shown(place.path))?;
        for extent in extents {
            rustix::fs::seek(file, SeekFrom::Start(extent.offset)).doing("seek in", self.parents.shown(place.path))?;
            let (mut at, end) = (extent.offset, extent.offset.saturating_add(extent.length));
            while at < end {
                let n = self.piece(place, file, end - at, None, reader)?;
                batches.wrote(file, at..at + n)?;
                at += n;
                pause(reader, batches, Middle { file, done: None })?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, place: Place<'_>, entry: &Entry) -> Result<()> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut opaque = false;
        let made = match rustix::fs::mkdirat(place.at, place.name, mode) {
            Err(Errno::EXIST) => {
                let stat = self.stat(place)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::Directory {
                    false
                } else {
                    // A whiteout and then a directory of that name: nothing below may show through it.
                    opaque = self.rules.whiteouts && kind == FileType::CharacterDevice && stat.st_rdev == 0;
                    self.clear(place, true)?;
                    rustix::fs::mkdirat(place.at, place.name, mode)
                        .doing("create directory", self.parents.shown(place.path))?;
                    true
                }
            }
            other => {
                other.doing("create directory", self.parents.shown(place.path))?;
                true
            }
        };
        if opaque {
            self.set_opaque(place)?;
        }
        let shown = || self.parents.shown(place.path);
        let owner = if made {
            self.owner_to_set(entry)
        } else {
            Some(self.owner(entry))
        };
        if let Some((uid, gid)) = owner {
            rustix::fs::chownat(place.at, place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing(&owner_text(uid, gid), shown())?;
        }
        let mode = if made {
            self.mode_to_set(entry)
        } else {
            Some(Mode::from_raw_mode(entry.mode & 0o7777))
        };
        if let Some(mode) = mode {
            rustix::fs::chmodat(place.at, place.name, mode, AtFlags::empty()).doing("set mode of", shown())?;
        }
        self.xattrs(place, entry)?;
        self.directory_made(place.path, entry);
        Ok(())
    }

    fn directory_made(&mut self, path: &[u8], entry: &Entry) {
        self.inherits |=
            entry.mode & 0o2000 != 0 || entry.xattrs.iter().any(|(key, _)| key == b"system.posix_acl_default");
        self.times.insert(path.to_vec(), (times(entry), false));
    }

    fn hard_link(&mut self, place: Place<'_>, entry: &Entry) -> Result<()> {
        let mut target = Vec::with_capacity(entry.link.len());
        clean(&entry.link, &mut target);
        let (parent, name) = split(&target);
        if name.is_empty() {
            return Err(self.refuse(place.path, "hard link to the root"));
        }
        let elsewhere;
        let from = if parent == split(place.path).0 {
            place.at
        } else {
            elsewhere = self.parents.find(parent)?;
            &elsewhere
        };
        let verb = format!("link {} to", self.parents.shown(&target).display());
        self.make(place, &verb, || {
            rustix::fs::linkat(from, name, place.at, place.name, AtFlags::empty())
        })?;
        // The link's own header may differ from the file's; the one that comes last holds. Mostly they are the same.
        let stat = self.stat(place)?;
        let (uid, gid) = self.owner(entry);
        let same = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
            == (uid.as_raw(), gid.as_raw(), entry.mode & 0o7777)
            && i128::from(stat.st_mtime) == i128::from(entry.mtime.seconds)
            && i128::from(stat.st_mtime_nsec) == i128::from(entry.mtime.nanoseconds);
        if self.reuse.as_ref().is_some_and(|reuse| reuse.is_shared(&stat)) {
            // Nothing is changed that another layer has. No archiver writes such links.
            return match same && self.has_xattrs(place, entry)? {
                true => Ok(()),
                false => Err(self.refuse(place.path, "a link would change a file of another layer")),
            };
        }
        if !same || !entry.xattrs.is_empty() {
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            let mode = (!is_link).then(|| Mode::from_raw_mode(entry.mode & 0o7777));
            self.attributes(place, entry, Some(self.owner(entry)), mode)?;
        }
        Ok(())
    }

    fn has_xattrs(&self, place: Place<'_>, entry: &Entry) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place.at, place.name, flags, Mode::empty());
        let file = file.doing("open", self.parents.shown(place.path))?;
        Ok(reuse::same_xattrs(&file.into(), entry))
    }

    /// Sets everything an entry says of what was just made at a place.
    fn describe(&self, place: Place<'_>, entry: &Entry, has_mode: bool) -> Result<()> {
        self.attributes(
            place,
            entry,
            self.owner_to_set(entry),
            self.mode_to_set(entry).filter(|_| has_mode),
        )
    }

    fn attributes(&self, place: Place<'_>, entry: &Entry, owner: Option<(Uid, Gid)>, mode: Option<Mode>) -> Result<()> {
        let shown = || self.parents.shown(place.path);
        if let Some((uid, gid)) = owner {
            rustix::fs::chownat(place.at, place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .doing(&owner_text(uid, gid), shown())?;
        }
        if let Some(mode) = mode {
            rustix::fs::chmodat(place.at, place.name, mode, AtFlags::empty()).doing("set mode of", shown())?;
        }
        self.xattrs(place, entry)?;
        set_times_at(place.at, place.name, &times(entry)).doing("set times of", shown())
    }

    fn xattrs(&self, place: Place<'_>, entry: &Entry) -> Result<()> {
        for (key, value) in layer_xattrs(entry) {
            let name = Path::new(OsStr::from_bytes(place.name));
            tolerate(
                sys::fs::set_xattr(place.at.as_fd(), name, key, value),
                key,
                &self.parents.shown(place.path),
            )?;
        }
        Ok(())
    }

    /// Makes what `.wh.<hidden>` stands for: overlay's whiteout, a character device 0:0, or an opaque directory.
    fn whiteout(&mut self, place: Place<'_>, hidden: &[u8], entry: &Entry) -> Result<()> {
        let shown = self.parents.shown(place.path);
        if hidden == b".wh..opq" {
            return sys::fs::set_xattr(place.at.as_fd(), Path::new("."), OPAQUE, b"y")
                .doing("make opaque the directory of", shown);
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.refuse(place.path, "whiteout of no file"));
        }
        let hidden = Place { name: hidden, ..place };
        match rustix::fs::mknodat(place.at, hidden.name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                let (uid, gid) = self.owner(entry);
                rustix::fs::chownat(place.at, hidden.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .doing(&owner_text(uid, gid), shown)
            }
            // A whiteout hides what is below this layer, not what is in it; a directory hides it by being opaque.
            Err(Errno::EXIST) if FileType::from_raw_mode(self.stat(hidden)?.st_mode) == FileType::Directory => {
                self.set_opaque(hidden)
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error).doing("create whiteout", shown),
        }
    }

    fn set_opaque(&self, place: Place<'_>) -> Result<()> {
        let name = Path::new(OsStr::from_bytes(place.name));
        sys::fs::set_xattr(place.at.as_fd(), name, OPAQUE, b"y").doing("make opaque", self.parents.shown(place.path))
    }

    fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        let (uid, gid) = self.rules.owner.unwrap_or((entry.uid, entry.gid));
        (Uid::from_raw_unchecked(uid), Gid::from_raw_unchecked(gid))
    }

    /// The owner, if a new file does not have it already.
    fn owner_to_set(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        let (uid, gid) = self.owner(entry);
        (self.inherits || !uid.is_root() || !gid.is_root()).then_some((uid, gid))
    }

    /// The mode, if a new file does not have it already.
    fn mode_to_set(&self, entry: &Entry) -> Option<Mode> {
        let mode = entry.mode & 0o7777;
        (self.inherits || mode & !0o777 != 0 || mode & self.umask != 0).then(|| Mode::from_raw_mode(mode))
    }
}

/// Reads content that need not be written, and returns its CRC, which may be known.
fn pass<R: BufRead, T: Tap>(mut left: u64, reader: &mut Reader<R, T>, known: Option<u64>) -> Result<u64> {
    let mut crc = Crc64::default();
    while left > 0 {
        let chunk = reader.chunk().map_err(super::read_error)?;
        let n = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        if known.is_none() {
            crc.update(&chunk[..n]);
        }
        reader.consume(n).map_err(super::read_error)?;
        left -= n as u64;
    }
    Ok(known.unwrap_or(crc.value()))
}

fn owner_text(uid: Uid, gid: Gid) -> String {
    format!("set owner {}:{} of", uid.as_raw(), gid.as_raw())
}

/// An entry's extended attributes but overlay's own, with which an archive could tell the driver lies.
pub(super) fn layer_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let allowed = entry
        .xattrs
        .iter()
        .filter(|(key, _)| !key.starts_with(b"trusted.overlay."));
    allowed.map(|(key, value)| (&key[..], &value[..]))
}

/// Lets a file system be without extended attributes, as Docker does.
fn tolerate(set: std::io::Result<()>, key: &[u8], shown: &Path) -> Result<()> {
    let key = String::from_utf8_lossy(key);
    match set {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTSUP | Errno::PERM)) => {
            log::warn!("ignored extended attribute {key} of {}: {error}", shown.display());
            Ok(())
        }
        other => other.doing(&format!("set extended attribute {key} of"), shown),
    }
}

fn times(entry: &Entry) -> Timestamps {
    // As Docker has it: nothing was last read before it was last written.
    let atime = entry.atime.map_or(entry.mtime, |atime| atime.max(entry.mtime));
    let spec = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: spec(atime),
        last_modification: spec(entry.mtime),
    }
}

/// Sets the times of what a name in a directory stands for, be it a link.
fn set_times_at(at: &OwnedFd, name: &[u8], times: &Timestamps) -> rustix::io::Result<()> {
    set_times(times, |times| {
        rustix::fs::utimensat(at, name, times, AtFlags::SYMLINK_NOFOLLOW)
    })
}

/// Sets times. A 32-bit kernel before 5.1 knows none past 2038: there the last one it knows is set, for a layer is
/// better unpacked than right in this.
fn set_times(times: &Timestamps, set: impl Fn(&Timestamps) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match set(times) {
        Err(Errno::OVERFLOW) => {
            let clamp = |time: Timespec| Timespec {
                tv_sec: time.tv_sec.clamp(i32::MIN.into(), i32::MAX.into()),
                tv_nsec: time.tv_nsec,
            };
            set(&Timestamps {
                last_access: clamp(times.last_access),
                last_modification: clamp(times.last_modification),
            })
        }
        other => other,
    }
}
