//! Plugins, of which there are none. One file for each route.

pub mod list;
