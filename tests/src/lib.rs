//! What black-box tests, figures and the demonstration stand on: a registry, images, daemons, clients.
//!
//! A [`ground`] is a thread with network and mount namespaces of its own, so that tests touch neither each other nor
//! the machine, and what a failed one leaves goes with it. [`Daemon`] is ours or Debian's Docker on a temporary root.

#![forbid(unsafe_code)]

pub mod client;
pub mod compare;
pub mod daemon;
pub mod delta;
pub mod double;
pub mod ground;
pub mod http;
pub mod image;
pub mod journal;
pub mod referrers;
pub mod registry;
pub mod seekable;
pub mod terminal;

pub use client::{Client, Ran};
pub use daemon::{Daemon, Kind};
pub use ground::Ground;
pub use image::{Image, Layer};
pub use registry::Registry;
