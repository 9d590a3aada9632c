//! Further processes in containers. One file for each route.

pub mod create;
pub mod inspect;
pub mod resize;
pub mod start;

pub use super::streams::{size_of, stream_kind};
