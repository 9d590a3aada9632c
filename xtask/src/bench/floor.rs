//! The least that an update can cost here: what any program does that makes a layer's files out of files that are there.
//!
//! One thread reads every file once and hashes it, for the layer's digest is of all of them; it links those that the
//! layer shares with its base, writes the others, with owner, mode and times; in the end it syncs, once. It decodes no
//! delta, writes no tar-split, notes nothing to go on by, lets go of no pages, and believes every name.

use super::measure::Disk;
use crate::command::Result;
use ring::digest::{Context, SHA256};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, openat, readlinkat, statat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What it came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    pub cpu: f64,
    pub written: f64,
    pub journal: Option<f64>,
    pub directories: f64,
}

/// Makes the files of some layers once more, on the disk that they are on.
pub fn measure(disk: &Disk, layers: &[PathBuf]) -> Result<Floor> {
    disk.sync()?;
    let (written, journaled) = (disk.written()?, disk.journaled());
    let work = || -> rustix::io::Result<(f64, f64)> {
        let mut copy = Copy {
            hash: Context::new(&SHA256),
            buffer: vec![0; 128 << 10],
            directories: 0,
            names: BTreeMap::new(),
            made: BTreeMap::new(),
        };
        for layer in layers {
            copy.count(&directory(CWD, layer)?)?;
        }
        let began = cpu();
        for (number, layer) in layers.iter().enumerate() {
            let to = disk.at().join(format!("floor-{number}"));
            rustix::fs::mkdir(&to, Mode::from_raw_mode(0o755))?;
            copy.directory(&directory(CWD, layer)?, &directory(CWD, &to)?)?;
            rustix::fs::syncfs(directory(CWD, &to)?)?;
        }
        copy.hash.finish();
        Ok((cpu() - began, copy.directories as f64))
    };
    // A thread of its own, whose CPU is counted.
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (cpu, directories) = done.map_err(|e| format!("make a layer's files again: {e}"))?;
    disk.sync()?;
    Ok(Floor {
        cpu,
        written: disk.written()? - written,
        journal: disk.journaled().zip(journaled).map(|(now, before)| now - before),
        directories,
    })
}

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn directory(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

struct Copy {
    hash: Context,
    buffer: Vec<u8>,
    directories: u64,
    /// How many names each inode has in the layers that are made: those with more are the base's, too.
    names: BTreeMap<u64, u64>,
    /// Files that were written and have more names here.
    made: BTreeMap<u64, OwnedFd>,
}

impl Copy {
    fn count(&mut self, from: &OwnedFd) -> rustix::io::Result<()> {
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            match entry.file_type() {
                _ if [&b"."[..], b".."].contains(&name.to_bytes()) => {}
                FileType::Directory => self.count(&directory(from, name)?)?,
                FileType::RegularFile => *self.names.entry(entry.ino()).or_default() += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
        self.directories += 1;
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    rustix::fs::mkdirat(to, name, mode)?;
                    let made = directory(to, name)?;
                    self.directory(&directory(from, name)?, &made)?;
                    rustix::fs::futimens(&made, &times(&stat))?;
                }
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
                    let file = openat(from, name, flags, Mode::empty())?;
                    let names = self.names.get(&stat.st_ino).copied().unwrap_or(1);
                    if stat.st_nlink > names {
                        rustix::fs::linkat(from, name, to, name, AtFlags::empty())?;
                        self.pass(file.as_fd(), None)?;
                    } else if let Some(made) = self.made.get(&stat.st_ino) {
                        rustix::fs::linkat(made, "", to, name, AtFlags::EMPTY_PATH)?;
                    } else {
                        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                        let made = openat(to, name, flags, mode)?;
                        self.pass(file.as_fd(), Some(made.as_fd()))?;
                        if (stat.st_uid, stat.st_gid) != (0, 0) {
                            let owner = Uid::from_raw(stat.st_uid);
                            rustix::fs::fchown(&made, Some(owner), Some(Gid::from_raw(stat.st_gid)))?;
                        }
                        rustix::fs::futimens(&made, &times(&stat))?;
                        if names > 1 {
                            self.made.insert(stat.st_ino, made);
                        }
                    }
                }
                FileType::Symlink => {
                    let target = readlinkat(from, name, Vec::new())?;
                    rustix::fs::symlinkat(&target, to, name)?;
                    rustix::fs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                // Devices and the like are too few to matter.
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a file and hashes it; writes it, too, if there is somewhere to write to.
    fn pass(&mut self, from: BorrowedFd<'_>, to: Option<BorrowedFd<'_>>) -> rustix::io::Result<()> {
        loop {
            let n = rustix::io::read(from, &mut self.buffer[..])?;
            if n == 0 {
                return Ok(());
            }
            self.hash.update(&self.buffer[..n]);
            let mut left = &self.buffer[..n];
            while let Some(to) = to.filter(|_| !left.is_empty()) {
                match rustix::io::write(to, left)? {
                    0 => return Err(Errno::IO),
                    n => left = &left[n..],
                }
            }
        }
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
