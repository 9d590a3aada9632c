//! The formats of the Open Container Initiative and of Docker: names, digests, manifests, configs, layer tars.
//!
//! Everything here is pure: bytes in, values out. It opens no file and knows no store.

pub mod base64;
pub mod blob_index;
pub mod bolt;
pub mod config;
pub mod delta;
pub mod digest;
pub mod json;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod runtime;
pub mod tar;
pub mod tar_split;
