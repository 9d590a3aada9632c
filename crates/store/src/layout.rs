//! Where everything lies under the data root: Docker's overlay2 layout, with its modes.

use crate::durable;
use crate::error::Result;
use crate::layers::ChainId;
use oci::digest::Digest;
use std::path::{Path, PathBuf};

/// The storage driver whose images a data root holds while it has none in `overlay2`: such a root cannot be taken over.
///
/// Docker keeps the images of each driver apart (`image/<driver>`), those of its containerd image store in containerd's
/// own directory (`containerd/daemon/io.containerd.snapshotter.v1.<driver>`, where it runs containerd itself).
/// Touches nothing; what cannot be read counts as absent.
pub fn foreign_driver(root: &Path) -> Option<String> {
    let full = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let layout = Layout::new(root);
    if full(&layout.image_contents()) {
        return None;
    }
    let names = |directory: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let images = root.join("image");
    let graph_drivers = names(&images)
        .into_iter()
        .filter(|driver| driver != "overlay2" && full(&images.join(driver).join("imagedb/content/sha256")));
    let containerd = root.join("containerd/daemon");
    let snapshotters = names(&containerd).into_iter().filter_map(|plugin| {
        let name = plugin.strip_prefix("io.containerd.snapshotter.v1.")?;
        full(&containerd.join(&plugin).join("snapshots")).then(|| format!("containerd ({name})"))
    });
    graph_drivers.chain(snapshotters).min()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_of_another_driver_is_known() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(root.path().join(path)).unwrap();
        assert_eq!(foreign_driver(&root.path().join("missing")), None);
        make("image/aufs/imagedb/content/sha256");
        make("containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots");
        make("containerd/daemon/io.containerd.content.v1.content/x");
        assert_eq!(foreign_driver(root.path()), None);
        make("containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/1");
        assert_eq!(foreign_driver(root.path()).as_deref(), Some("containerd (overlayfs)"));
        make("image/aufs/imagedb/content/sha256/00");
        assert_eq!(foreign_driver(root.path()).as_deref(), Some("aufs"));
        make("image/overlay2/imagedb/content/sha256/00");
        assert_eq!(foreign_driver(root.path()), None);
    }
}
