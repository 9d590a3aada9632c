//! What can be wrong with a delta or with the base it is applied to.

use std::io;

/// Says why a delta could not be made, read or applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The delta itself could not be read, or the result not written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The delta's bytes are not what the format allows: damaged, truncated or hostile.
    #[error("read delta: {0}")]
    Format(&'static str),
    /// The delta is of a kind or version that this reader does not know.
    #[error("read delta: unknown {0}")]
    Unknown(&'static str),
    /// The delta asks for more than the reader's limits allow.
    #[error("read delta: {what} exceeds the limit of {limit}")]
    Limit { what: &'static str, limit: u64 },
    /// The base is not the one the delta was made from.
    #[error("apply delta: base does not match: {0}")]
    WrongBase(&'static str),
    /// A file of the base could not be read, or has changed: its layer from the bottom, its entry in the layer.
    #[error("apply delta: read entry {entry} of base layer {layer}: {source}")]
    BaseFile { layer: u32, entry: u32, source: io::Error },
    /// All was applied and the result is not the target.
    #[error("apply delta: the result's digest differs from the target's")]
    WrongResult,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
