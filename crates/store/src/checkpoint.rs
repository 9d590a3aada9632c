//! How far a pull of a layer had come: all that another run, after a restart or a power failure, needs to go on.
//!
//! Each layer on its way has a directory of ours, `balena-pulls/<chain ID>/`, with four small files:
//!
//! ```text
//! durable.0, durable.1   written after the `syncfs` of the batch that they tell of, in turn; always true
//! soft.0, soft.1         written in between, in turn; true as long as the page cache is: until the next boot
//! delta                  if it is made by a delta, the bytes of that which have come ([`crate::spool`])
//! ```
//!
//! A file is the sha256 of the rest in hex, a line of JSON, and the inflate window. None is renamed into place, and only
//! durable ones are synced: a torn one is told by its sha256, and the one written before it stands beside it. The checkpoint says
//! where the compressed blob is gone on with ([`Point`]) and how much of the tar is in the layer's directory
//! ([`Place`]); everything else is made again from that directory, and so checked, by [`crate::unpack`].

use crate::durable;
use crate::error::Result;
use crate::hash;
use crate::restart::{Compression, Point, Points};
use crate::spool::Spool;
use json::{Deserialize, Serialize};
use oci::digest::Digest;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const DURABLE: [&str; 2] = ["durable.0", "durable.1"];
const SOFT: [&str; 2] = ["soft.0", "soft.1"];

/// How much of a layer's tar has been unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Bytes of the tar: behind an entry's content, or in the middle of a file's.
    pub tar: u64,
    /// Bytes and lines of tar-split that tell of them.
    pub split_bytes: u64,
    pub split_lines: u64,
    /// The file in the middle of which it is, by its name in the tar, and how many bytes of it are there.
    pub file: Option<(Vec<u8>, u64)>,
}

/// What a layer being pulled is, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub blob: Digest,
    /// Its directory in `overlay2/`.
    pub cache_id: String,
    /// Its parent's, if it has one: the directory's `lower` names it.
    pub parent_cache_id: Option<String>,
    /// Its record to be, in `layerdb/tmp`.
    pub record: String,
}

/// A checkpoint as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub identity: Identity,
    pub place: Place,
    pub point: Point,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    /// Set in a soft one.
    boot: Option<String>,
    identity: Identity,
    place: Place,
    /// 0: none, 1: gzip, 2: zstd, 3: it is a delta.
    compression: u8,
    input: u64,
    output: u64,
    bits: u8,
    byte: u8,
    inside: bool,
}

impl Checkpoint {
    fn encode(&self, boot: Option<String>) -> Vec<u8> {
        let compression = match self.point.compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Zstd => 2,
            Compression::Delta => 3,
        };
        let head = Head {
            format: FORMAT,
            boot,
            identity: self.identity.clone(),
            place: self.place.clone(),
            compression,
            input: self.point.input,
            output: self.point.output,
            bits: self.point.bits,
            byte: self.point.byte,
            inside: self.point.inside,
        };
        let mut body = json::to_vec(&head);
        // Of one length whatever the numbers: a file that is overwritten in its length is synced without the journal.
        let length = (body.len() + 1).next_multiple_of(512);
        body.resize(length - 1, b' ');
        body.push(b'\n');
        body.extend_from_slice(&self.point.window);
        let mut bytes = hash::sha256(&body).hex().as_bytes().to_vec();
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads one that is whole, ours, and true; says if it is durable.
    fn decode(bytes: &[u8], boot: Option<&str>) -> Option<(Checkpoint, bool)> {
        let (digest, body) = (bytes.get(..64)?, bytes.get(65..)?);
        if hash::sha256(body).hex().as_bytes() != digest {
            return None;
        }
        let end = body.iter().position(|&byte| byte == b'\n')?;
        let head: Head = json::from_slice(&body[..end]).ok()?;
        let true_still = head.boot.is_none() || head.boot.as_deref() == boot;
        if head.format != FORMAT || !true_still {
            return None;
        }
        let compression = match head.compression {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Zstd,
            3 => Compression::Delta,
            _ => return None,
        };
        let whole = head.output <= head.place.tar && crate::id::is_long(&head.identity.cache_id);
        let point = Point {
            compression,
            input: head.input,
            output: head.output,
            bits: head.bits,
            byte: head.byte,
            window: body[end + 1..].to_vec(),
            inside: head.inside,
        };
        let checkpoint = Checkpoint {
            identity: head.identity,
            place: head.place,
            point,
        };
        whole.then_some((checkpoint, head.boot.is_none()))
    }

    fn read(path: &Path, boot: Option<&str>) -> Option<(Checkpoint, bool)> {
        Checkpoint::decode(&std::fs::read(path).ok()?, boot)
    }

    /// The furthest one in a layer's directory of checkpoints.
    pub fn load(directory: &Path) -> Option<Checkpoint> {
        let boot = boot();
        let (mut checkpoint, durable) = DURABLE
            .iter()
            .chain(&SOFT)
            .filter_map(|name| Checkpoint::read(&directory.join(name), boot.as_deref()))
            .max_by_key(|(checkpoint, _)| checkpoint.place.tar)?;
        // What came of a delta since then is as true as the page cache.
        if !durable && checkpoint.point.compression == Compression::Delta {
            let kept = Spool::kept(directory).unwrap_or(0);
            checkpoint.point.input = checkpoint.point.input.max(kept);
        }
        Some(checkpoint)
    }
}

/// The kernel's name of this boot; without it no soft checkpoint is believed.
fn boot() -> Option<String> {
    #[cfg(feature = "known-bad")]
    if let Some(boot) = crate::fault::boot() {
        return Some(boot);
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A durable checkpoint that is to be written when its batch is on the device.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Pending {
    /// Makes room for it, before the `syncfs` of its batch: a file that has its name and its blocks is synced without the
    /// journal, and that is for certain. What was there is older than the one beside it.
    pub fn make_room(&self) -> Result<()> {
        let length = std::fs::metadata(&self.path).map(|there| there.len());
        match length.is_ok_and(|length| length == self.bytes.len() as u64) {
            true => Ok(()),
            false => durable::overwrite(&self.path, &vec![0; self.bytes.len()]),
        }
    }

    /// Durable when it returns.
    pub fn write(&self) -> Result<()> {
        durable::overwrite(&self.path, &self.bytes)?;
        durable::sync_content(&self.path)
    }
}

/// What a layer is made of as it comes.
#[derive(Debug)]
pub(crate) enum Input {
    /// Its blob, with the places noted in it.
    Blob(Points),
    Delta(Spool),
}

/// Makes the directory of a layer's checkpoints.
pub(crate) fn make_directory(directory: &Path) -> Result<()> {
    if let Some(above) = directory.parent() {
        durable::mkdir(above, 0o700)?;
    }
    durable::mkdir(directory, 0o700).map(drop)
}

/// Writes the checkpoints of one layer.
#[derive(Debug)]
pub(crate) struct Keeper {
    directory: PathBuf,
    identity: Identity,
    input: Input,
    boot: Option<String>,
    /// Which of two files is written next: the one that is not the furthest.
    soft: usize,
    durable: usize,
    is_made: bool,
}

impl Keeper {
    /// Nothing is made before the first checkpoint. What an earlier run left is overwritten last.
    pub fn new(directory: PathBuf, identity: Identity, input: Input) -> Keeper {
        let boot = boot();
        if let (Input::Delta(spool), Some(boot)) = (&input, &boot) {
            let first = Checkpoint {
                identity: identity.clone(),
                place: Place {
                    tar: 0,
                    split_bytes: 0,
                    split_lines: 0,
                    file: None,
                },
                point: Point::in_delta(0),
            };
            spool.begin(directory.join(SOFT[1]), first.encode(Some(boot.clone())));
        }
        let next = |names: [&str; 2]| {
            let tar = |name| Some(Checkpoint::read(&directory.join(name), boot.as_deref())?.0.place.tar);
            usize::from(tar(names[0]) > tar(names[1]))
        };
        Keeper {
            soft: next(SOFT),
            durable: next(DURABLE),
            is_made: false,
            directory,
            identity,
            input,
            boot,
        }
    }

    /// Writes a soft checkpoint and, if it `is_last` of a batch, gives back the durable one, to be written after the
    /// next `syncfs`.
    pub fn keep(&mut self, place: Place, is_last: bool) -> Result<Option<Pending>> {
        let point = match &self.input {
            Input::Blob(points) => points.before(place.tar),
            Input::Delta(spool) => Some(Point::in_delta(spool.keep()?)),
        };
        let Some(point) = point else { return Ok(None) };
        if !std::mem::replace(&mut self.is_made, true) {
            make_directory(&self.directory)?;
        }
        let checkpoint = Checkpoint {
            identity: self.identity.clone(),
            place,
            point,
        };
        if let Some(boot) = &self.boot {
            let path = self.directory.join(SOFT[self.soft]);
            durable::overwrite(&path, &checkpoint.encode(Some(boot.clone())))?;
            self.soft = 1 - self.soft;
        }
        if !is_last {
            return Ok(None);
        }
        let path = self.directory.join(DURABLE[self.durable]);
        self.durable = 1 - self.durable;
        Ok(Some(Pending {
            path,
            bytes: checkpoint.encode(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            identity: Identity {
                blob: hash::sha256(b"blob"),
                cache_id: "a".repeat(64),
                parent_cache_id: None,
                record: "write-set-1".into(),
            },
            place: Place {
                tar: 5000,
                split_bytes: 10,
                split_lines: 3,
                file: Some((b"name\xff".to_vec(), 7)),
            },
            point: Point {
                compression: Compression::Gzip,
                input: 1000,
                output: 4000,
                bits: 3,
                byte: 0x55,
                window: vec![b'\n'; 30],
                inside: true,
            },
        }
    }

    /// Whatever there is in between, and across runs: what is overwritten is never the furthest of its kind, for a torn
    /// one has to leave the other.
    #[test]
    fn the_furthest_is_overwritten_last() {
        let at = tempfile::tempdir().unwrap();
        let directory = at.path().join("pulls/layer");
        let spot = checkpoint();
        let tar = |name: &str| {
            let (there, _) = Checkpoint::read(&directory.join(name), boot().as_deref())?;
            Some(there.place.tar)
        };
        let mut last = [None; 2];
        for run in 0..3u64 {
            let points = Points::default();
            points.add(spot.point.clone());
            let mut keeper = Keeper::new(directory.clone(), spot.identity.clone(), Input::Blob(points));
            for n in 1..8 {
                let place = Place {
                    tar: 5000 + run * 100 + n,
                    ..spot.place.clone()
                };
                let pending = keeper.keep(place, n % 2 == 1).unwrap();
                assert_eq!(pending.is_some(), n % 2 == 1);
                if let Some(pending) = pending {
                    pending.make_room().unwrap();
                    assert_eq!(DURABLE.map(tar).into_iter().max().unwrap(), last[0], "run {run}, {n}");
                    pending.write().unwrap();
                    last[0] = Some(5000 + run * 100 + n);
                }
                let soft = SOFT.map(tar);
                assert_eq!(soft.into_iter().max().unwrap(), Some(5000 + run * 100 + n));
                assert!(run + n == 1 || soft.contains(&last[1]), "run {run}, {n}: {soft:?}");
                last[1] = Some(5000 + run * 100 + n);
            }
            assert_eq!(Checkpoint::load(&directory).unwrap().place.tar, 5007 + run * 100);
        }
    }

    #[test]
    fn only_whole_and_true_ones_are_read() {
        let checkpoint = checkpoint();
        let durable = checkpoint.encode(None);
        assert_eq!(Checkpoint::decode(&durable, None), Some((checkpoint.clone(), true)));
        let soft = checkpoint.encode(Some("boot".into()));
        assert_eq!(Checkpoint::decode(&soft, Some("boot")), Some((checkpoint, false)));
        assert_eq!(Checkpoint::decode(&soft, Some("another")), None);
        assert_eq!(Checkpoint::decode(&soft, None), None);
        for at in 0..durable.len() {
            let mut damaged = durable.clone();
            damaged[at] ^= 1;
            // The byte between the two parts says nothing.
            assert_eq!(Checkpoint::decode(&damaged, None).is_some(), at == 64, "{at}");
            assert_eq!(Checkpoint::decode(&durable[..at], None), None);
        }
    }
}
