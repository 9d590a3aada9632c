//! Where everything lies under the data root: Docker's overlay2 layout, with its modes.

use crate::durable;
use crate::error::Result;
use crate::layers::ChainId;
use oci::digest::Digest;
use std::path::{Path, PathBuf};

/// The paths of a data root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Names the paths under a root; touches nothing.
    pub fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    /// Makes the directories that are missing.
    pub fn create(&self) -> Result<()> {
        let image = self.image();
        let directories: &[(PathBuf, u32)] = &[
            (self.containers(), 0o710),
            (self.root.join("image"), 0o700),
            (image.clone(), 0o700),
            (image.join("distribution"), 0o700),
            (image.join("imagedb"), 0o700),
            (image.join("imagedb/content"), 0o700),
            (self.image_contents(), 0o700),
            (image.join("imagedb/metadata"), 0o700),
            (self.image_metadata_root(), 0o700),
            (image.join("layerdb"), 0o700),
            (self.mounts(), 0o755),
            (self.layer_records(), 0o755),
            (self.layer_tmp(), 0o755),
            (self.overlay(), 0o710),
            (self.links(), 0o700),
            (self.volumes(), 0o701),
        ];
        for (path, mode) in directories {
            durable::mkdir_durable(path, *mode)?;
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn image(&self) -> PathBuf {
        self.root.join("image/overlay2")
    }

    pub fn repositories(&self) -> PathBuf {
        self.image().join("repositories.json")
    }

    pub fn distribution(&self) -> PathBuf {
        self.image().join("distribution")
    }

    pub fn image_contents(&self) -> PathBuf {
        self.image().join("imagedb/content/sha256")
    }

    pub fn image_content(&self, id: &Digest) -> PathBuf {
        self.image_contents().join(id.hex())
    }

    fn image_metadata_root(&self) -> PathBuf {
        self.image().join("imagedb/metadata/sha256")
    }

    pub fn image_metadata(&self, id: &Digest) -> PathBuf {
        self.image_metadata_root().join(id.hex())
    }

    pub fn layer_records(&self) -> PathBuf {
        self.image().join("layerdb/sha256")
    }

    pub fn layer_record(&self, chain: &ChainId) -> PathBuf {
        self.layer_records().join(chain.digest().hex())
    }

    pub fn layer_tmp(&self) -> PathBuf {
        self.image().join("layerdb/tmp")
    }

    /// Ours: checkpoints of pulls, a directory for each layer on its way. Docker does not look here.
    pub fn pulls(&self) -> PathBuf {
        self.root.join("balena-pulls")
    }

    /// Ours: there while a daemon runs, and after one that did not end by itself.
    pub fn running(&self) -> PathBuf {
        self.root.join(".balena-running")
    }

    /// Ours: an empty file for each layer that was found damaged.
    pub fn damaged(&self) -> PathBuf {
        self.root.join("balena-damaged")
    }

    pub fn mounts(&self) -> PathBuf {
        self.image().join("layerdb/mounts")
    }

    pub fn mount(&self, container: &str) -> PathBuf {
        self.mounts().join(container)
    }

    pub fn overlay(&self) -> PathBuf {
        self.root.join("overlay2")
    }

    /// The directory of a layer, named by its cache ID or mount ID.
    pub fn overlay_layer(&self, id: &str) -> PathBuf {
        self.overlay().join(id)
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("overlay2/l")
    }

    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
}
