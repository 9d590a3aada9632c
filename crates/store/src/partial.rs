//! Layers that were pulled in part: finding one to go on with, and forgetting those that nobody came back for.

use crate::checkpoint::{Checkpoint, Identity};
use crate::error::{Doing, Result};
use crate::layers::{ChainId, Layers};
use crate::layout::Layout;
use crate::overlay;
use crate::restart::Compression;
use crate::spool::Spool;
use crate::sweep::STALE;
use oci::digest::Digest;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Kept at most, the latest ones: one pull leaves one behind.
const KEPT: usize = 4;

/// The right to pull a layer with checkpoints, and what an earlier pull left of it. Others who pull the same layer
/// meanwhile do without.
#[derive(Debug)]
pub struct Partial {
    layers: Layers,
    claim: String,
    pub(crate) directory: PathBuf,
    pub(crate) blob: Digest,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Partial {
    /// The byte of the blob, or of the delta, from which the pull goes on.
    pub fn offset(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.point.input)
    }

    /// What an earlier pull had begun to make the layer of: its blob, or a delta.
    pub fn begun(&self) -> Option<&Digest> {
        self.checkpoint.as_ref().map(|checkpoint| &checkpoint.identity.blob)
    }

    /// Takes it for a blob or a delta; what another one left is removed.
    pub fn of(mut self, blob: &Digest) -> Result<Partial> {
        if self.begun() != Some(blob) {
            self.discard()?;
        }
        self.blob = blob.clone();
        Ok(self)
    }

    /// Removes what an earlier pull left: this one starts at the beginning.
    pub fn discard(&mut self) -> Result<()> {
        match self.checkpoint.take() {
            Some(checkpoint) => remove(self.layers.layout(), &self.directory, Some(&checkpoint.identity)),
            None => Ok(()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.layers.unstage_name(&self.claim);
    }
}

impl Layers {
    /// Says if there may be a part of a layer here already.
    pub fn is_begun(&self, chain: &ChainId) -> bool {
        self.layout().pulls().join(chain.digest().hex()).exists()
    }

    /// Takes up a layer to be pulled from a blob, or from one of several that make the same; nothing if another pull is
    /// at it. `parent` is the layer below it. What was begun with any other blob is removed.
    pub fn partial(&self, parent: Option<&ChainId>, chain: &ChainId, blobs: &[&Digest]) -> Option<Partial> {
        let name = chain.digest().hex();
        let claim = format!("pull-{name}");
        if !self.claim_name(&claim) {
            return None;
        }
        let directory = self.layout().pulls().join(name);
        let mut partial = Partial {
            layers: self.clone(),
            claim,
            checkpoint: Checkpoint::load(&directory),
            directory,
            blob: (*blobs.first()?).clone(),
        };
        let below = parent.map(|parent| self.info(parent).map(|info| info.cache_id));
        let fits = partial.checkpoint.as_ref().is_some_and(|checkpoint| {
            let identity = &checkpoint.identity;
            let record = self.layout().layer_tmp().join(&identity.record);
            blobs.contains(&&identity.blob)
                && match &below {
                    None => identity.parent_cache_id.is_none(),
                    Some(below) => below.is_some() && identity.parent_cache_id == *below,
                }
                && is_record_name(&identity.record)
                && overlay::is_complete(self.layout(), &identity.cache_id)
                && fs::metadata(record.join("tar-split.json.gz"))
                    .is_ok_and(|split| split.len() >= checkpoint.place.split_bytes)
                && (checkpoint.point.compression != Compression::Delta
                    || Spool::kept(&partial.directory) >= Some(checkpoint.point.input))
        });
        if !fits && let Err(error) = partial.discard() {
            log::warn!("left to the sweep: {error}");
        }
        if fits {
            log::info!(
                "layer {} goes on at byte {} of {}",
                chain.digest(),
                partial.offset(),
                partial.begun().unwrap_or(&partial.blob)
            );
        }
        Some(partial)
    }
}

fn is_record_name(name: &str) -> bool {
    name.starts_with("write-set") && !name.contains('/')
}

/// Removes checkpoints first, then what they tell of: there is never one without its files.
pub(crate) fn remove(layout: &Layout, directory: &Path, identity: Option<&Identity>) -> Result<()> {
    remove_all(directory)?;
    if let Some(identity) = identity {
        if crate::id::is_long(&identity.cache_id) {
            overlay::remove(layout, &identity.cache_id)?;
        }
        if is_record_name(&identity.record) {
            remove_all(&layout.layer_tmp().join(&identity.record))?;
        }
    }
    Ok(())
}

fn remove_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.doing("remove", path),
    }
}

/// Forgets what is stale, damaged, too much, or has become a layer; returns the rest. What a damaged checkpoint told
/// of is for the sweep, which calls this.
pub(crate) fn sweep(layout: &Layout, layers: &Layers) -> Result<Vec<Identity>> {
    let (mut found, mut kept) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(layout.pulls()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing("list", layout.pulls())?,
    };
    for entry in entries {
        let path = entry.doing("list", layout.pulls())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let chain = Digest::from_hex(name).ok().map(ChainId::from_digest);
        if layers.is_staged(&format!("pull-{name}")) {
            // A pull is at it, or is just leaving it behind.
            kept.extend(Checkpoint::load(&path).map(|checkpoint| checkpoint.identity));
            continue;
        }
        let is_wanted = chain.is_some_and(|chain| layers.info(&chain).is_none());
        match Checkpoint::load(&path).filter(|_| is_wanted) {
            Some(checkpoint) => found.push((modified(&path), path, checkpoint.identity)),
            None => remove_all(&path)?,
        }
    }
    found.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
    let now = SystemTime::now();
    for (time, path, identity) in found {
        // A time in the future is a clock that was set: not stale.
        let age = now.duration_since(time).unwrap_or_default();
        if kept.len() < KEPT && age < STALE {
            kept.push(identity);
        } else {
            remove(layout, &path, Some(&identity))?;
        }
    }
    Ok(kept)
}

/// When the latest checkpoint was written.
fn modified(directory: &Path) -> SystemTime {
    let times = fs::read_dir(directory).into_iter().flatten().flatten();
    times
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
