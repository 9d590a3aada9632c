//! The log of a device: every write, flush and discard in order, as qemu's `blklogwrites` driver keeps it.
//!
//! Format: that of Linux's dm-log-writes. A superblock (magic, version, entries, sector size), then for each request
//! one sector that begins with sector, sectors, flags and length, all 64 bits little-endian, and its data after it.

use crate::command::Result;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a sector of the logged device, as the driver is told.
pub const SECTOR: u64 = 4096;

const MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// What a request did to the device.
#[derive(Clone, Debug)]
pub enum Request {
    /// Sectors from here on, their bytes at this place in the log; durable by itself if `fua`.
    Write {
        sector: u64,
        sectors: u64,
        at: u64,
        fua: bool,
    },
    Discard {
        sector: u64,
        sectors: u64,
    },
    /// Everything before it is durable.
    Flush,
}

/// A log that was completed.
pub struct Log {
    file: File,
    /// Each with the log's length before it.
    pub requests: Vec<(u64, Request)>,
    /// The log's length.
    pub end: u64,
}

impl Log {
    /// Reads the requests; their data stays in the file.
    pub fn read(path: &Path) -> Result<Log> {
        let failed = |e: std::io::Error| format!("read {}: {e}", path.display());
        let file = File::open(path).map_err(failed)?;
        let word = |at: u64| -> Result<u64> {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).map_err(failed)?;
            Ok(u64::from_le_bytes(bytes))
        };
        if word(0)? != MAGIC || word(24)? & 0xffff_ffff != SECTOR {
            return Err(format!("{} is no log of a device with 4 KiB sectors", path.display()));
        }
        let mut requests = Vec::new();
        let mut at = SECTOR;
        for _ in 0..word(16)? {
            let (sector, sectors, flags) = (word(at)?, word(at + 8)?, word(at + 16)?);
            let before = at;
            at += SECTOR;
            if flags & DISCARD != 0 {
                requests.push((before, Request::Discard { sector, sectors }));
            } else if sectors > 0 {
                let fua = flags & FUA != 0;
                requests.push((
                    before,
                    Request::Write {
                        sector,
                        sectors,
                        at,
                        fua,
                    },
                ));
                at += sectors * SECTOR;
            }
            if flags & FLUSH != 0 {
                requests.push((before, Request::Flush));
            }
        }
        Ok(Log {
            file,
            requests,
            end: at,
        })
    }

    /// Does a request to an image; of a write only the sectors that `keep` says.
    pub fn apply(&self, request: &Request, image: &mut Image, mut keep: impl FnMut() -> bool) -> Result<()> {
        match *request {
            Request::Write {
                sector, sectors, at, ..
            } => {
                for n in 0..sectors {
                    if keep() {
                        let mut block = Box::new([0; SECTOR as usize]);
                        let read = self.file.read_exact_at(&mut block[..], at + n * SECTOR);
                        read.map_err(|e| format!("read the log: {e}"))?;
                        image.0.insert(sector + n, block);
                    }
                }
            }
            Request::Discard { sector, sectors } => {
                for n in 0..sectors {
                    image.0.remove(&(sector + n));
                }
            }
            Request::Flush => {}
        }
        Ok(())
    }
}

type Block = Box<[u8; SECTOR as usize]>;

/// What a device holds, without the blocks that are all zero.
#[derive(Clone, Default)]
pub struct Image(BTreeMap<u64, Block>);

impl Image {
    /// Reads a sparse file.
    pub fn read(path: &Path) -> Result<Image> {
        let failed = |e: std::io::Error| format!("read {}: {e}", path.display());
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut blocks = BTreeMap::new();
        for sector in 0..length / SECTOR {
            let mut block = Box::new([0; SECTOR as usize]);
            file.read_exact_at(&mut block[..], sector * SECTOR).map_err(failed)?;
            if block.iter().any(|&byte| byte != 0) {
                blocks.insert(sector, block);
            }
        }
        Ok(Image(blocks))
    }

    /// Writes it to a new sparse file of `length` bytes, with what a crash added on top.
    pub fn write(&self, above: &Image, path: &Path, length: u64) -> Result<()> {
        let failed = |e: std::io::Error| format!("write {}: {e}", path.display());
        let file = File::create(path).map_err(failed)?;
        file.set_len(length).map_err(failed)?;
        for (sector, block) in self.0.iter().chain(&above.0) {
            file.write_all_at(&block[..], sector * SECTOR).map_err(failed)?;
        }
        Ok(())
    }
}
