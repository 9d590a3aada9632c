//! Everything that survives power failure, in Docker's own on-disk layout (overlay2, Docker 20.10 to 28).
//!
//! [`Store::open`] gives a struct of parts, one per kind of record. Records are written by [`durable`] alone, in the
//! order of their dependencies: layer, image config, tag; and removed in the opposite order. What is half made or half
//! removed when power fails is not referred to by any record, and [`Store::sweep`] removes it.
#![forbid(unsafe_code)]

mod base;
mod base_tar;
mod changes;
mod checkpoint;
pub mod containers;
pub mod copy;
pub mod decompress;
pub mod distribution;
pub mod durable;
pub mod error;
pub mod fault;
mod filter;
pub mod gzip;
pub mod hash;
mod id;
pub mod images;
pub mod layers;
mod layout;
mod lock;
pub mod mount_points;
mod overlay;
mod own_tar;
mod partial;
mod rebuild;
mod reserve;
pub mod restart;
pub mod rw;
mod spool;
mod staged;
mod sweep;
pub mod tags;
pub mod tree_tar;
pub mod unpack;
pub mod verify;
pub mod view;
pub mod volume_mounts;
pub mod volumes;
mod walk;

pub use base::{BaseFiles, BaseLayer, Elsewhere};
pub use base_tar::{BaseTar, OtherStore};
pub use changes::{Change, ChangeKind};
pub use containers::Containers;
pub use decompress::Decompressed;
pub use distribution::Distribution;
pub use error::{Error, Result};
pub use images::{ImageId, Images};
pub use layers::{ChainId, DiffId, LayerId, LayerInfo, Layers};
pub use layout::{Layout, foreign_driver};
pub use partial::Partial;
pub use rw::{RwLayer, RwLayers};
pub use spool::{Kept, Spooled};
pub use staged::{StagedLayer, UnpackedLayer};
pub use sweep::Swept;
pub use tags::Tags;
pub use verify::Verified;
pub use volumes::{Volume, Volumes};

use std::collections::BTreeMap;
use std::path::Path;

/// A data root that is open, by this daemon alone.
#[derive(Debug)]
pub struct Store {
    pub layers: Layers,
    pub images: Images,
    pub tags: Tags,
    pub distribution: Distribution,
    pub rw: RwLayers,
    pub volumes: Volumes,
    pub containers: Containers,
    layout: Layout,
    was_cut: bool,
    _lock: lock::Lock,
}

impl Store {
    /// Opens a data root, which is made if it is missing, and reads its records. Damaged records are set aside and
    /// logged; they never keep it from opening. A second daemon on the root is refused.
    pub fn open(root: &Path) -> Result<Store> {
        if !root.exists() {
            durable::mkdir_durable(root, 0o710)?;
        }
        let lock = lock::Lock::take(root)?;
        let layout = Layout::new(root);
        layout.create()?;
        let running = layout.running();
        let was_cut = running.exists();
        if !was_cut {
            durable::write_atomic(&running, b"", 0o600)?;
        }
        let layers = Layers::open(&layout)?;
        Ok(Store {
            images: Images::open(&layout, &layers)?,
            tags: Tags::open(layout.repositories())?,
            distribution: Distribution::open(layout.distribution())?,
            rw: RwLayers::open(&layout, &layers)?,
            volumes: Volumes::open(layout.volumes()),
            containers: Containers::open(layout.containers()),
            layers,
            layout,
            was_cut,
            _lock: lock,
        })
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Says if the last daemon on this data root did not end by itself: power failed, or it was killed.
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Notes that this daemon ends by itself.
    pub fn note_clean_stop(&self) -> Result<()> {
        durable::remove_durable(&self.layout.running()).map(drop)
    }

    /// Bytes free for us on the data root's file system.
    pub fn free_space(&self) -> Result<u64> {
        let space = sys::fs::space(self.layout.root());
        error::Doing::doing(space, "ask for the free space of", self.layout.root()).map(|(_, free)| free)
    }

    /// Inodes free on the data root's file system; nothing where they are made as they are needed.
    pub fn free_inodes(&self) -> Result<Option<u64>> {
        let inodes = sys::fs::free_inodes(self.layout.root());
        error::Doing::doing(inodes, "ask for the free inodes of", self.layout.root())
    }

    /// Removes what no record refers to. May run at any time, on any thread; meant for the start, in the background.
    pub fn sweep(&self) -> Swept {
        sweep::sweep(&self.layout, &self.layers, &self.images, &self.rw)
    }

    /// `GraphDriver.Data` of an image's inspect, from its topmost layer.
    pub fn graph_driver_data(&self, top: &ChainId) -> Result<BTreeMap<String, String>> {
        let info = self.layers.info(top).ok_or_else(|| layers::missing(top))?;
        rw::graph_driver_data(&self.layout, &info.cache_id)
    }
}
