//! Which blobs are known to hold which layers, so that a pull can skip and a push can mount.
//!
//! `distribution/diffid-by-digest/sha256/<blob>` holds a diff ID, `distribution/v2metadata-by-diffid/sha256/<diff>` a
//! JSON list of blobs with their repositories; both as Docker's. It is a cache: losing it costs a transfer, so
//! nothing here is synced, and what cannot be read counts as unknown.

use crate::durable;
use crate::error::Result;
use crate::layers::DiffId;
use json::{Deserialize, Serialize};
use oci::digest::Digest;
use std::path::PathBuf;
use std::sync::Mutex;

/// Blobs remembered for one layer, as many as Docker does.
const LIMIT: usize = 50;

/// A blob that holds a layer, and where it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    #[serde(rename = "Digest")]
    pub digest: Digest,
    /// Canonical: `docker.io/library/busybox`.
    #[serde(rename = "SourceRepository")]
    pub repository: String,
    /// Docker's proof of having had access; empty when pulled.
    #[serde(rename = "HMAC", default)]
    pub hmac: String,
}

/// The cache of a data root.
#[derive(Debug)]
pub struct Distribution {
    root: PathBuf,
    writing: Mutex<()>,
}

impl Distribution {
    pub(crate) fn open(root: PathBuf) -> Result<Distribution> {
        for name in ["diffid-by-digest", "v2metadata-by-diffid"] {
            durable::mkdir(&root.join(name), 0o700)?;
            durable::mkdir(&root.join(name).join("sha256"), 0o700)?;
        }
        Ok(Distribution {
            root,
            writing: Mutex::new(()),
        })
    }

    fn by_digest(&self, blob: &Digest) -> PathBuf {
        self.root.join("diffid-by-digest/sha256").join(blob.hex())
    }

    fn by_diff_id(&self, diff: &DiffId) -> PathBuf {
        self.root.join("v2metadata-by-diffid/sha256").join(diff.0.hex())
    }

    /// The diff ID of the layer that a blob holds, if known.
    pub fn diff_id(&self, blob: &Digest) -> Option<DiffId> {
        let bytes = durable::read(&self.by_digest(blob)).ok()??;
        Digest::parse(std::str::from_utf8(&bytes).ok()?.trim()).ok().map(DiffId)
    }

    /// The blobs known to hold a layer, the latest last.
    pub fn blobs(&self, diff: &DiffId) -> Vec<Blob> {
        let bytes = durable::read(&self.by_diff_id(diff)).ok().flatten();
        bytes
            .and_then(|bytes| json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Remembers that a blob holds a layer.
    pub fn add(&self, diff: &DiffId, blob: Blob) -> Result<()> {
        self.change(diff, |blobs| {
            blobs.retain(|known| known != &blob);
            blobs.push(blob.clone());
            let excess = blobs.len().saturating_sub(LIMIT);
            blobs.drain(..excess);
        })?;
        durable::write_cache(&self.by_digest(&blob.digest), diff.0.as_str().as_bytes(), 0o644)
    }

    /// Forgets a blob that is not where it was.
    pub fn remove(&self, diff: &DiffId, blob: &Blob) -> Result<()> {
        self.change(diff, |blobs| blobs.retain(|known| known != blob))
    }

    fn change(&self, diff: &DiffId, change: impl FnOnce(&mut Vec<Blob>)) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut blobs = self.blobs(diff);
        change(&mut blobs);
        let path = self.by_diff_id(diff);
        let json = json::to_vec(&blobs);
        durable::write_cache(&path, &json, 0o644)
    }
}
