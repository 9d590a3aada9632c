//! Image layers: which there are, who needs them, and their coming and going.
//!
//! A layer is its record, `layerdb/sha256/<chain>`, and the directory the record names. The record appears by one
//! rename after everything in it and in the directory is durable, and it goes, durably, before the directory does; so
//! at any moment a record means a whole layer, and what has no record is for the sweep.
//!
//! In memory there is one [`Node`] a layer with its counts; a layer goes when nothing counts any more: no child, no
//! image, no container, nobody holding a [`LayerId`]. The mutex is never held over I/O: who works on a layer's
//! files marks its chain ID as busy, and others wait for that mark.

use crate::error::{Doing, Error, Result};
use crate::fault::{self, Fault};
use crate::layout::Layout;
use crate::partial::Partial;
use crate::staged::StagedLayer;
use crate::{durable, hash, id, overlay};
use oci::digest::Digest;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The sha256 of a layer's uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiffId(pub Digest);

/// Names a layer together with all below it: the diff ID of a base layer, else the sha256 of
/// `<parent's chain ID> <diff ID>`. Source: OCI image spec, "Layer ChainID".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Digest);

impl ChainId {
    /// The chain ID of a layer on its parent.
    pub fn of(parent: Option<&ChainId>, diff: &DiffId) -> ChainId {
        match parent {
            None => ChainId(diff.0.clone()),
            Some(parent) => ChainId(hash::sha256(format!("{} {}", parent.0, diff.0).as_bytes())),
        }
    }

    /// The chain ID of the topmost of an image's layers, base first; none for an image without layers.
    pub fn of_all<'a>(diffs: impl IntoIterator<Item = &'a Digest>) -> Option<ChainId> {
        diffs.into_iter().fold(None, |parent, diff| {
            Some(ChainId::of(parent.as_ref(), &DiffId(diff.clone())))
        })
    }

    /// Takes a digest that is known to be a chain ID, as records carry it.
    pub fn from_digest(digest: Digest) -> ChainId {
        ChainId(digest)
    }

    /// The digest as records carry it.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

/// What a layer's record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    pub parent: Option<ChainId>,
    pub diff_id: DiffId,
    /// Bytes of this layer's own files.
    pub size: u64,
    /// The name of its directory in `overlay2/`.
    pub cache_id: String,
}

/// A layer that is there and stays there: it survives power failure, and is not removed while this is held.
#[derive(Debug)]
pub struct LayerId {
    layers: Layers,
    chain: ChainId,
}

impl LayerId {
    pub fn chain_id(&self) -> &ChainId {
        &self.chain
    }
}

impl Clone for LayerId {
    fn clone(&self) -> LayerId {
        self.layers.count(&self.chain, |node| node.holds += 1);
        LayerId {
            layers: self.layers.clone(),
            chain: self.chain.clone(),
        }
    }
}

impl Drop for LayerId {
    fn drop(&mut self) {
        self.layers.count(&self.chain, |node| node.holds -= 1);
    }
}

struct Node {
    info: LayerInfo,
    children: u32,
    /// Images whose topmost layer this is.
    images: u32,
    /// Containers on it.
    containers: u32,
    holds: u32,
}

#[derive(Default)]
struct State {
    nodes: HashMap<ChainId, Node>,
    busy: HashSet<ChainId>,
    /// Directories in `overlay2/` and `layerdb/tmp` that are being made, with no record yet.
    staged: HashSet<String>,
    /// A record could not be read just now, so nobody may call its directory an orphan.
    uncertain: bool,
}

struct Inner {
    layout: Layout,
    state: Mutex<State>,
    quiet: Condvar,
}

/// The layers of a data root. Cheap to clone.
#[derive(Clone)]
pub struct Layers(Arc<Inner>);

impl std::fmt::Debug for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layers({})", self.0.layout.root().display())
    }
}

impl Layers {
    /// Reads all records. A damaged one is set aside; one whose directory is gone counts as absent.
    pub(crate) fn open(layout: &Layout) -> Result<Layers> {
        let mut state = State::default();
        let records = layout.layer_records();
        for entry in std::fs::read_dir(&records).doing("list", &records)? {
            let path = entry.doing("list", &records)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(digest) = Digest::from_hex(name) else { continue };
            match read_record(&path) {
                Ok(info) if overlay::is_complete(layout, &info.cache_id) => {
                    let node = Node {
                        info,
                        children: 0,
                        images: 0,
                        containers: 0,
                        holds: 0,
                    };
                    state.nodes.insert(ChainId(digest), node);
                }
                Ok(info) => log::error!(
                    "layer {digest} counts as absent: its directory {} is gone",
                    info.cache_id
                ),
                Err(Error::Io { doing, source }) => {
                    log::error!("layer {digest} counts as absent: {doing}: {source}");
                    state.uncertain = true;
                }
                Err(error) => durable::set_aside(&path, &error),
            }
        }
        drop_orphans(&mut state.nodes);
        let parents: Vec<ChainId> = state
            .nodes
            .values()
            .filter_map(|node| node.info.parent.clone())
            .collect();
        for parent in parents {
            if let Some(node) = state.nodes.get_mut(&parent) {
                node.children += 1;
            }
        }
        Ok(Layers(Arc::new(Inner {
            layout: layout.clone(),
            state: Mutex::new(state),
            quiet: Condvar::new(),
        })))
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together, so a poisoned state is still a good one.
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn count(&self, chain: &ChainId, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.state().nodes.get_mut(chain) {
            change(node);
        }
    }

    /// Waits until nobody works on a chain's files, and marks it as worked on.
    fn claim(&self, chain: &ChainId) -> Claim<'_> {
        let mut state = self.state();
        while state.busy.contains(chain) {
            state = self
                .0
                .quiet
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.busy.insert(chain.clone());
        Claim {
            layers: self,
            chain: chain.clone(),
        }
    }

    /// Holds a layer, if it is there with its directory.
    pub fn get(&self, chain: &ChainId) -> Option<LayerId> {
        let cache_id = self.state().nodes.get(chain).map(|node| node.info.cache_id.clone())?;
        if !overlay::is_complete(&self.0.layout, &cache_id) {
            log::error!(
                "layer {} counts as absent: its directory {cache_id} is gone",
                chain.digest()
            );
            return None;
        }
        let mut state = self.state();
        state.nodes.get_mut(chain)?.holds += 1;
        Some(LayerId {
            layers: self.clone(),
            chain: chain.clone(),
        })
    }

    /// Says if a layer is there with its directory.
    pub fn exists(&self, chain: &ChainId) -> bool {
        self.get(chain).is_some()
    }

    /// What a layer's record says.
    pub fn info(&self, chain: &ChainId) -> Option<LayerInfo> {
        self.state().nodes.get(chain).map(|node| node.info.clone())
    }

    /// A layer and those below it, topmost first.
    pub fn chain(&self, top: &ChainId) -> Vec<(ChainId, LayerInfo)> {
        let state = self.state();
        let mut chain = Vec::new();
        let mut next = Some(top.clone());
        while let Some((id, node)) = next.and_then(|id| state.nodes.get(&id).map(|node| (id, node))) {
            next = node.info.parent.clone();
            chain.push((id, node.info.clone()));
        }
        chain
    }

    /// Bytes of a layer and all below it.
    pub fn chain_size(&self, top: &ChainId) -> u64 {
        self.chain(top).iter().map(|(_, info)| info.size).sum()
    }

    /// All layers.
    pub fn list(&self) -> Vec<(ChainId, LayerInfo)> {
        let state = self.state();
        let mut layers: Vec<_> = state
            .nodes
            .iter()
            .map(|(chain, node)| (chain.clone(), node.info.clone()))
            .collect();
        layers.sort_by(|a, b| a.0.cmp(&b.0));
        layers
    }

    /// How many images and containers stand on exactly this layer or on one above it; for `system df`.
    pub fn is_used(&self, chain: &ChainId) -> bool {
        let state = self.state();
        state
            .nodes
            .get(chain)
            .is_some_and(|node| node.images + node.containers + node.children > 0)
    }

    /// The directory of a layer's own files.
    pub fn diff_path(&self, chain: &ChainId) -> Result<PathBuf> {
        let info = self.info(chain).ok_or_else(|| missing(chain))?;
        Ok(self.0.layout.overlay_layer(&info.cache_id).join("diff"))
    }

    /// Opens one of a layer's own files for reading; nothing if there is none of that name.
    pub fn open_file(&self, layer: &LayerId, name: &str) -> Result<Option<std::fs::File>> {
        crate::staged::open_in(&self.diff_path(layer.chain_id())?, name)
    }

    /// Makes the directory of a new layer on a parent, for it to be unpacked into.
    pub fn stage(&self, parent: Option<&ChainId>) -> Result<StagedLayer> {
        let parent = parent
            .map(|chain| self.get(chain).ok_or_else(|| missing(chain)))
            .transpose()?;
        StagedLayer::create(self, parent, None)
    }

    /// The same for a layer that is pulled: what an earlier pull left is gone on with.
    pub fn stage_pull(&self, parent: Option<&ChainId>, partial: Option<Partial>) -> Result<StagedLayer> {
        let parent = parent
            .map(|chain| self.get(chain).ok_or_else(|| missing(chain)))
            .transpose()?;
        StagedLayer::create(self, parent, partial)
    }

    /// Says that a record could not be read, so that no directory may be called an orphan.
    pub(crate) fn be_uncertain(&self) {
        self.state().uncertain = true;
    }

    pub(crate) fn stage_name(&self, name: &str) {
        self.state().staged.insert(name.to_owned());
    }

    /// Stages a name, if nobody has.
    pub(crate) fn claim_name(&self, name: &str) -> bool {
        self.state().staged.insert(name.to_owned())
    }

    pub(crate) fn unstage_name(&self, name: &str) {
        self.state().staged.remove(name);
    }

    pub(crate) fn is_staged(&self, name: &str) -> bool {
        self.state().staged.contains(name)
    }

    /// The directories that records name, unless a record could not be read.
    pub(crate) fn cache_ids(&self) -> Option<HashSet<String>> {
        let state = self.state();
        let ids = state.nodes.values().map(|node| node.info.cache_id.clone());
        (!state.uncertain).then(|| ids.collect())
    }

    /// Turns a durable directory and its durable record, still under a temporary name, into a layer. Says false
    /// with it if that layer came to be meanwhile; then both are left to the caller.
    pub(crate) fn adopt(&self, parent: Option<&LayerId>, info: LayerInfo, record: &Path) -> Result<(LayerId, bool)> {
        let chain = ChainId::of(parent.map(LayerId::chain_id), &info.diff_id);
        let claim = self.claim(&chain);
        if let Some(existing) = self.get(&chain) {
            return Ok((existing, false));
        }
        let path = self.0.layout.layer_record(&chain);
        // A record here is one whose directory is gone; renaming over a directory that is not empty fails.
        durable::remove_tree_durable(&path)?;
        durable::rename(record, &path)?;
        if fault::is(Fault::RecordFirst) {
            durable::sync_file_system(self.0.layout.root())?;
        }
        let mut state = self.state();
        match state.nodes.get_mut(&chain) {
            // Known all along, its directory lost while we ran: everybody who counts on it is served again.
            Some(node) => {
                node.info = info;
                node.holds += 1;
            }
            None => {
                state.nodes.insert(
                    chain.clone(),
                    Node {
                        info,
                        children: 0,
                        images: 0,
                        containers: 0,
                        holds: 1,
                    },
                );
                if let Some(below) = parent.and_then(|parent| state.nodes.get_mut(parent.chain_id())) {
                    below.children += 1;
                }
            }
        }
        drop(state);
        drop(claim);
        Ok((
            LayerId {
                layers: self.clone(),
                chain,
            },
            true,
        ))
    }

    pub(crate) fn add_image(&self, top: &ChainId) {
        self.count(top, |node| node.images += 1);
    }

    pub(crate) fn drop_image(&self, top: &ChainId) {
        self.count(top, |node| node.images = node.images.saturating_sub(1));
    }

    pub(crate) fn add_container(&self, top: &ChainId) {
        self.count(top, |node| node.containers += 1);
    }

    pub(crate) fn drop_container(&self, top: &ChainId) {
        self.count(top, |node| node.containers = node.containers.saturating_sub(1));
    }

    /// Removes a layer that nobody needs, then those below it that were needed only by it. Returns what went,
    /// topmost first; nothing if the layer is needed or not there.
    pub fn remove_unused(&self, top: &ChainId) -> Result<Vec<ChainId>> {
        let mut gone = Vec::new();
        let mut next = Some(top.clone());
        while let Some(chain) = next {
            let claim = self.claim(&chain);
            let info = {
                let mut state = self.state();
                match state.nodes.get(&chain) {
                    Some(node) if node.children + node.images + node.containers + node.holds == 0 => {}
                    _ => break,
                }
                state.nodes.remove(&chain).map(|node| node.info)
            };
            let Some(info) = info else { break };
            self.stage_name(&info.cache_id);
            if fault::is(Fault::FilesFirst) {
                overlay::remove_slowly(&self.0.layout, &info.cache_id)?;
            }
            let removed = durable::remove_tree_durable(&self.0.layout.layer_record(&chain))
                .and_then(|_| overlay::remove(&self.0.layout, &info.cache_id))
                .and_then(|()| self.set_damaged(&chain, false));
            self.unstage_name(&info.cache_id);
            if let Some(parent) = &info.parent {
                self.count(parent, |node| node.children = node.children.saturating_sub(1));
            }
            drop(claim);
            removed.map_err(|error| error.within(format!("remove layer {}", chain.digest())))?;
            gone.push(chain);
            next = info.parent;
        }
        Ok(gone)
    }

    /// All layers that nobody needs, base layers of such included; for prune and the sweep.
    pub fn remove_all_unused(&self) -> Result<Vec<ChainId>> {
        let mut gone = Vec::new();
        for (chain, _) in self.list() {
            gone.extend(self.remove_unused(&chain)?);
        }
        Ok(gone)
    }
}

struct Claim<'a> {
    layers: &'a Layers,
    chain: ChainId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.layers.state().busy.remove(&self.chain);
        self.layers.0.quiet.notify_all();
    }
}

pub(crate) fn missing(chain: &ChainId) -> Error {
    Error::NotFound(format!("layer does not exist: {}", chain.digest()))
}

/// Layers whose parent is absent are absent: they cannot be mounted.
fn drop_orphans(nodes: &mut HashMap<ChainId, Node>) {
    loop {
        let orphan = nodes
            .iter()
            .find(|(_, node)| node.info.parent.as_ref().is_some_and(|p| !nodes.contains_key(p)));
        let Some((chain, _)) = orphan else { return };
        let chain = chain.clone();
        log::error!(
            "layer {} counts as absent: the layer below it is absent",
            chain.digest()
        );
        nodes.remove(&chain);
    }
}

/// Writes a record's small files into its temporary directory, not yet durable.
pub(crate) fn write_record(directory: &Path, info: &LayerInfo) -> Result<()> {
    durable::write_unsynced(&directory.join("cache-id"), info.cache_id.as_bytes(), 0o644)?;
    durable::write_unsynced(&directory.join("diff"), info.diff_id.0.as_str().as_bytes(), 0o644)?;
    durable::write_unsynced(&directory.join("size"), info.size.to_string().as_bytes(), 0o644)?;
    match &info.parent {
        Some(parent) => durable::write_unsynced(&directory.join("parent"), parent.0.as_str().as_bytes(), 0o644),
        None => Ok(()),
    }
}

pub(crate) fn read_record(directory: &Path) -> Result<LayerInfo> {
    let field = |name: &str| -> Result<Option<String>> {
        let path = directory.join(name);
        let text = durable::read(&path)?.map(String::from_utf8).transpose();
        Ok(text.map_err(|_| bad(&path))?.map(|text| text.trim().to_owned()))
    };
    let needed = |name: &str| field(name)?.ok_or_else(|| bad(&directory.join(name)));
    let digest = |name: &str, text: String| Digest::parse(&text).map_err(|_| bad(&directory.join(name)));
    let cache_id = needed("cache-id")?;
    if !id::is_long(&cache_id) {
        return Err(bad(&directory.join("cache-id")));
    }
    Ok(LayerInfo {
        parent: field("parent")?
            .map(|text| digest("parent", text))
            .transpose()?
            .map(ChainId),
        diff_id: DiffId(digest("diff", needed("diff")?)?),
        size: needed("size")?.parse().map_err(|_| bad(&directory.join("size")))?,
        cache_id,
    })
}

/// Puts right what of a record's small files is not as it was read at the start.
pub(crate) fn restore_record(directory: &Path, info: &LayerInfo) -> Result<()> {
    let mut files = vec![
        ("cache-id", info.cache_id.clone()),
        ("diff", info.diff_id.0.to_string()),
        ("size", info.size.to_string()),
    ];
    files.extend(info.parent.as_ref().map(|parent| ("parent", parent.0.to_string())));
    for (name, text) in files {
        let path = directory.join(name);
        if durable::read(&path)?.as_deref() != Some(text.as_bytes()) {
            durable::write_atomic(&path, text.as_bytes(), 0o644)?;
        }
    }
    if info.parent.is_none() {
        durable::remove_durable(&directory.join("parent"))?;
    }
    Ok(())
}

fn bad(path: &Path) -> Error {
    Error::Invalid(format!("read {}: missing or damaged", path.display()))
}
