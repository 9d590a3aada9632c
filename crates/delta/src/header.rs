//! The head of a delta: what it is, what it makes, and what it needs for that.
//!
//! ```text
//! 8   magic, the last byte the version
//! 32  sha256 of the target's tar
//! n   bytes of the target's tar      n   its entries
//! n   layers of the base that are read; for each, from the bottom:  32 sha256 of its tar,  8 fingerprint
//! ```

use crate::error::Error;
use crate::layer::ENTRIES;
use crate::number;
use crate::stream::read_byte;
use oci::digest::Digest;
use std::io::Read;

/// The first bytes of every delta. The high bit, CR LF and the end-of-file character show transfers that hurt.
pub const MAGIC: [u8; 8] = *b"\x89Delta\x1a\x01";

/// Most layers of a base, which is what overlay file systems are limited to.
const LAYERS: u64 = 128;

/// A layer of the base that a delta reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseLayer {
    pub diff_id: Digest,
    /// What [`crate::Layer`] must be like: its headers, sizes and CRC-64s, hashed.
    pub fingerprint: [u8; 8],
}

/// What a delta says of itself before anything is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The diff ID of the layer it makes.
    pub target: Digest,
    /// Bytes of the layer's tar.
    pub tar_bytes: u64,
    /// Entries in the layer's tar.
    pub entries: u32,
    /// The layers it reads, lowest first.
    pub base: Vec<BaseLayer>,
}

impl Header {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&bytes_of(&self.target));
        number::put(&mut out, self.tar_bytes);
        number::put(&mut out, self.entries.into());
        number::put(&mut out, self.base.len() as u64);
        for layer in &self.base {
            out.extend_from_slice(&bytes_of(&layer.diff_id));
            out.extend_from_slice(&layer.fingerprint);
        }
        out
    }

    pub(crate) fn read(from: &mut impl Read) -> Result<Header, Error> {
        let magic: [u8; 8] = read_array(from)?;
        if magic[..7] != MAGIC[..7] {
            return Err(Error::Unknown("format"));
        }
        if magic[7] != MAGIC[7] {
            return Err(Error::Unknown("version"));
        }
        let target = Digest::sha256(read_array(from)?);
        let tar_bytes = number::get(|| read_byte(from))?;
        let entries = number::get(|| read_byte(from))?;
        let entries = u32::try_from(entries)
            .ok()
            .filter(|&entries| u64::from(entries) <= ENTRIES as u64);
        let layers = number::get(|| read_byte(from))?;
        if layers > LAYERS {
            return Err(Error::Limit {
                what: "number of base layers",
                limit: LAYERS,
            });
        }
        let mut base = Vec::new();
        for _ in 0..layers {
            base.push(BaseLayer {
                diff_id: Digest::sha256(read_array(from)?),
                fingerprint: read_array(from)?,
            });
        }
        Ok(Header {
            target,
            tar_bytes,
            entries: entries.ok_or(Error::Limit {
                what: "number of entries",
                limit: ENTRIES as u64,
            })?,
            base,
        })
    }
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    for byte in &mut bytes {
        *byte = read_byte(from)?;
    }
    Ok(bytes)
}

fn bytes_of(digest: &Digest) -> [u8; 32] {
    let hex = digest.hex().as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).map_or(0, |digit| digit as u8);
    std::array::from_fn(|at| digit(hex[2 * at]) << 4 | digit(hex[2 * at + 1]))
}
