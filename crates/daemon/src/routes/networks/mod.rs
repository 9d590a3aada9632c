//! Networks. One file for each route.

pub mod inspect;
pub mod list;
pub mod prune;
