//! Images. One file for each route.

pub mod create;
pub mod history;
pub mod inspect;
pub mod list;
pub mod prune;
pub mod remove;
pub mod tag;
pub mod verify;

pub use super::late::Late;
