//! Unpacks a tar stream into a directory without filling the page cache.
//!
//! One pass: the caller's thread reads, hashes, notes tar-split and writes files ([`tree`]); a second thread makes
//! them durable in batches and lets go of their pages ([`batch`]). Memory: a few buffers, a hash of each entry to notice
//! names that come twice, and the name and times of each directory until the end. Nothing in a stream can reach
//! outside the directory: every step is relative to a descriptor of a directory inside it.

mod batch;
mod early;
mod parents;
mod reuse;
mod split;
mod tree;

pub(crate) use parents::{clean, split};
pub(crate) use reuse::{Reuse, Shared};
pub use tree::Rules;

use crate::checkpoint::{Keeper, Pending, Place};
use crate::error::{Doing, Error, Result};
use crate::layers::DiffId;
use crate::rebuild::Prefix;
use crate::restart::Points;
use batch::Batches;
use oci::digest::Digest;
use oci::tar::{Kind, Reader, Tap, TarError};
use oci::tar_split::{Crc64, Splitter};
use ring::digest::{Context, SHA256};
use split::SplitFile;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};
use tree::{Begun, Middle, Tree};

/// Bytes read at once: large enough to make few calls, small enough for a device with 64 MB.
const BUFFER: usize = 128 * 1024;

/// What came out of a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The sha256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the files unpacked, counted as Docker counts a layer's size.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// Entries in the tar.
    pub entries: u64,
}

/// Tar bytes between two checkpoints that only have to outlive this process: they cost 33 KB in memory each. There are more
/// of them where bytes come slowly, and are dear to fetch again: those take a fiftieth of the time at most.
const CHECKPOINT_EVERY: u64 = 1 << 20;
const CHECKPOINT_SLOWLY: u64 = 128 << 10;
const SLOWLY: Duration = Duration::from_millis(20);
const SHARE: u32 = 50;

/// The same where a delta is what would come again. From the first one on its bytes are kept as they come, and then
/// another one saves only work.
const CHECKPOINT_EVERY_OF_DELTA: u64 = 8 << 20;

/// Where a layer is unpacked, and what an earlier run left there.
pub(crate) struct Target<'a> {
    pub diff: &'a Path,
    pub tar_split: &'a Path,
    /// Goes on from here: `tar` gives what follows.
    pub from: Option<&'a Place>,
    /// Notes checkpoints.
    pub keeper: Option<Keeper>,
    /// The tar is made by a delta, with these files.
    pub reuse: Option<Reuse>,
    /// How long it is, if that is known or can be guessed.
    pub length: Option<Length>,
}

/// How long a tar is.
pub(crate) enum Length {
    /// Bytes of it.
    Tar(u64),
    /// Bytes of the blob that it is unpacked from, and places in that as they are noted.
    Blob(u64, Points),
}

impl Length {
    /// About how many bytes come behind byte `tar`.
    fn rest(&self, tar: u64) -> Option<u64> {
        match self {
            Length::Tar(bytes) => Some(bytes.saturating_sub(tar)),
            Length::Blob(bytes, points) => points.rest(*bytes, tar),
        }
    }
}

/// Unpacks a layer's tar into `diff` and writes its tar-split to the new file `tar_split`. `seal` writes what else
/// must be durable at the end. When this returns, all of it is: files, times, tar-split.
///
/// Going on after an interruption is the same with the beginning of the tar made again from the disk: its entries are
/// only taken note of, and everything that depends on them, the diff ID first of all, comes out as if it had been one
/// run. A damaged beginning is an error, and never part of a layer.
pub(crate) fn layer(
    tar: &mut dyn Read,
    target: Target<'_>,
    seal: impl FnOnce(&Outcome) -> Result<()>,
) -> Result<Outcome> {
    let Target {
        diff,
        tar_split,
        from,
        keeper,
        reuse,
        length,
    } = target;
    let root = crate::durable::open_directory(diff)?;
    let split = SplitFile::open(tar_split, from.map(|place| place.split_bytes))?;
    let resumed = from.is_some();
    let from = from.filter(|place| place.tar > 0);
    let kept = split.duplicate().doing("open", tar_split)?;
    let before = from.map_or(Ok(Prefix::none()), |place| Prefix::start(diff, tar_split, place))?;
    let source = Hashed::new(before.chain(tar));
    let mut reader = Reader::with_tap(source, Splitter::new(split));
    let mut pauses = Pauses::new(keeper, reuse.is_some(), from, length);
    let mut tree = Tree::new(root, diff, Rules::layer())?.going_on(resumed).reusing(reuse);
    let mut batches = Batches::start(diff)?;
    let mut names = Names::default();
    let mut replay = from;
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().map_err(read_error)? {
        entries += 1;
        if !names.is_new(&entry.name) {
            // tar-split cannot tell two files of one name apart, so Docker refuses such a layer in these words.
            return Err(Error::Invalid("duplicates of file paths not supported".into()));
        }
        let mut begun = None;
        if let Some(place) = replay {
            let whole = reader.position().saturating_add(entry.stored) <= place.tar;
            if whole {
                tree.recall(&entry);
                reader.skip_rest().map_err(read_error)?;
            } else {
                begun = Some(recall_part(&mut reader, place.tar)?);
            }
            if reader.position() >= place.tar {
                // All that comes now is new, and what tar-split has of the rest is in the file already.
                reader.tap_mut().restart(place.split_lines);
                reader.tap_mut().out_mut().go_on();
                replay = None;
            }
            if whole {
                continue;
            }
        }
        let mut pause = |reader: &mut Reader<_, _>, batches: &mut Batches, middle: Middle<'_>| {
            pauses.within(reader, batches, &entry.name, &middle)
        };
        let content = tree.add(&entry, begun, &mut reader, &mut batches, &mut pause)?;
        if from.is_some() && entry.kind == Kind::Directory && names.has_whiteout_of(&entry.name) {
            // The earlier run may have been cut between making the directory and making it opaque.
            tree.make_opaque(&entry.name)?;
        }
        let (size, crc) = content.unwrap_or((0, 0));
        reader
            .tap_mut()
            .file(&entry.name, size, crc)
            .doing("write", tar_split)?;
        reader.skip_rest().map_err(read_error)?;
        pauses.between(&mut reader, &mut batches)?;
    }
    if replay.is_some() {
        return Err(Error::Invalid("a checkpoint is beyond the end of its layer".into()));
    }
    let (source, split, tar_bytes) = reader.finish().map_err(read_error)?;
    split.finish().and_then(SplitFile::finish).doing("write", tar_split)?;
    let size = tree.finish()?;
    let outcome = Outcome {
        diff_id: DiffId(source.finish()),
        size,
        tar_bytes,
        entries,
    };
    seal(&outcome)?;
    batches.part(&kept)?;
    batches.finish()?;
    Ok(outcome)
}

/// Passes the part of a file's content that an earlier run wrote, up to a byte of the tar.
fn recall_part<R: BufRead, T: Tap>(reader: &mut Reader<R, T>, end: u64) -> Result<Begun> {
    let (mut done, mut crc) = (0, Crc64::default());
    while reader.position() < end {
        let left = end - reader.position();
        let chunk = reader.chunk().map_err(read_error)?;
        let n = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        if n == 0 {
            break;
        }
        crc.update(&chunk[..n]);
        reader.consume(n).map_err(read_error)?;
        done += n as u64;
    }
    Ok(Begun { done, crc })
}

/// When a batch is made, and when a checkpoint.
struct Pauses {
    keeper: Option<Keeper>,
    /// The bytes of a delta are kept, from the first checkpoint on.
    of_delta: bool,
    /// The byte of the tar at which the last one was noted, or it was begun at, and when that was.
    last: u64,
    is_first: bool,
    noted: Instant,
    /// How long that took.
    took: Duration,
    length: Option<Length>,
}

impl Pauses {
    fn new(keeper: Option<Keeper>, of_delta: bool, from: Option<&Place>, length: Option<Length>) -> Pauses {
        Pauses {
            keeper,
            of_delta,
            is_first: true,
            last: from.map_or(0, |place| place.tar),
            noted: Instant::now(),
            took: Duration::ZERO,
            length,
        }
    }

    /// Says if a checkpoint is due, and if it is the last of a batch that is full.
    fn is_due<R: BufRead, T: Tap>(&self, reader: &Reader<R, T>, batches: &mut Batches) -> Option<bool> {
        if self.is_full(reader, batches) {
            return Some(true);
        }
        let came = reader.position().saturating_sub(self.last);
        let is_due = match (self.of_delta, self.is_first) {
            (true, true) => came >= CHECKPOINT_EVERY,
            (true, false) => came >= CHECKPOINT_EVERY_OF_DELTA,
            (false, _) if (CHECKPOINT_SLOWLY..CHECKPOINT_EVERY).contains(&came) => {
                self.noted.elapsed() >= SLOWLY.max(self.took * SHARE)
            }
            (false, _) => came >= CHECKPOINT_EVERY,
        };
        (self.keeper.is_some() && is_due).then_some(false)
    }

    fn is_full<R: BufRead, T: Tap>(&self, reader: &Reader<R, T>, batches: &mut Batches) -> bool {
        batches.is_due(|| self.length.as_ref()?.rest(reader.position()))
    }

    /// Between two entries.
    fn between<R: BufRead>(
        &mut self,
        reader: &mut Reader<R, Splitter<SplitFile>>,
        batches: &mut Batches,
    ) -> Result<()> {
        let Some(is_full) = self.is_due(reader, batches) else {
            return Ok(());
        };
        let checkpoint = self.note(reader, None, is_full)?;
        match is_full {
            true => batches.hand_over(checkpoint),
            false => Ok(()),
        }
    }

    /// In the middle of a file.
    fn within<R: BufRead>(
        &mut self,
        reader: &mut Reader<R, Splitter<SplitFile>>,
        batches: &mut Batches,
        name: &[u8],
        middle: &Middle<'_>,
    ) -> Result<()> {
        let Some(is_full) = self.is_due(reader, batches) else {
            return Ok(());
        };
        let checkpoint = match middle.done {
            Some(done) => self.note(reader, Some((name.to_vec(), done)), is_full)?,
            None => None,
        };
        if is_full {
            batches.part(middle.file)?;
            batches.hand_over(checkpoint)?;
        }
        Ok(())
    }

    fn note<R: BufRead>(
        &mut self,
        reader: &mut Reader<R, Splitter<SplitFile>>,
        file: Option<(Vec<u8>, u64)>,
        is_last: bool,
    ) -> Result<Option<Pending>> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(None);
        };
        let tar = reader.position();
        let begun = Instant::now();
        let split_lines = reader.tap_mut().mark().doing("write", "tar-split")?;
        let split_bytes = reader.tap_mut().out_mut().mark().doing("write", "tar-split")?;
        let place = Place {
            tar,
            split_bytes,
            split_lines,
            file,
        };
        let pending = keeper.keep(place, is_last)?;
        (self.last, self.is_first) = (tar, false);
        (self.noted, self.took) = (Instant::now(), begun.elapsed());
        Ok(pending)
    }
}

/// Unpacks a tar into a directory that is in use, by other rules than a layer's: `docker cp`, `ADD`. Durable when it
/// returns. Returns the bytes of the files unpacked.
pub fn into_directory(mut tar: impl Read, directory: &Path, rules: Rules) -> Result<u64> {
    into_directory_of(&mut tar, directory, rules)
}

fn into_directory_of(tar: &mut dyn Read, directory: &Path, rules: Rules) -> Result<u64> {
    let root = crate::durable::open_directory(directory)?;
    let mut reader = Reader::with_tap(BufReader::with_capacity(BUFFER, tar), ());
    let mut tree = Tree::new(root, directory, rules)?;
    let mut batches = Batches::start(directory)?;
    while let Some(entry) = reader.next_entry().map_err(read_error)? {
        let mut pause = |_: &mut Reader<_, _>, batches: &mut Batches, middle: Middle<'_>| match batches.is_due(|| None)
        {
            true => batches.part(middle.file).and_then(|()| batches.hand_over(None)),
            false => Ok(()),
        };
        tree.add(&entry, None, &mut reader, &mut batches, &mut pause)?;
        if batches.is_due(|| None) {
            batches.hand_over(None)?;
        }
    }
    reader.finish().map_err(read_error)?;
    let size = tree.finish()?;
    batches.finish()?;
    Ok(size)
}

/// Hashes what is taken from a buffered stream; what was only read ahead does not count yet.
struct Hashed<R> {
    inner: BufReader<R>,
    context: Context,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R) -> Hashed<R> {
        Hashed {
            inner: BufReader::with_capacity(BUFFER, inner),
            context: Context::new(&SHA256),
        }
    }

    fn finish(self) -> Digest {
        crate::hash::digest(self.context.finish())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let n = chunk.len().min(into.len());
        into[..n].copy_from_slice(&chunk[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: Read> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.context.update(&self.inner.buffer()[..n]);
        self.inner.consume(n);
    }
}

fn read_error(error: TarError) -> Error {
    match error {
        TarError::Io(source) => Error::Io {
            doing: "read layer".into(),
            source,
        },
        other => Error::Invalid(other.to_string()),
    }
}

/// Which names an archive had so far, as keyed hashes: no names to keep, and none to be made collide.
///
/// They lie in several sets, so that one that grows has only its own part in memory twice. 9 to 21 bytes a name.
struct Names {
    key: RandomState,
    seen: [HashSet<u64, BuildHasherDefault<Itself>>; 64],
}

/// Hashes a number that is a hash already.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Default for Names {
    fn default() -> Names {
        Names {
            key: RandomState::new(),
            seen: std::array::from_fn(|_| HashSet::default()),
        }
    }
}

impl Names {
    /// Which set a hash is in: by bits that the set itself does not go by.
    fn set(hash: u64) -> usize {
        usize::from(hash.to_be_bytes()[3] % 64)
    }

    fn is_new(&mut self, name: &[u8]) -> bool {
        let mut path = Vec::with_capacity(name.len());
        parents::clean(name, &mut path);
        let hash = self.key.hash_one(&path);
        self.seen[Names::set(hash)].insert(hash)
    }

    /// Says if the archive had the whiteout of a name before.
    fn has_whiteout_of(&self, name: &[u8]) -> bool {
        let mut path = Vec::with_capacity(name.len());
        parents::clean(name, &mut path);
        let (parent, name) = parents::split(&path);
        let mut whiteout = parent.to_vec();
        if !parent.is_empty() {
            whiteout.push(b'/');
        }
        whiteout.extend_from_slice(b".wh.");
        whiteout.extend_from_slice(name);
        let hash = self.key.hash_one(&whiteout);
        self.seen[Names::set(hash)].contains(&hash)
    }
}
