//! The table of targets.

mod archive;
mod auth;
mod blob_index;
mod bolt;
mod delta;
mod documents;
mod json;
mod logs;
mod reference;
mod rsync;
mod split;
mod tar;
mod unpack;

use std::path::Path;

/// A door.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Good inputs to begin with, made by code.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const ALL: &[Target] = &[
    tar::TARGET,
    unpack::TARGET,
    split::TARGET,
    documents::MANIFEST,
    documents::CONFIG,
    json::TARGET,
    reference::TARGET,
    auth::TARGET,
    archive::TARGET,
    bolt::TARGET,
    blob_index::TARGET,
    logs::FILES,
    logs::JOURNAL,
    delta::TARGET,
    rsync::TARGET,
];

/// Writes `DIRECTORY/TARGET/NUMBER` for each seed.
pub fn write_seeds(directory: &Path) {
    for target in ALL {
        let place = directory.join(target.name);
        std::fs::create_dir_all(&place).expect("make a directory for seeds");
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(place.join(format!("seed-{number}")), seed).expect("write a seed");
        }
    }
}

/// Bytes that do not repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}
