//! A layer's tar out of itself: its tar-split and those of its files that are whole, the others from elsewhere. What is
//! unpacked from it is the layer once more, of which most files are links to those that are there.
//!
//! Nothing here is checked: the tar's sha256 is the layer's diff ID, or one of its files is not what it was thought to be.

use crate::error::Result;
use crate::rebuild::Lines;
use crate::unpack::{Reuse, Shared};
use crate::{BaseFiles, BaseLayer, Elsewhere, StagedLayer, UnpackedLayer, durable};
use delta::{Contents, FileId, State, Wanted};
use oci::tar_split::{self, AssembleError, Piece};
use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

/// The file of which the content comes next, for who unpacks the tar: its name there, and its CRC-64.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    pub name: Vec<u8>,
    pub file: FileId,
    pub crc: u64,
}

/// Shared with who unpacks. The tar is never ahead of them by more than an entry's headers.
pub(crate) type Told = Rc<RefCell<Option<Next>>>;

/// The tar as a stream.
struct OwnTar {
    lines: tar_split::Lines<Lines>,
    files: Shared,
    told: Told,
    /// Raw bytes that are being given out, and how many were.
    raw: (Vec<u8>, usize),
    /// What comes after them, which is looked at before their last byte is given: it tells what they are the headers of.
    then: Option<Content>,
    /// Entries so far, as the layer counts them, and bytes of the tar before `then`.
    entries: u32,
    at: u64,
    ended: bool,
}

/// Content that is being given out.
struct Content {
    file: FileId,
    size: u64,
    done: u64,
    elsewhere: bool,
}

impl OwnTar {
    fn new(lines: Lines, files: Shared) -> OwnTar {
        OwnTar {
            lines: tar_split::Lines::new(lines),
            files,
            told: Told::default(),
            raw: (Vec::new(), 0),
            then: None,
            entries: 0,
            at: 0,
            ended: false,
        }
    }

    /// Gathers raw bytes up to the next content, or to the end.
    fn next(&mut self) -> io::Result<()> {
        let (raw, given) = &mut self.raw;
        raw.clear();
        *given = 0;
        self.told.borrow_mut().take();
        loop {
            let piece = match self.lines.next_piece() {
                Err(AssembleError::Read { source, .. }) => return Err(source),
                Err(other) => return Err(io::Error::new(io::ErrorKind::InvalidData, other.to_string())),
                Ok(piece) => piece,
            };
            match piece {
                None => {
                    self.ended = true;
                    return Ok(());
                }
                Some(Piece::Raw(bytes)) => {
                    self.at += bytes.len() as u64;
                    raw.extend_from_slice(&bytes);
                    // Mostly there is one between two files; a layer of links and directories may be large.
                    if raw.len() > RAW {
                        return Ok(());
                    }
                }
                Some(Piece::File { size: 0, .. }) => self.entries += 1,
                Some(Piece::File { name, size, crc }) => {
                    let file = FileId {
                        layer: 0,
                        entry: self.entries,
                    };
                    self.entries += 1;
                    return self.begin(file, name, size, &crc);
                }
            }
        }
    }

    fn begin(&mut self, file: FileId, name: Vec<u8>, size: u64, crc: &[u8]) -> io::Result<()> {
        let elsewhere = self.files.state(file) != State::Whole;
        if elsewhere {
            self.files.begin_elsewhere(&Wanted {
                instead_of: file,
                name: &name,
                at: self.at,
                size,
                done: 0,
            })?;
        } else if let Ok(crc) = crc.try_into() {
            let crc = u64::from_be_bytes(crc);
            *self.told.borrow_mut() = Some(Next { name, file, crc });
        }
        self.at += size;
        self.then = Some(Content {
            file,
            size,
            done: 0,
            elsewhere,
        });
        Ok(())
    }
}

/// Raw bytes that are gathered.
const RAW: usize = 64 << 10;

impl Read for OwnTar {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let (raw, given) = &mut self.raw;
            if *given < raw.len() {
                let n = into.len().min(raw.len() - *given);
                into[..n].copy_from_slice(&raw[*given..*given + n]);
                *given += n;
                return Ok(n);
            }
            let Some(content) = self.then.as_mut().filter(|content| content.done < content.size) else {
                if self.ended || into.is_empty() {
                    return Ok(0);
                }
                self.then = None;
                self.next()?;
                continue;
            };
            let left = content.size - content.done;
            let n = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
            match content.elsewhere {
                true => self.files.read_elsewhere(&mut into[..n])?,
                false => self.files.read_base(content.file, content.done, &mut into[..n])?,
            }
            content.done += n as u64;
            return Ok(n);
        }
    }
}

impl StagedLayer {
    /// Unpacks a layer that is there once more, out of itself: what is whole becomes a link, but for files that are known
    /// to have changed, and those that are missing, which come from elsewhere. As [`StagedLayer::unpack`]; the result is
    /// to be compared with the layer's diff ID.
    pub fn unpack_again(
        self,
        layer: BaseLayer,
        elsewhere: Box<dyn Elsewhere>,
        changed: &[FileId],
    ) -> Result<UnpackedLayer> {
        let root = durable::open_directory(&self.diff())?;
        let (_, lines) = self.layers().tar_split(layer.id().chain_id())?;
        let files = Shared::new(BaseFiles::new(vec![layer]).or_from(elsewhere, changed), root);
        let mut tar = OwnTar::new(lines, files.clone());
        let reuse = Reuse::of_itself(tar.told.clone(), files);
        self.unpack_linking(&mut tar, reuse)
    }
}
