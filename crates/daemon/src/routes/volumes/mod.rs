//! Volumes. One file for each route.

pub mod create;
pub mod inspect;
pub mod list;
pub mod prune;
pub mod remove;
