//! Deltas between images, as formats: streams in, streams out. Knows no image and no store.

mod address;
mod apply;
mod code;
mod contents;
mod elf;
mod entry;
mod error;
mod go;
mod header;
mod heads;
mod layer;
mod lz;
pub mod make;
mod moves;
mod number;
mod old;
mod patch;
pub mod rsync;
mod stream;

pub use apply::{Content, Delta, Hint, Hints, Limits, Piece, Pieces, Target};
pub use contents::{Contents, State, Wanted};
pub use error::Error;
pub use header::{BaseLayer, Header, MAGIC};
pub use layer::{Builder, FileId, Layer, pack, unpack};
