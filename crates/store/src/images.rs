//! Images: their configs by their own digest, and Docker's few notes about each.
//!
//! `imagedb/content/sha256/<id>` is the config, byte for byte, and `<id>` its sha256. An image is put after its
//! layers are, and removed before they are, so a config that is there has its layers, or is not served.

use crate::error::{Doing, Error, Result};
use crate::layers::{ChainId, LayerId, Layers};
use crate::layout::Layout;
use crate::{durable, hash};
use oci::config::ImageConfig;
use oci::digest::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

/// Beside Docker's own notes: the digest of a manifest, a line feed, the manifest.
const MANIFEST: &str = "balena-manifest";

/// An image's ID: the sha256 of its config.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, json::Serialize, json::Deserialize)]
pub struct ImageId(pub Digest);

impl std::fmt::Display for ImageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The images of a data root.
#[derive(Debug)]
pub struct Images {
    layout: Layout,
    layers: Layers,
    /// Each image's topmost layer.
    index: Mutex<BTreeMap<ImageId, Option<ChainId>>>,
    /// One config is written or removed at a time, so that index and files agree.
    writing: Mutex<()>,
}

impl Images {
    /// Reads and verifies all configs. A damaged one is set aside; one whose layers are absent is not served.
    pub(crate) fn open(layout: &Layout, layers: &Layers) -> Result<Images> {
        let mut index = BTreeMap::new();
        let contents = layout.image_contents();
        for entry in fs::read_dir(&contents).doing("list", &contents)? {
            let path = entry.doing("list", &contents)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(digest) = Digest::from_hex(name) else { continue };
            let top = match fs::read(&path).doing("read", &path) {
                Ok(bytes) => verify(&digest, &bytes).and_then(top_layer),
                Err(error) => {
                    log::error!("image {digest} is not served: {error}");
                    continue;
                }
            };
            match top {
                Ok(Some(top)) if layers.info(&top).is_none() => {
                    log::error!("image {digest} is not served: layer does not exist: {}", top.digest());
                }
                Ok(top) => {
                    if let Some(top) = &top {
                        layers.add_image(top);
                    }
                    index.insert(ImageId(digest), top);
                }
                Err(error) => durable::set_aside(&path, &error),
            }
        }
        Ok(Images {
            layout: layout.clone(),
            layers: layers.clone(),
            index: Mutex::new(index),
            writing: Mutex::new(()),
        })
    }

    /// Says if there is no config but those that are served: none that was set aside, or is just being put.
    pub(crate) fn are_all_served(&self) -> Result<bool> {
        let contents = self.layout.image_contents();
        for entry in fs::read_dir(&contents).doing("list", &contents)? {
            let name = entry.doing("list", &contents)?.file_name();
            let name = name.to_string_lossy();
            let served = Digest::from_hex(&name).is_ok_and(|digest| self.index().contains_key(&ImageId(digest)));
            if !served && !name.starts_with(durable::TMP) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn index(&self) -> MutexGuard<'_, BTreeMap<ImageId, Option<ChainId>>> {
        self.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Stores a config, durably, and returns its ID. `top` proves that the layers it names are there.
    pub fn put(&self, config: &[u8], top: Option<&LayerId>) -> Result<ImageId> {
        let id = ImageId(hash::sha256(config));
        let wanted = top_layer(config)?;
        if wanted.as_ref() != top.map(LayerId::chain_id) {
            return Err(Error::Invalid(format!(
                "store image {id}: its layers are not those that are there"
            )));
        }
        let _writing = self.writing();
        if self.index().contains_key(&id) {
            return Ok(id);
        }
        durable::write_atomic(&self.layout.image_content(&id.0), config, 0o600)?;
        if let Some(top) = &wanted {
            self.layers.add_image(top);
        }
        self.index().insert(id.clone(), wanted);
        Ok(id)
    }

    /// An image's config as it was stored, verified.
    pub fn get(&self, id: &ImageId) -> Result<Vec<u8>> {
        let path = self.layout.image_content(&id.0);
        let bytes = if self.index().contains_key(id) {
            durable::read(&path)?
        } else {
            None
        };
        let bytes = bytes.ok_or_else(|| missing(id))?;
        if let Err(error) = verify(&id.0, &bytes) {
            durable::set_aside(&path, &error);
            return Err(error);
        }
        Ok(bytes)
    }

    /// An image's config, parsed.
    pub fn config(&self, id: &ImageId) -> Result<ImageConfig> {
        let bytes = self.get(id)?;
        ImageConfig::parse(&bytes).map_err(|error| Error::Invalid(format!("read config of image {id}: {error}")))
    }

    /// Says if an image is there.
    pub fn exists(&self, id: &ImageId) -> bool {
        self.index().contains_key(id)
    }

    /// An image's topmost layer; none if it has no layers.
    pub fn top_layer(&self, id: &ImageId) -> Result<Option<ChainId>> {
        self.index().get(id).cloned().ok_or_else(|| missing(id))
    }

    /// All images, in order of their IDs.
    pub fn list(&self) -> Vec<ImageId> {
        self.index().keys().cloned().collect()
    }

    /// The images whose ID begins with some hex digits.
    pub fn with_prefix(&self, hex: &str) -> Vec<ImageId> {
        let index = self.index();
        index.keys().filter(|id| id.0.hex().starts_with(hex)).cloned().collect()
    }

    /// Removes an image, then the layers that nobody needs any more; returns those, topmost first.
    pub fn remove(&self, id: &ImageId) -> Result<Vec<ChainId>> {
        let writing = self.writing();
        let top = self.index().remove(id).ok_or_else(|| missing(id))?;
        durable::remove_durable(&self.layout.image_content(&id.0))?;
        let metadata = self.layout.image_metadata(&id.0);
        if metadata.exists() {
            fs::remove_dir_all(&metadata).doing("remove", &metadata)?;
        }
        drop(writing);
        let Some(top) = top else { return Ok(Vec::new()) };
        self.layers.drop_image(&top);
        self.layers.remove_unused(&top)
    }

    /// The image this one was made from on this machine, by commit or build.
    pub fn parent(&self, id: &ImageId) -> Result<Option<ImageId>> {
        Ok(self
            .note(id, "parent")?
            .and_then(|text| Digest::parse(&text).ok())
            .map(ImageId))
    }

    /// Records the image this one was made from.
    pub fn set_parent(&self, id: &ImageId, parent: &ImageId) -> Result<()> {
        let directory = self.metadata(id)?;
        durable::mkdir_durable(&directory, 0o700)?;
        durable::write_atomic(&directory.join("parent"), parent.0.as_str().as_bytes(), 0o600)
    }

    /// The images made from this one.
    pub fn children(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        let mut children = Vec::new();
        for child in self.list() {
            if self.parent(&child)?.as_ref() == Some(id) {
                children.push(child);
            }
        }
        Ok(children)
    }

    /// When the image was last pulled or tagged, as RFC 3339.
    pub fn last_updated(&self, id: &ImageId) -> Result<Option<String>> {
        self.note(id, "lastUpdated")
    }

    /// Records when the image was last pulled or tagged, as RFC 3339 with nanoseconds. A power failure may lose it, as
    /// Docker's writer may: write it before the tag, and it comes to the disk with that.
    pub fn set_last_updated(&self, id: &ImageId, time: &str) -> Result<()> {
        let directory = self.metadata(id)?;
        durable::mkdir(&directory, 0o700)?;
        durable::write_whole(&directory.join("lastUpdated"), time.as_bytes(), 0o600)
    }

    /// Keeps the manifest an image was pulled by, so that a push can give it back byte for byte. Nothing is synced:
    /// losing it costs a digest, not an image.
    pub fn keep_manifest(&self, id: &ImageId, manifest: &[u8]) -> Result<()> {
        let directory = self.metadata(id)?;
        durable::mkdir(&directory, 0o700)?;
        let bytes = [hash::sha256(manifest).as_str().as_bytes(), b"\n", manifest].concat();
        durable::write_cache(&directory.join(MANIFEST), &bytes, 0o600)
    }

    /// The manifest an image was pulled by last, if it was kept and is whole.
    pub fn kept_manifest(&self, id: &ImageId) -> Option<Vec<u8>> {
        let mut bytes = durable::read(&self.layout.image_metadata(&id.0).join(MANIFEST)).ok()??;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let manifest = bytes.split_off(end + 1);
        (hash::sha256(&manifest).as_str().as_bytes() == &bytes[..end]).then_some(manifest)
    }

    fn note(&self, id: &ImageId, name: &str) -> Result<Option<String>> {
        let bytes = durable::read(&self.layout.image_metadata(&id.0).join(name))?;
        Ok(bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(|text| text.trim().to_owned()))
    }

    /// Where what is noted of an image lies; it must be there.
    fn metadata(&self, id: &ImageId) -> Result<PathBuf> {
        match self.exists(id) {
            true => Ok(self.layout.image_metadata(&id.0)),
            false => Err(missing(id)),
        }
    }
}

fn missing(id: &ImageId) -> Error {
    Error::NotFound(format!("No such image: {id}"))
}

fn verify<'a>(id: &Digest, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let got = hash::sha256(bytes);
    if got == *id {
        Ok(bytes)
    } else {
        Err(Error::Invalid(format!(
            "read config of image {id}: its sha256 is {got}"
        )))
    }
}

fn top_layer(config: &[u8]) -> Result<Option<ChainId>> {
    let config = ImageConfig::parse(config).map_err(|error| Error::Invalid(format!("parse image config: {error}")))?;
    Ok(ChainId::of_all(&config.rootfs.diff_ids))
}
