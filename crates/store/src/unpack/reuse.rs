//! Files that need not be written, because a delta says that their content is there already.
//!
//! A file with everything else the same as well, owner, mode, times, attributes, becomes a hard link to the base's:
//! layers are never written to once they are made, overlayfs copies before it writes, so sharing an inode shares
//! nothing but space. Where only the content is the same, the blocks are shared if the file system can; else it is
//! written. The stream has every byte all the same: it is hashed for the diff ID, and so what is shared is what was
//! read and found right.
//!
//! An inode that another layer has is never changed here. Two names in one layer never get the same one, and what
//! cron reads is written anew: those would look at the number of links.

use super::tree::layer_xattrs;
use crate::base::{BaseFiles, Opened};
use crate::own_tar::Told;
use crate::rebuild::{Passing, open};
use delta::{Content, FileId, Hint, Hints, State, Wanted};
use oci::tar::{Entry, Kind};
use rustix::fs::Stat;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

/// What is known of a file's content before it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub content: Content,
    /// Its CRC-64, if nobody has to compute it: should the content be another, then so is the diff ID.
    pub crc: Option<u64>,
}

/// What a delta may read while it is applied: the base's files, and those of the layer that were made before.
pub(crate) struct Readable {
    base: BaseFiles,
    /// The layer's directory.
    root: OwnedFd,
    names: Names,
    made: Option<(u32, Passing)>,
}

impl Readable {
    fn made(&mut self, entry: u32) -> io::Result<&File> {
        if self.made.as_ref().is_none_or(|(at, _)| *at != entry) {
            self.made = None;
            let name = self.names.get(entry).ok_or(io::ErrorKind::NotFound)?;
            self.made = Some((entry, open(self.root.as_fd(), &name)?));
        }
        Ok(self.made.as_ref().expect("it was opened right now").1.file())
    }
}

/// The delta's access to it; the unpacking has the other one.
#[derive(Clone)]
pub(crate) struct Shared(Rc<RefCell<Readable>>);

impl Shared {
    pub fn new(base: BaseFiles, root: OwnedFd) -> Shared {
        Shared(Rc::new(RefCell::new(Readable {
            base,
            root,
            names: Names::default(),
            made: None,
        })))
    }
}

impl delta::Contents for Shared {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut known = self.0.borrow_mut();
        known.made = None;
        known.base.read_base(file, offset, into)
    }

    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut known = self.0.borrow_mut();
        known.base.close();
        known.made(entry)?.read_exact_at(into, offset)
    }

    fn state(&mut self, file: FileId) -> State {
        let mut known = self.0.borrow_mut();
        known.made = None;
        known.base.state(file)
    }

    fn begin_elsewhere(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        self.0.borrow_mut().base.begin_elsewhere(wanted)
    }

    fn read_elsewhere(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.0.borrow_mut().base.read_elsewhere(into)
    }
}

/// Who tells where contents are.
enum Source {
    /// A delta, by the number of the entry.
    Delta(Hints),
    /// The layer's own tar, by its name: of some of Docker's the entries are counted in another way.
    Itself(Told),
}

/// Decides for each file how it comes to be.
pub(crate) struct Reuse {
    source: Source,
    known: Shared,
    entries: u32,
    /// Base layers that lie below this one: in a container, their files are seen beside this one's.
    below: Vec<u32>,
    /// Inodes that are shared by now.
    linked: HashSet<u64>,
    can_clone: bool,
}

impl Reuse {
    pub fn new(hints: Hints, known: Shared, below: Vec<u32>) -> Reuse {
        Reuse::with(Source::Delta(hints), known, below)
    }

    /// For a layer that is unpacked out of itself.
    pub fn of_itself(told: Told, known: Shared) -> Reuse {
        Reuse::with(Source::Itself(told), known, Vec::new())
    }

    fn with(source: Source, known: Shared, below: Vec<u32>) -> Reuse {
        Reuse {
            source,
            known,
            entries: 0,
            below,
            linked: HashSet::new(),
            can_clone: true,
        }
    }

    /// Takes note of the next entry, and says where its content is already.
    pub fn next(&mut self, entry: &Entry) -> Option<Known> {
        self.known.0.borrow_mut().names.push(&entry.name);
        let number = self.entries;
        self.entries += 1;
        let (content, crc) = match &self.source {
            Source::Delta(hints) => {
                let Hint { content, crc, .. } = hints.take(number)?;
                (content, crc)
            }
            Source::Itself(told) => {
                let next = told.borrow_mut().take_if(|next| next.name == entry.name)?;
                (Content::Base(next.file), Some(next.crc))
            }
        };
        (entry.kind == Kind::Regular && entry.sparse.is_none()).then_some(Known { content, crc })
    }

    /// Takes note of an entry that an earlier run made, and of the link that it may be.
    pub fn recall(&mut self, entry: &Entry) {
        let known = self.next(entry);
        let Some(Content::Base(id)) = known.map(|known| known.content) else {
            return;
        };
        let mut readable = self.known.0.borrow_mut();
        let made = open(readable.root.as_fd(), &entry.name);
        let made = made.and_then(|file| Ok(rustix::fs::fstat(file.file())?));
        if let (Ok(made), Ok(old)) = (made, readable.base.open(id))
            && (made.st_dev, made.st_ino) == (old.stat.st_dev, old.stat.st_ino)
        {
            #[allow(clippy::useless_conversion, reason = "inode numbers have 32 bits on some targets")]
            self.linked.insert(u64::from(made.st_ino));
        }
    }

    /// The file that one at `path` can be a link to.
    pub fn link_source(&mut self, path: &[u8], entry: &Entry, content: Content) -> Option<(Arc<Passing>, u64)> {
        let Content::Base(id) = content else { return None };
        if counts_links(path) {
            return None;
        }
        let mut known = self.known.0.borrow_mut();
        known.made = None;
        let old = known.base.open(id).ok()?;
        if self.below.contains(&id.layer) && old.path != path {
            return None;
        }
        let stat = &old.stat;
        #[allow(clippy::useless_conversion, reason = "inode numbers have 32 bits on some targets")]
        let inode = u64::from(stat.st_ino);
        let fits = u64::try_from(stat.st_size) == Ok(entry.size) && same_inode_data(stat, entry);
        if !fits || self.linked.contains(&inode) || !same_xattrs(old.file(), entry) {
            return None;
        }
        Some((old.share(), inode))
    }

    /// Takes note of a link.
    pub fn linked(&mut self, inode: u64) {
        self.linked.insert(inode);
    }

    /// Says if an inode belongs to another layer, too.
    pub fn is_shared(&self, stat: &Stat) -> bool {
        #[allow(clippy::useless_conversion, reason = "inode numbers have 32 bits on some targets")]
        self.linked.contains(&u64::from(stat.st_ino))
    }

    /// Has a new file share the blocks of one with the same content; says if that is possible.
    pub fn share_blocks(&mut self, content: Content, file: &OwnedFd) -> bool {
        if !self.can_clone {
            return false;
        }
        let mut known = self.known.0.borrow_mut();
        let from = match content {
            Content::Base(id) => known.base.open(id).map(Opened::file),
            Content::Target(entry) => known.made(entry),
            Content::None | Content::New => return false,
        };
        let Ok(from) = from else { return false };
        self.can_clone = sys::fs::reflink(from, file).is_ok();
        self.can_clone
    }
}

/// cron refuses tables with more than one link: it takes them for an attack.
fn counts_links(path: &[u8]) -> bool {
    [&b"etc/cron"[..], b"var/spool/cron", b"etc/anacron"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// Owner, mode and times are what an entry says.
pub(super) fn same_inode_data(stat: &Stat, entry: &Entry) -> bool {
    (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (entry.uid, entry.gid, entry.mode & 0o7777)
        && i128::from(stat.st_mtime) == i128::from(entry.mtime.seconds)
        && i128::from(stat.st_mtime_nsec) == i128::from(entry.mtime.nanoseconds)
}

/// The attributes are those that an entry says, but for the label that a security policy gave.
pub(super) fn same_xattrs(file: &File, entry: &Entry) -> bool {
    let wanted: Vec<_> = layer_xattrs(entry).collect();
    let is_told = |name: &CString| wanted.iter().any(|(key, _)| *key == name.as_bytes());
    let Ok(names) = sys::fs::list_xattrs_of(file) else {
        return false;
    };
    let more = names
        .iter()
        .any(|name| !is_told(name) && name.as_bytes() != b"security.selinux");
    !more
        && wanted.iter().all(|(key, value)| {
            let key = CString::new(*key);
            let got = key
                .ok()
                .and_then(|key| sys::fs::get_xattr_of(file, &key).ok().flatten());
            got.as_deref() == Some(*value)
        })
}

/// The names of all entries, each without what it has in common with the one before.
#[derive(Default)]
struct Names {
    packed: Vec<u8>,
    /// Where every [`STRIDE`]th begins, which is whole.
    starts: Vec<usize>,
    last: Vec<u8>,
    count: u32,
}

const STRIDE: u32 = 16;

impl Names {
    fn push(&mut self, name: &[u8]) {
        // A longer one than any path is refused soon.
        let name = &name[..name.len().min(4096)];
        let mut common = name.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        if self.count.is_multiple_of(STRIDE) {
            self.starts.push(self.packed.len());
            common = 0;
        }
        for length in [common, name.len() - common] {
            let length = u16::try_from(length).expect("a name has 4096 bytes at most");
            self.packed.extend_from_slice(&length.to_le_bytes());
        }
        self.packed.extend_from_slice(&name[common..]);
        self.last.clear();
        self.last.extend_from_slice(name);
        self.count += 1;
    }

    fn get(&self, entry: u32) -> Option<Vec<u8>> {
        let start = *self.starts.get(usize::try_from(entry / STRIDE).ok()?)?;
        let (mut rest, mut name) = (self.packed.get(start..)?, Vec::new());
        for _ in 0..=entry % STRIDE {
            let (lengths, after) = rest.split_at_checked(4)?;
            let length = |at: usize| usize::from(u16::from_le_bytes([lengths[at], lengths[at + 1]]));
            let (text, after) = after.split_at_checked(length(2))?;
            name.truncate(length(0));
            name.extend_from_slice(text);
            rest = after;
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let mut names = Names::default();
        let all: Vec<String> = (0..100).map(|n| format!("usr/lib/{}/{n}", "x".repeat(n % 7))).collect();
        all.iter().for_each(|name| names.push(name.as_bytes()));
        for (at, name) in all.iter().enumerate() {
            assert_eq!(names.get(at as u32).as_deref(), Some(name.as_bytes()));
        }
        assert_eq!(names.get(100), None);
        assert!(names.packed.len() < all.iter().map(String::len).sum());
    }

    #[test]
    fn who_counts_links() {
        assert!(counts_links(b"etc/cron.d/job"));
        assert!(counts_links(b"etc/crontab"));
        assert!(!counts_links(b"usr/etc/crontab"));
    }
}
