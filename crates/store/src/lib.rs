//! Everything that survives power failure, in Docker's own on-disk layout.

pub mod durable;
pub mod error;
pub mod hash;
mod id;
pub mod layers;
mod layout;
mod lock;
mod overlay;
mod staged;
pub mod unpack;

pub use error::{Error, Result};
pub use layers::{ChainId, DiffId, LayerId, LayerInfo, Layers};
pub use layout::Layout;
pub use staged::{StagedLayer, UnpackedLayer};
