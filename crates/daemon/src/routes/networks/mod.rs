//! Networks. One file for each route.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod list;
pub mod prune;
pub mod remove;
