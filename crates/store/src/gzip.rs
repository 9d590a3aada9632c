//! Compresses: a layer for a push, the same bytes each time; a log that was rotated.

use flate2::Compression;
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

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

/// Compresses a file to one beside it with `.gz` at its end, and removes it. `extra` goes into the header.
///
/// Whenever power fails or this process is ended, what the file held is there: in it, in the other, or in both.
pub fn compress_file(path: &Path, extra: &[u8]) -> io::Result<()> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (made, under_way) = (beside(".gz"), beside(".gz.new"));
    let from = File::open(path)?;
    let mode = from.metadata()?.permissions();
    let result = write_compressed(&from, &under_way, extra, mode)
        .and_then(|()| std::fs::rename(&under_way, made))
        .and_then(|()| std::fs::remove_file(path));
    if result.is_err() {
        let _ = std::fs::remove_file(under_way);
    }
    result
}

fn write_compressed(mut from: &File, to: &Path, extra: &[u8], mode: Permissions) -> io::Result<()> {
    let to = File::create(to)?;
    to.set_permissions(mode)?;
    let buffered = BufWriter::with_capacity(BUFFER, &to);
    let mut gzip = GzBuilder::new().extra(extra).write(buffered, Compression::new(6));
    io::copy(&mut from, &mut gzip)?;
    gzip.finish()?.flush()?;
    // The other is removed next.
    to.sync_data()?;
    // Nobody reads either of them soon.
    let _ = sys::fs::drop_cache(from).and_then(|()| sys::fs::drop_cache(&to));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_file_is_replaced_by_its_gzip() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.1");
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        std::fs::write(&path, &text).unwrap();
        // Left by a power failure.
        std::fs::write(directory.path().join("log.1.gz.new"), b"half").unwrap();
        compress_file(&path, b"{}").unwrap();
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
        let packed = std::fs::read(directory.path().join("log.1.gz")).unwrap();
        assert!(packed.len() < text.len() / 2);
        // FEXTRA, and its two bytes of length.
        assert_eq!((packed[3], &packed[10..14]), (4, &b"\x02\0{}"[..]));
        let mut back = Vec::new();
        crate::Decompressed::open(&packed[..])
            .unwrap()
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == text);
        assert!(compress_file(&path, b"{}").is_err());
    }
}
