//! The log of a device: every write, flush and discard in order, as qemu's `blklogwrites` driver keeps it.
//!
//! Format: that of Linux's dm-log-writes. A superblock (magic, version, entries, sector size), then for each request
//! one sector that begins with sector, sectors, flags and length, all 64 bits little-endian, and its data after it.

use crate::command::Result;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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

    /// The log's length before the request of this number.
    pub fn position(&self, request: usize) -> u64 {
        self.requests.get(request).map_or(self.end, |(before, _)| *before)
    }

    /// Does a request to a device's image; of a write only the sectors that `keep` says.
    pub fn apply(&self, request: &Request, image: &Image, mut keep: impl FnMut() -> bool) -> Result<()> {
        match *request {
            Request::Write {
                sector, sectors, at, ..
            } => {
                let mut n = 0;
                while n < sectors {
                    let first = n;
                    // What belongs together goes together, as far as that takes no more memory than a megabyte.
                    while n < sectors && n - first < PIECE && keep() {
                        n += 1;
                    }
                    if n > first {
                        self.copy(at + first * SECTOR, n - first, image, sector + first)?;
                    }
                    if n - first < PIECE {
                        // The one that is not kept.
                        n += 1;
                    }
                }
                Ok(())
            }
            Request::Discard { sector, sectors } => image.discard(sector, sectors),
            Request::Flush => Ok(()),
        }
    }

    fn copy(&self, at: u64, sectors: u64, image: &Image, to: u64) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(sectors * SECTOR).map_err(|e| e.to_string())?];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|e| format!("read the log: {e}"))?;
        image.write(to, &bytes)
    }
}

/// Sectors copied at once.
const PIECE: u64 = 256;

/// A sparse file with what a device holds.
pub struct Image {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Image {
    /// A new one, all zero.
    pub fn create(path: &Path, length: u64) -> Result<Image> {
        let failed = |e: std::io::Error| format!("create {}: {e}", path.display());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).map_err(failed)?;
        file.set_len(length).map_err(failed)?;
        Ok(Image {
            file,
            path: path.to_owned(),
            length,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file with what this one holds: where the file system can, they share it.
    pub fn copy(&self, path: &Path) -> Result<Image> {
        let copy = Image::create(path, self.length)?;
        if rustix::fs::ioctl_ficlone(&copy.file, &self.file).is_ok() {
            return Ok(copy);
        }
        let failed = |e: rustix::io::Errno| format!("copy {}: {e}", self.path.display());
        let mut at = 0;
        loop {
            at = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(at) => at,
                Err(Errno::NXIO) => return Ok(copy),
                Err(error) => return Err(failed(error)),
            };
            let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(at)).map_err(failed)?;
            let mut to = at;
            while at < hole {
                let most = usize::try_from(hole - at).unwrap_or(usize::MAX).min(1 << 30);
                let copied = rustix::fs::copy_file_range(&self.file, Some(&mut at), &copy.file, Some(&mut to), most);
                if copied.map_err(failed)? == 0 {
                    return Err(failed(Errno::IO));
                }
            }
        }
    }

    fn write(&self, sector: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, sector * SECTOR);
        written.map_err(|e| format!("write {}: {e}", self.path.display()))
    }

    fn discard(&self, sector: u64, sectors: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punched = rustix::fs::fallocate(&self.file, flags, sector * SECTOR, sectors * SECTOR);
        punched.map_err(|e| format!("punch a hole in {}: {e}", self.path.display()))
    }
}
