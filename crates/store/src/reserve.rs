//! A little room kept back, so that a full device can be emptied: to take a name away is to write a record.

use crate::error::Result;
use rustix::fs::FallocateFlags;
use std::fs;
use std::path::PathBuf;

/// Bytes kept back: a record and what a file system needs for a file, several times over. They are never written.
const BYTES: u64 = 64 << 10;

/// A file that takes room and holds nothing.
#[derive(Debug)]
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    /// Makes it, where there is room; else the next one who has it made may be luckier.
    pub fn keep(path: PathBuf) -> Reserve {
        let reserve = Reserve(path);
        reserve.refill();
        reserve
    }

    fn refill(&self) {
        if self.0.exists() {
            return;
        }
        let made = fs::File::create(&self.0);
        let kept = made.is_ok_and(|file| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES).is_ok());
        if !kept {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Does what makes room. If it fails for want of some, it is done once more with what was kept back.
    pub fn lend<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let done = match work() {
            Err(error) if error.is_no_space() && fs::remove_file(&self.0).is_ok() => work(),
            done => done,
        };
        self.refill();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_is_lent_once_and_kept_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        let reserve = Reserve::keep(path.clone());
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= BYTES);
        let full = || Error::Io {
            doing: "write".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let mut tries = 0;
        let done = reserve.lend(|| {
            tries += 1;
            match path.exists() {
                true => Err(full()),
                false => Ok(tries),
            }
        });
        assert_eq!(done.unwrap(), 2);
        assert!(path.exists(), "it is kept again");
        assert!(
            reserve
                .lend(|| -> Result<()> { Err(full()) })
                .unwrap_err()
                .is_no_space()
        );
        let other = reserve.lend(|| -> Result<()> { Err(Error::NotFound("x".into())) });
        assert!(other.unwrap_err().is_not_found() && path.exists());
    }
}
