//! Containers. One file for each route.

pub mod archive;
pub mod attach;
pub mod changes;
pub mod create;
pub mod export;
pub mod inspect;
pub mod kill;
pub mod list;
pub mod logs;
pub mod pause;
pub mod prune;
pub mod remove;
pub mod rename;
pub mod resize;
pub mod restart;
pub mod start;
pub mod stop;
pub mod top;
pub mod unpause;
pub mod update;
pub mod wait;

pub use super::streams::{size_of, stream_kind};
