//! Compresses a layer for a push, the same bytes each time.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, BufWriter, Write};

const BUFFER: usize = 64 * 1024;

/// A gzip stream without name and time. The level is the one that Docker's has.
pub struct Encoder<W: Write>(GzEncoder<BufWriter<W>>);

impl<W: Write> Encoder<W> {
    /// Compresses into `out`.
    pub fn new(out: W) -> Encoder<W> {
        Encoder(GzEncoder::new(
            BufWriter::with_capacity(BUFFER, out),
            Compression::new(6),
        ))
    }

    /// Writes the end.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish()?.flush()
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
