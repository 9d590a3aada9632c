//! Checks what is on the disk against what was pulled: each layer's record, and each file's kind, size, mode, owner,
//! times, attributes and content.
//!
//! What it must be is in tar-split: all headers, and a CRC-64 of each content. The deep check makes the layer's tar
//! again from the files, once through, with `FADV_DONTNEED` behind it, and compares its sha256 with the diff ID, so
//! that tar-split itself is checked, too; the other reads no content. A layer that is found damaged is noted in
//! `balena-damaged/<chain ID>` until a pull has replaced it.

mod ahead;

use crate::error::{Doing, Error, Result};
use crate::layers::{ChainId, LayerId, Layers, missing, read_record};
use crate::rebuild::Passing;
use crate::{durable, hash};
use ahead::Ahead;
use flate2::bufread::MultiGzDecoder;
use oci::tar::{Entry, Kind, Reader};
use oci::tar_split::{Crc64, Lines, Piece};
use rustix::fs::{AtFlags, FileType, Stat};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use sys::resolve::{self, Scope};

/// What a check went through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    /// Bytes of content that were read.
    pub bytes: u64,
    pub damaged: u64,
}

impl Layers {
    /// Checks a layer and tells of everything damaged, by its name in the layer and what is wrong with it. Notes the
    /// layer as damaged, or takes that note away after a deep check that found nothing.
    pub fn verify(&self, layer: &LayerId, deep: bool, tell: &mut dyn FnMut(&str, &str)) -> Result<Verified> {
        let chain = layer.chain_id();
        let info = self.info(chain).ok_or_else(|| missing(chain))?;
        let diff = self.layout().overlay_layer(&info.cache_id).join("diff");
        let root = durable::open_directory(&diff)?;
        let mut verified = Verified::default();
        let damaged = Cell::new(0);
        let mut told = |name: &str, what: &str| {
            damaged.set(damaged.get() + 1);
            tell(name, what);
        };
        let record = self.layout().layer_record(chain);
        // What was read of it at the start is what counts, but the next start reads it again.
        match read_record(&record) {
            Ok(found) if found == info => {}
            Ok(_) => told("", &format!("{} says something else than it did", record.display())),
            Err(error) => told("", &error.to_string()),
        }
        let split = record.join("tar-split.json.gz");
        let checked = check(&root, &split, deep, &mut told);
        match &checked {
            Ok(done) if deep && done.diff_id != info.diff_id.0 && damaged.get() == 0 => {
                told(
                    "",
                    &format!("the layer's tar is {}, not {}", done.diff_id, info.diff_id.0),
                );
            }
            Ok(_) => {}
            Err(error) => told("", &error.to_string()),
        }
        if let Ok(done) = checked {
            (verified.entries, verified.bytes) = (done.entries, done.bytes);
        }
        verified.damaged = damaged.get();
        match verified.damaged {
            0 if deep => self.set_damaged(chain, false)?,
            0 => {}
            _ => self.set_damaged(chain, true)?,
        }
        Ok(verified)
    }

    /// Says if a layer was found damaged and has not been replaced since.
    pub fn is_damaged(&self, chain: &ChainId) -> bool {
        self.layout().damaged().join(chain.digest().hex()).exists()
    }

    /// Notes that a file of a layer was found to be damaged.
    pub fn note_damaged(&self, layer: &LayerId) -> Result<()> {
        self.set_damaged(layer.chain_id(), true)
    }

    pub(crate) fn set_damaged(&self, chain: &ChainId, damaged: bool) -> Result<()> {
        let path = self.layout().damaged().join(chain.digest().hex());
        if damaged {
            durable::mkdir_durable(&self.layout().damaged(), 0o700)?;
            return durable::write_atomic(&path, b"", 0o600);
        }
        durable::remove_durable(&path).map(drop)
    }
}

struct Done {
    entries: u64,
    bytes: u64,
    /// Of the tar as it came out; says nothing unless contents were read.
    diff_id: oci::digest::Digest,
}

fn check(root: &OwnedFd, split: &Path, deep: bool, tell: &mut dyn FnMut(&str, &str)) -> Result<Done> {
    let compressed = BufReader::new(File::open(split).doing("open", split)?);
    let lines = Lines::new(BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(compressed)));
    let (seen, bytes) = (Rc::default(), Rc::default());
    let tar = Contents {
        ahead: Ahead::start(root.try_clone().doing("open", split)?, split, lines, deep)?,
        deep,
        now: Now::Between,
        seen: Rc::clone(&seen),
        bytes: Rc::clone(&bytes),
    };
    let source = BufReader::with_capacity(128 * 1024, hash::Hashing::new(tar));
    let mut reader = Reader::with_tap(source, ());
    let unreadable = |e| Error::Invalid(format!("read {}: {e}", split.display()));
    let (mut entries, mut last) = (0, None::<Entry>);
    let mut doubtful = BTreeMap::new();
    loop {
        let entry = reader.next_entry().map_err(unreadable)?;
        // What came of an entry's content is known when the next entry is there.
        if let Some(entry) = last.take() {
            let mut seen = seen.borrow_mut();
            // Docker's tar-split has lines for headers that are no entries, too.
            while seen.front().is_some_and(|front: &Seen| front.name != entry.name) {
                seen.pop_front();
            }
            judge(root, &entry, seen.pop_front(), &mut doubtful, tell)?;
        }
        let Some(entry) = entry else { break };
        entries += 1;
        last = Some(entry);
    }
    for (name, what) in doubtful {
        tell(&String::from_utf8_lossy(&name), &what);
    }
    let (source, ..) = reader.finish().map_err(unreadable)?;
    Ok(Done {
        entries,
        bytes: bytes.get(),
        diff_id: source.into_inner().finish().0,
    })
}

/// Compares an entry with what is in its place. What differs of a file with several names is `doubtful`: a link that
/// comes later may have changed it, or it is another layer's, too, and damaged.
fn judge(
    root: &OwnedFd,
    entry: &Entry,
    content: Option<Seen>,
    doubtful: &mut BTreeMap<Vec<u8>, String>,
    tell: &mut dyn FnMut(&str, &str),
) -> Result<()> {
    let shown = String::from_utf8_lossy(&entry.name).into_owned();
    // As it was unpacked: a `..` in the middle takes its name away, whether or not there is such a directory.
    let name = cleaned(&entry.name);
    let (parent, last) = crate::unpack::split(&name);
    if last.is_empty() {
        return Ok(());
    }
    let parent = Path::new(OsStr::from_bytes(if parent.is_empty() { b"." } else { parent }));
    let parent = resolve::open_directory(root.as_fd(), parent, Scope::InRoot);
    let Ok(parent) = parent else {
        tell(&shown, "missing, with its directory");
        return Ok(());
    };
    let hidden = last.strip_prefix(b".wh.");
    if hidden == Some(b".wh..opq") {
        return Ok(());
    }
    let stat = match rustix::fs::statat(&parent, hidden.unwrap_or(last), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => {
            tell(&shown, "missing");
            return Ok(());
        }
        Err(error) => {
            tell(&shown, &error.to_string());
            return Ok(());
        }
    };
    if hidden.is_some() {
        return Ok(());
    }
    if let Some(what) = difference(&parent, last, entry, &stat) {
        tell(&shown, &what);
    } else if let Some(what) = content.and_then(|seen| seen.damage) {
        tell(&shown, &what);
    } else if let Some(what) = inode_difference(&parent, last, entry, &stat) {
        match stat.st_nlink > 1 && entry.kind != Kind::Directory {
            true => drop(doubtful.insert(cleaned(&entry.name), what)),
            false => tell(&shown, &what),
        }
    }
    if entry.kind == Kind::HardLink {
        doubtful.remove(&cleaned(&entry.link));
    }
    Ok(())
}

fn cleaned(name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(name.len());
    crate::unpack::clean(name, &mut path);
    path
}

fn difference(parent: &OwnedFd, name: &[u8], entry: &Entry, stat: &Stat) -> Option<String> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let wanted = match entry.kind {
        Kind::Regular => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        // Its own header may say something else than that of the file, and the one that comes last holds.
        Kind::HardLink | Kind::Other(_) => return None,
    };
    if kind != wanted {
        return Some(format!("is a {kind:?}, not a {wanted:?}"));
    }
    if kind == FileType::RegularFile && u64::try_from(stat.st_size) != Ok(entry.size) {
        return Some(format!("has {} bytes, not {}", stat.st_size, entry.size));
    }
    if kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(parent, name, Vec::new());
        if target.ok().is_none_or(|target| target.to_bytes() != entry.link) {
            return Some("links to something else".into());
        }
    }
    None
}

/// What no name of a file has to itself: mode, owner, time, attributes.
fn inode_difference(parent: &OwnedFd, name: &[u8], entry: &Entry, stat: &Stat) -> Option<String> {
    if matches!(entry.kind, Kind::HardLink | Kind::Other(_)) {
        return None;
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode {
        return Some(format!("has mode {:o}, not {:o}", stat.st_mode & 0o7777, entry.mode));
    }
    // The last number is none: the kernel leaves the owner as it is.
    let differs = |got: u32, wanted: u32| wanted != u32::MAX && got != wanted;
    if differs(stat.st_uid, entry.uid) || differs(stat.st_gid, entry.gid) {
        let got = (stat.st_uid, stat.st_gid);
        return Some(format!(
            "belongs to {}:{}, not {}:{}",
            got.0, got.1, entry.uid, entry.gid
        ));
    }
    // A directory's time changes with what is in it, and that is told by itself. Times that not every file system can
    // hold (Go's zero time is one) are not what was asked for when they were set.
    let holds = i32::try_from(entry.mtime.seconds).is_ok() && kind != FileType::Directory;
    if holds && i128::from(stat.st_mtime) != i128::from(entry.mtime.seconds) {
        return Some("was modified at another time".into());
    }
    let set = entry.xattrs.iter().filter(|(key, _)| key.starts_with(b"security."));
    for (key, value) in set {
        let key = std::ffi::CString::new(key.as_slice()).ok()?;
        let got = sys::fs::get_xattr(parent.as_fd(), Path::new(OsStr::from_bytes(name)), &key);
        if got.ok().flatten().as_ref() != Some(value) {
            return Some(format!("has another {}", key.to_string_lossy()));
        }
    }
    None
}

/// What came of one file's content.
#[derive(Debug)]
struct Seen {
    name: Vec<u8>,
    damage: Option<String>,
}

enum Now {
    Between,
    Raw(Vec<u8>, usize),
    File {
        file: Option<Passing>,
        left: u64,
        crc: Crc64,
        wanted: Vec<u8>,
        name: Vec<u8>,
        damage: Option<String>,
    },
    End,
}

/// The tar as a stream that does not end at a damaged file: what cannot be read is zeros, and what came of each
/// content is noted in order.
struct Contents {
    ahead: Ahead,
    deep: bool,
    now: Now,
    seen: Rc<RefCell<VecDeque<Seen>>>,
    /// Bytes of content that were read.
    bytes: Rc<Cell<u64>>,
}

impl Contents {
    fn next(&mut self) -> io::Result<()> {
        let Some(next) = self.ahead.next()? else {
            self.now = Now::End;
            return Ok(());
        };
        self.now = match next.piece {
            Piece::Raw(bytes) => Now::Raw(bytes, 0),
            Piece::File { name, size: 0, .. } => {
                self.seen.borrow_mut().push_back(Seen { name, damage: None });
                Now::Between
            }
            Piece::File { name, size, crc } => {
                let (file, damage) = match next.file {
                    None => (None, None),
                    Some(Ok(file)) => (Some(file), None),
                    Some(Err(error)) => (None, Some(error.to_string())),
                };
                Now::File {
                    file,
                    left: size,
                    crc: Crc64::default(),
                    wanted: crc,
                    name,
                    damage,
                }
            }
        };
        Ok(())
    }
}

impl Read for Contents {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.now {
                Now::End => return Ok(0),
                Now::Between => self.next()?,
                Now::Raw(bytes, at) if *at == bytes.len() => self.now = Now::Between,
                Now::Raw(bytes, at) => {
                    let n = into.len().min(bytes.len() - *at);
                    into[..n].copy_from_slice(&bytes[*at..*at + n]);
                    *at += n;
                    return Ok(n);
                }
                Now::File { left: 0, .. } => {
                    if let Now::File {
                        crc,
                        wanted,
                        name,
                        damage,
                        ..
                    } = std::mem::replace(&mut self.now, Now::Between)
                    {
                        let differs = self.deep && damage.is_none() && crc.value().to_be_bytes()[..] != wanted[..];
                        let damage = damage.or_else(|| differs.then(|| "has another content".to_owned()));
                        self.seen.borrow_mut().push_back(Seen { name, damage });
                    }
                }
                Now::File {
                    file,
                    left,
                    crc,
                    damage,
                    ..
                } => {
                    let n = usize::try_from(*left).map_or(into.len(), |left| left.min(into.len()));
                    let got = match file.as_mut().map(|file| file.read(&mut into[..n])) {
                        Some(Ok(got)) if got > 0 => {
                            self.bytes.set(self.bytes.get() + got as u64);
                            got
                        }
                        Some(Err(error)) => {
                            *damage = Some(error.to_string());
                            0
                        }
                        Some(Ok(_)) => {
                            *damage = Some("is too short".into());
                            0
                        }
                        None => 0,
                    };
                    let got = match got {
                        0 => {
                            *file = None;
                            into[..n].fill(0);
                            n
                        }
                        got => got,
                    };
                    crc.update(&into[..got]);
                    *left -= got as u64;
                    return Ok(got);
                }
            }
        }
    }
}
