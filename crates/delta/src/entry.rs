//! How an entry of the target is described: its shape, one byte, and where its content comes from.

use crate::error::Error;
use crate::layer::{FileId, Layer};
use std::sync::Arc;

/// Where the block is that an entry's header is predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadBase {
    None,
    /// The entry of the base after the one named last.
    Next,
    Named,
}

/// What stands before an entry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// The padding and one header block.
    Plain,
    /// Bytes as they are.
    Odd,
    /// The padding, blocks as they are, and one header block.
    Extended,
    /// The padding, the base's blocks but the last, and one header block.
    SameExtension,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// The content of the entry that the header is predicted from.
    SameAsHead,
    SameAsBase,
    SameAsTarget,
    Text,
    Binary,
    /// Copies from the file of the header's prediction, corrected, and new bytes.
    PatchedHead,
    PatchedBase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub base: HeadBase,
    pub raw: Raw,
    pub body: Body,
}

/// In the place of a shape: raw bytes that belong to no entry yet.
pub(crate) const PIECE: u8 = 0xff;
/// In the place of the last shape: padding and zeros end the tar.
pub(crate) const ZEROS: u8 = 0;
/// In the place of the last shape: bytes as they are end the tar.
pub(crate) const TAIL: u8 = 1;
/// Most bytes of one piece of raw bytes.
pub(crate) const RAW_LIMIT: usize = 64 * 1024;

impl Shape {
    pub fn byte(self) -> u8 {
        self.base as u8 | (self.raw as u8) << 2 | (self.body as u8) << 4
    }

    pub fn from_byte(byte: u8) -> Result<Shape, Error> {
        let base = match byte & 3 {
            0 => HeadBase::None,
            1 => HeadBase::Next,
            2 => HeadBase::Named,
            _ => return Err(Error::Format("an entry has an unknown shape")),
        };
        let raw = match byte >> 2 & 3 {
            0 => Raw::Plain,
            1 => Raw::Odd,
            2 => Raw::Extended,
            _ => Raw::SameExtension,
        };
        let body = match byte >> 4 {
            0 => Body::None,
            1 => Body::SameAsHead,
            2 => Body::SameAsBase,
            3 => Body::SameAsTarget,
            4 => Body::Text,
            5 => Body::Binary,
            6 => Body::PatchedHead,
            7 => Body::PatchedBase,
            _ => return Err(Error::Format("an entry has an unknown shape")),
        };
        if base == HeadBase::None && matches!(body, Body::SameAsHead | Body::PatchedHead) {
            return Err(Error::Format("an entry refers to a base it does not have"));
        }
        Ok(Shape { base, raw, body })
    }
}

/// The base's layers, with their entries counted through from the lowest.
pub(crate) struct Base {
    layers: Vec<Arc<Layer>>,
    /// Entries before each layer, and of all.
    starts: Vec<i64>,
}

impl Base {
    pub fn new(layers: Vec<Arc<Layer>>) -> Base {
        let mut starts = vec![0];
        for layer in &layers {
            starts.push(starts[starts.len() - 1] + i64::from(layer.entries()));
        }
        Base { layers, starts }
    }

    pub fn layer(&self, file: FileId) -> &Layer {
        &self.layers[file.layer as usize]
    }

    pub fn file(&self, number: i64) -> Result<FileId, Error> {
        let layer = self.starts.partition_point(|&start| start <= number);
        if number < 0 || layer > self.layers.len() {
            return Err(Error::Format("an entry of the base does not exist"));
        }
        let entry = u32::try_from(number - self.starts[layer - 1]);
        Ok(FileId {
            layer: (layer - 1) as u32,
            entry: entry.map_err(|_| Error::Format("an entry of the base does not exist"))?,
        })
    }

    pub fn number(&self, file: FileId) -> i64 {
        self.starts[file.layer as usize] + i64::from(file.entry)
    }

    pub fn size(&self, file: FileId) -> u64 {
        self.layer(file).size(file.entry)
    }

    pub fn blocks<'a>(&self, file: FileId, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        self.layer(file).blocks(file.entry, buffer)
    }
}
