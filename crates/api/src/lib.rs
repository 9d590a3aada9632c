//! What is on the wire between a client and the engine: types per noun, framing, and the client itself.
//!
//! Field names, order and which of `null`, `[]`, `{}`, `""` or nothing stands for "empty" are Docker's (Engine API
//! 1.24 to 1.50), because clients notice each of them.

pub mod client;
pub mod container;
pub mod delta;
pub mod event;
pub mod exec;
pub mod host_config;
pub mod image;
pub mod json;
pub mod manifest;
pub mod moment;
pub mod network;
pub mod progress;
pub mod quote;
pub mod stdcopy;
pub mod system;
pub mod time;
pub mod volume;

/// The newest API version that is spoken.
pub const VERSION: (u32, u32) = (1, 50);
/// The oldest API version that is spoken.
pub const MIN_VERSION: (u32, u32) = (1, 24);
/// The engine's version: the Docker release that it is closest to, and our revision; the package's three numbers.
pub const ENGINE_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR"),
    "-rev",
    env!("CARGO_PKG_VERSION_PATCH")
);

/// The body of every error answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, ::json::Serialize, ::json::Deserialize)]
pub struct ErrorBody {
    #[serde(default)]
    pub message: String,
}
