//! One look at a layer's tar before a delta is made: its headers, and of each file what tells it from others.

use crate::layer::{Builder, Hashing, Layer, Parts, digest, take_apart};
use oci::digest::Digest;
use oci::tar::{Entry, TarError};
use oci::tar_split::Crc64;
use ring::digest::{Context, SHA256};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};

/// A layer as a delta is made from it or to it. About 100 bytes an entry, and the layer's own.
pub struct Survey {
    pub(super) layer: Layer,
    pub(super) facts: Vec<Facts>,
    pub(super) tar_bytes: u64,
}

/// What is known of an entry.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    /// Hashes of its name and of its name's last component.
    pub name: u64,
    pub base_name: u64,
    pub size: u64,
    /// Where its content begins in the tar.
    pub offset: u64,
    /// Half a sha256 of its content.
    pub hash: u128,
    pub sketch: Sketch,
    /// It looks like text: no NUL in its first bytes.
    pub text: bool,
}

/// The smallest hashes of windows of 32 bytes in eight classes: files that share much share most of them.
pub(super) type Sketch = [u32; 8];

impl Survey {
    /// Reads a layer's tar to its end.
    pub fn read(tar: impl Read) -> Result<Survey, TarError> {
        let mut hashing = Hashing::new(tar);
        let look = Look {
            builder: Builder::default(),
            facts: Vec::new(),
            crc: Crc64::default(),
            hash: Context::new(&SHA256),
            sketcher: Sketcher::default(),
            seen: 0,
            text: true,
            names: (0, 0),
            at: 0,
        };
        let look = take_apart(&mut hashing, look)?;
        Ok(Survey {
            tar_bytes: hashing.bytes,
            layer: look.builder.finish(digest(hashing.context)),
            facts: look.facts,
        })
    }

    /// The layer's headers.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// The digest of the tar.
    pub fn diff_id(&self) -> &Digest {
        self.layer.diff_id()
    }

    /// Where the content of an entry begins in the tar.
    pub fn offset(&self, entry: u32) -> Option<u64> {
        self.facts.get(usize::try_from(entry).ok()?).map(|facts| facts.offset)
    }

    /// Bytes of the tar.
    pub fn tar_bytes(&self) -> u64 {
        self.tar_bytes
    }
}

struct Look {
    builder: Builder,
    facts: Vec<Facts>,
    crc: Crc64,
    hash: Context,
    sketcher: Sketcher,
    seen: u64,
    text: bool,
    names: (u64, u64),
    /// Bytes of the tar so far.
    at: u64,
}

impl Parts for Look {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.builder.raw(bytes);
        Ok(())
    }

    fn begin(&mut self, entry: &Entry, _: bool) -> io::Result<()> {
        self.names = (hash(&entry.name), hash(last_component(&entry.name)));
        (self.crc, self.hash, self.sketcher) = (Crc64::default(), Context::new(&SHA256), Sketcher::default());
        (self.seen, self.text) = (0, true);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.crc.update(bytes);
        self.hash.update(bytes);
        self.sketcher.update(bytes);
        if self.seen < 4096 {
            self.text &= !bytes.contains(&0);
        }
        self.seen += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self, size: u64) -> io::Result<()> {
        self.builder.file(size, self.crc.value())?;
        let digest = self.hash.clone().finish();
        let half: [u8; 16] = digest.as_ref()[..16].try_into().expect("a sha256 has 32 bytes");
        self.facts.push(Facts {
            name: self.names.0,
            base_name: self.names.1,
            size,
            offset: self.at - size,
            hash: u128::from_le_bytes(half),
            sketch: self.sketcher.sketch,
            text: self.text,
        });
        Ok(())
    }
}

/// Hashes a name. Two names of one hash make a delta larger, not wrong.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.strip_prefix(b"./").unwrap_or(name));
    hasher.finish()
}

fn last_component(name: &[u8]) -> &[u8] {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    name.rsplit(|&byte| byte == b'/').next().unwrap_or(name)
}

struct Sketcher {
    rolling: u32,
    sketch: Sketch,
}

impl Default for Sketcher {
    fn default() -> Sketcher {
        Sketcher {
            rolling: 0,
            sketch: [u32::MAX; 8],
        }
    }
}

/// A number for each byte, from a multiplicative generator.
static GEAR: [u32; 256] = {
    let mut gear = [0; 256];
    let (mut at, mut state) = (0, 0x9e37_79b9_7f4a_7c15u64);
    while at < 256 {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        gear[at] = (state >> 32) as u32;
        at += 1;
    }
    gear
};

impl Sketcher {
    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // A byte is shifted out after 32 steps: the hash is one of a window.
            self.rolling = (self.rolling << 1).wrapping_add(GEAR[usize::from(byte)]);
            if self.rolling >> 27 == 0 {
                let mixed = self
                    .rolling
                    .wrapping_mul(0x9e37_79b1)
                    .rotate_left(15)
                    .wrapping_mul(0x85eb_ca6b);
                let class = (mixed & 7) as usize;
                self.sketch[class] = self.sketch[class].min(mixed >> 3);
            }
        }
    }
}
