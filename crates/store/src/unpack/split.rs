//! The file a layer's tar-split is written to: gzip in as many members as there were checkpoints.
//!
//! A member that is complete can be gone on after, by this run or by another; gzip readers, Docker's too, read them
//! all as one.

use crate::error::{Doing, Result};
use flate2::{Compression, write::GzEncoder};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IntoInnerError, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

const BUFFER: usize = 32 * 1024;

/// Where tar-split's lines go.
pub(super) struct SplitFile {
    out: Out,
    /// What comes is in the file already.
    repeating: bool,
    file: File,
}

enum Out {
    Between(BufWriter<File>),
    Member(Box<GzEncoder<BufWriter<File>>>),
    /// Between the two, for a moment, or for good after an error.
    Nowhere,
}

impl SplitFile {
    /// Makes a new file, or opens one that has so many bytes that count. What is written to such a one is dropped
    /// until [`SplitFile::go_on`].
    pub fn open(path: &Path, kept: Option<u64>) -> Result<SplitFile> {
        let mut file = match kept {
            None => File::create_new(path).doing("create", path)?,
            Some(_) => OpenOptions::new().write(true).open(path).doing("open", path)?,
        };
        if let Some(bytes) = kept {
            file.set_len(bytes).doing("set size of", path)?;
            file.seek(SeekFrom::End(0)).doing("seek in", path)?;
        }
        let writer = file.try_clone().doing("open", path)?;
        Ok(SplitFile {
            out: Out::Between(BufWriter::with_capacity(BUFFER, writer)),
            repeating: kept.is_some_and(|bytes| bytes > 0),
            file,
        })
    }

    /// What is written from now on is new.
    pub fn go_on(&mut self) {
        self.repeating = false;
    }

    /// Ends the member, writes everything to the file and says how long it is.
    pub fn mark(&mut self) -> io::Result<u64> {
        let mut out = match std::mem::replace(&mut self.out, Out::Nowhere) {
            Out::Member(encoder) => encoder.finish()?,
            Out::Between(out) => out,
            Out::Nowhere => return Err(io::Error::other("an earlier write failed")),
        };
        out.flush()?;
        self.out = Out::Between(out);
        self.file.stream_position()
    }

    /// Writes everything to the file.
    pub fn finish(mut self) -> io::Result<()> {
        if let Out::Between(_) = &self.out
            && self.file.stream_position()? == 0
        {
            // An archive without a byte: gzip all the same.
            let _ = self.write(b"")?;
        }
        self.mark()?;
        match self.out {
            Out::Between(out) => out.into_inner().map(drop).map_err(IntoInnerError::into_error),
            _ => Ok(()),
        }
    }

    /// Another descriptor of the file.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

impl Write for SplitFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.repeating {
            return Ok(bytes.len());
        }
        if let Out::Between(_) = self.out
            && let Out::Between(out) = std::mem::replace(&mut self.out, Out::Nowhere)
        {
            self.out = Out::Member(Box::new(GzEncoder::new(out, Compression::fast())));
        }
        match &mut self.out {
            Out::Member(encoder) => encoder.write(bytes),
            _ => Err(io::Error::other("an earlier write failed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
