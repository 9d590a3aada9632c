//! Reads an archive from a stream, one entry at a time, in one pass.
//!
//! The caller takes an [`Entry`] with [`Reader::next_entry`], then its content with [`Reader::chunk`] and
//! [`Reader::consume`] (no copy) or with `Read`; what it leaves is skipped. Every byte that is not a regular
//! file's content is shown to the [`Tap`] in order, which is what tar-split is made of.

use super::pax::{Records, Sparse};
use super::{
    BLOCK, Entry, Extent, HEADER_LIMIT, Kind, TarError, Time, header, header::Block, header::Dialect, padding, sparse,
};
use std::io::{self, BufRead, BufReader, Read};

/// Sees the bytes of an archive that no unpacked file holds: headers, padding, trailer.
pub trait Tap {
    /// Takes the next bytes. An error ends the reading.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Sees nothing.
impl Tap for () {
    fn raw(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A tar archive being read.
pub struct Reader<R, T = ()> {
    source: R,
    tap: T,
    /// Bytes read so far, for messages.
    at: u64,
    /// Content bytes of the current entry still to come.
    left: u64,
    padding: u64,
    /// The content goes to the tap, too.
    tapped: bool,
    ended: bool,
}

const BUFFER: usize = 64 * 1024;

impl<R: Read> Reader<BufReader<R>> {
    /// Reads a stream through a buffer of 64 KiB.
    pub fn new(source: R) -> Self {
        Reader::with_tap(BufReader::with_capacity(BUFFER, source), ())
    }
}

impl<R: BufRead, T: Tap> Reader<R, T> {
    /// Reads a buffered stream and shows the tap what is not content.
    pub fn with_tap(source: R, tap: T) -> Self {
        Reader {
            source,
            tap,
            at: 0,
            left: 0,
            padding: 0,
            tapped: false,
            ended: false,
        }
    }

    /// The tap, for the caller to tell it what became of an entry's content.
    pub fn tap_mut(&mut self) -> &mut T {
        &mut self.tap
    }

    /// Bytes of the archive read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Shows the rest of the current entry's content to the tap as well: nothing will hold it.
    pub fn tap_content(&mut self) {
        self.tapped = true;
    }

    /// Goes to the next entry, or says that the archive is over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_content()?;
        let (mut records, mut long_name, mut long_link) = (Records::default(), None, None);
        loop {
            let mut block = [0u8; BLOCK];
            let start = self.at;
            if !self.read_block(&mut block)? {
                self.ended = true;
                return Ok(None);
            }
            let refuse = |why| TarError::Header { at: start, why };
            let header = Block(&block);
            match header.type_flag() {
                b'x' => {
                    let bytes = self.read_extension(&header)?;
                    records = Records::parse(&bytes).map_err(refuse)?;
                }
                // Global records change nothing in Docker's or Go's reading of a layer.
                b'g' => drop(self.read_extension(&header)?),
                b'L' => long_name = Some(header::text(&self.read_extension(&header)?).to_vec()),
                b'K' => long_link = Some(header::text(&self.read_extension(&header)?).to_vec()),
                _ => return self.entry(&header, records, long_name, long_link, start).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Block<'_>,
        records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        start: u64,
    ) -> Result<Entry, TarError> {
        let refuse = |why| TarError::Header { at: start, why };
        let flag = header.type_flag();
        let mut entry = Entry::new(Kind::Regular, header.name());
        entry.link = header.link().to_vec();
        entry.user = header.user().to_vec();
        entry.group = header.group().to_vec();
        entry.mode = u32::try_from(header.mode().map_err(refuse)? & 0o7777).unwrap_or(0);
        let owner = |field: Result<i64, _>| {
            field
                .and_then(|n| u32::try_from(n).map_err(|_| "owner number out of range"))
                .map_err(refuse)
        };
        let (uid, gid) = records.owners();
        entry.uid = uid.map_or_else(|| owner(header.uid()), Ok)?;
        entry.gid = gid.map_or_else(|| owner(header.gid()), Ok)?;
        entry.mtime = Time {
            seconds: header.mtime().map_err(refuse)?,
            nanoseconds: 0,
        };
        (entry.atime, entry.ctime) = header.other_times();
        let size = match records.size {
            Some(size) => size,
            None => header
                .size()
                .and_then(|n| u64::try_from(n).map_err(|_| "negative size"))
                .map_err(refuse)?,
        };
        entry.size = size;
        let sparse = records.apply(&mut entry).map_err(refuse)?;
        entry.name = long_name.unwrap_or(entry.name);
        entry.link = long_link.unwrap_or(entry.link);
        entry.kind = header::kind_of(flag, &entry.name);
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            let (major, minor) = header.device().map_err(refuse)?;
            let part = |n| u32::try_from(n).map_err(|_| refuse("device number out of range"));
            (entry.device_major, entry.device_minor) = (part(major)?, part(minor)?);
        }
        let has_content = matches!(entry.kind, Kind::Regular | Kind::Other(_));
        self.left = if has_content { size } else { 0 };
        self.padding = padding(self.left);
        self.tapped = entry.kind != Kind::Regular;
        if !has_content {
            entry.size = 0;
        }
        if entry.kind == Kind::Regular {
            let map = match sparse {
                _ if flag == b'S' && header.dialect() == Dialect::Gnu => {
                    Some(self.old_gnu_map(header, &mut entry, start)?)
                }
                Sparse::Map(map) => Some(map),
                Sparse::InContent => Some(self.map_in_content(start)?),
                Sparse::No => None,
            };
            if let Some(map) = map {
                sparse::check(&map, entry.size, self.left).map_err(refuse)?;
                // What is stored is not what the file will hold, so only the raw bytes can rebuild it.
                self.tapped = true;
                entry.sparse = Some(map);
            }
        }
        entry.stored = self.left;
        Ok(entry)
    }

    fn old_gnu_map(&mut self, header: &Block<'_>, entry: &mut Entry, start: u64) -> Result<Vec<Extent>, TarError> {
        let refuse = |why| TarError::Header { at: start, why };
        let (first, mut more, real_size) = header.gnu_sparse();
        entry.size = real_size
            .and_then(|n| u64::try_from(n).map_err(|_| "negative size"))
            .map_err(refuse)?;
        let mut map = Vec::new();
        sparse::add_gnu(&mut map, first).map_err(refuse)?;
        while more {
            let mut block = [0u8; BLOCK];
            self.read_exact_raw(&mut block, "a sparse map")?;
            sparse::add_gnu(&mut map, &block[..504]).map_err(refuse)?;
            // A block without entries that promises more would let a stream feed us for ever.
            more = block[504] != 0 && block[0] != 0;
        }
        Ok(map)
    }

    fn map_in_content(&mut self, start: u64) -> Result<Vec<Extent>, TarError> {
        let refuse = |why| TarError::Header { at: start, why };
        let mut text = sparse::MapText::default();
        loop {
            if self.left < BLOCK as u64 {
                return Err(refuse("sparse map beyond the content"));
            }
            let mut block = [0u8; BLOCK];
            self.read_exact_raw(&mut block, "a sparse map")?;
            self.left -= BLOCK as u64;
            if text.block(&block).map_err(refuse)? {
                return Ok(text.extents());
            }
        }
    }

    /// Reads a header block; says false where the archive ends, by two zero blocks or by the stream's end.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let start = self.at;
        if !self.read_raw(block, "a header")? {
            return Ok(false);
        }
        if block.iter().all(|&byte| byte == 0) {
            if !self.read_raw(block, "a header")? || block.iter().all(|&byte| byte == 0) {
                return Ok(false);
            }
            return Err(TarError::Header {
                at: start,
                why: "a single zero block",
            });
        }
        if !Block(block).checksum_holds() {
            return Err(TarError::Header {
                at: start,
                why: "wrong checksum",
            });
        }
        Ok(true)
    }

    /// Reads the content of a header that extends the next one.
    fn read_extension(&mut self, header: &Block<'_>) -> Result<Vec<u8>, TarError> {
        let at = self.at;
        let size = header
            .size()
            .ok()
            .and_then(|size| u64::try_from(size).ok())
            .filter(|&size| size <= HEADER_LIMIT);
        let size = size.ok_or(TarError::Header {
            at,
            why: "extended header too large",
        })?;
        let padded = usize::try_from(size + padding(size)).map_err(|_| TarError::Header { at, why: "too large" })?;
        // Grows with what really arrives, not with what the header claims.
        let mut bytes = Vec::new();
        while bytes.len() < padded {
            let old = bytes.len();
            bytes.resize(padded.min(old + 16 * BLOCK), 0);
            self.read_exact_raw(&mut bytes[old..], "an extended header")?;
        }
        bytes.truncate(usize::try_from(size).unwrap_or(padded));
        Ok(bytes)
    }

    fn read_exact_raw(&mut self, into: &mut [u8], what: &'static str) -> Result<(), TarError> {
        match self.read_raw(into, what)? {
            true => Ok(()),
            false => Err(TarError::Truncated { at: self.at, what }),
        }
    }

    /// Fills `into` and shows it to the tap; says false if the stream is at its end already.
    fn read_raw(&mut self, into: &mut [u8], what: &'static str) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < into.len() {
            let chunk = fill(&mut self.source)?;
            if chunk.is_empty() {
                if filled == 0 {
                    return Ok(false);
                }
                return Err(TarError::Truncated { at: self.at, what });
            }
            let n = chunk.len().min(into.len() - filled);
            into[filled..filled + n].copy_from_slice(&chunk[..n]);
            self.source.consume(n);
            self.at += n as u64;
            filled += n;
        }
        self.tap.raw(into)?;
        Ok(true)
    }

    /// The next bytes of the current entry's content as they lie in the buffer; none at its end.
    pub fn chunk(&mut self) -> Result<&[u8], TarError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let chunk = fill(&mut self.source)?;
        if chunk.is_empty() {
            return Err(TarError::Truncated {
                at: self.at,
                what: "a file",
            });
        }
        Ok(&chunk[..clamp(chunk.len(), self.left)])
    }

    /// Takes `n` bytes of the last [`Reader::chunk`] as read.
    pub fn consume(&mut self, n: usize) -> Result<(), TarError> {
        debug_assert!(n as u64 <= self.left);
        if self.tapped {
            // The bytes are still in the buffer: `fill_buf` gives them again without reading.
            let chunk = fill(&mut self.source)?;
            self.tap.raw(&chunk[..n])?;
        }
        self.source.consume(n);
        self.at += n as u64;
        self.left -= n as u64;
        Ok(())
    }

    /// Passes what is left of the current entry's content, but not the padding behind it.
    pub fn skip_rest(&mut self) -> Result<(), TarError> {
        loop {
            let n = self.chunk()?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n)?;
        }
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        self.skip_rest()?;
        let mut zeros = [0u8; BLOCK];
        let pad = clamp(BLOCK, self.padding);
        self.padding = 0;
        // Some writers leave out the padding of the last file, and Go accepts that.
        if pad > 0 && !self.read_raw(&mut zeros[..pad], "padding")? {
            self.ended = true;
        }
        Ok(())
    }

    /// Reads whatever follows the archive to the stream's end; gives back stream and tap, and the bytes read in all.
    pub fn finish(mut self) -> Result<(R, T, u64), TarError> {
        loop {
            let chunk = fill(&mut self.source)?;
            let n = chunk.len();
            if n == 0 {
                return Ok((self.source, self.tap, self.at));
            }
            self.tap.raw(chunk)?;
            self.source.consume(n);
            self.at += n as u64;
        }
    }
}

/// Reads the content of the current entry as it is stored.
impl<R: BufRead, T: Tap> Read for Reader<R, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.chunk()?;
        let n = chunk.len().min(into.len());
        into[..n].copy_from_slice(&chunk[..n]);
        self.consume(n)?;
        Ok(n)
    }
}

/// `fill_buf`, again after an interrupt.
fn fill<R: BufRead>(source: &mut R) -> io::Result<&[u8]> {
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    source.fill_buf()
}

fn clamp(length: usize, limit: u64) -> usize {
    usize::try_from(limit).map_or(length, |limit| length.min(limit))
}
