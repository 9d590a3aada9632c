//! Judges what a crash left: recovers as the daemon does, compares with the ledger, reads every byte, pulls anew,
//! and removes everything to see that nothing stays.

use crate::images::{self, Made};
use crate::ledger::{Effects, Expected};
use crate::{Result, root, work};
use engine::Engine;
use oci::reference::Reference;
use oci::tar::{Entry, Kind, Reader};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use store::{ChainId, LayerInfo};

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What crashes of one life are compared with: made once, however many there are.
pub struct Judge {
    made: [Made; 3],
    /// By diff ID.
    tars: HashMap<String, Arc<Vec<u8>>>,
    /// Where the images can be pulled.
    served: Vec<Reference>,
}

impl Judge {
    pub fn new(seed: u64, bytes: u64) -> Result<Judge> {
        let made = images::make(seed, bytes);
        let tars = made
            .iter()
            .flat_map(|made| made.image.layers.iter().zip(&made.tars))
            .map(|(layer, tar)| (layer.diff_id.clone(), tar.clone()))
            .collect();
        let served = made.iter().map(root::serve).collect::<Result<_>>()?;
        Ok(Judge { made, tars, served })
    }

    /// The whole judgement; an error says what was lost, damaged or left over. Says if a pull was gone on with.
    pub fn check(&self, path: &Path, expected: &Expected) -> Result<bool> {
        // Power may have failed on a full device: it has to start all the same.
        let engine = root::open(path)?;
        let found = root::recover(&engine)?;
        root::release(path)?;
        expected.compare(&found)?;
        tags_have_images(&found)?;
        let damaged = layers(&engine, &self.tars, expected)?;
        leftovers(&engine, path)?;
        containers(&engine)?;
        let resumes = !names(&path.join("balena-pulls"))?.is_empty();
        if damaged && root::verify(&engine, None, false).is_ok() {
            return Err("damage that was done is not found".into());
        }
        self.pull_anew(&engine)?;
        let nothing = Expected::nothing();
        layers(&engine, &self.tars, &nothing)?;
        remove_all(&engine)?;
        nothing_left(path)?;
        Ok(resumes)
    }

    fn pull_anew(&self, engine: &Engine) -> Result<()> {
        for (made, reference) in self.made.iter().zip(&self.served) {
            root::pull(engine, reference).map_err(|e| format!("afterwards: {e}"))?;
            let id = engine.store.tags.get(reference).map(|id| id.to_string());
            if id != Some(made.image.id()) {
                return Err(format!("pulled anew, {} is {id:?}", reference.familiar()));
            }
        }
        Ok(())
    }
}

fn tags_have_images(found: &Effects) -> Result<()> {
    for (name, id) in found.iter().filter(|(name, _)| name.starts_with("tag ")) {
        let image = format!("image {}", id.as_deref().unwrap_or(""));
        if !found.iter().any(|(name, _)| *name == image) {
            return Err(format!("{name} names {image}, which is not there"));
        }
    }
    Ok(())
}

/// Every layer is what its diff ID says, with every file as it was in its tar. Says if one is not, which may be so
/// because it was damaged on purpose.
fn layers(engine: &Engine, tars: &HashMap<String, Arc<Vec<u8>>>, expected: &Expected) -> Result<bool> {
    let mut damaged = false;
    for (chain, info) in engine.store.layers.list() {
        let tar = tars.get(info.diff_id.0.as_str()).map(|tar| &tar[..]);
        if let Err(error) = layer(engine, &chain, &info, tar) {
            if !expected.allows(&format!("layer {}", info.diff_id.0), "damaged") {
                return Err(format!("layer {}: {error}", info.diff_id.0));
            }
            damaged = true;
        }
    }
    Ok(damaged)
}

fn layer(engine: &Engine, chain: &ChainId, info: &LayerInfo, tar: Option<&[u8]>) -> Result<()> {
    let store = &engine.store;
    let layer = store.layers.get(chain).ok_or("its directory is gone")?;
    let mut hashing = store::hash::Hashing::new(std::io::sink());
    store.layers.write_tar(&layer, &mut hashing).map_err(say)?;
    let got = hashing.finish().0;
    if got != info.diff_id.0 {
        return Err(format!("its tar is now {got}"));
    }
    let Some(tar) = tar else { return Ok(()) };
    let diff = store.layers.diff_path(chain).map_err(say)?;
    let mut reader = Reader::new(tar);
    while let Some(entry) = reader.next_entry().map_err(say)? {
        compare(&entry, &diff)?;
    }
    Ok(())
}

fn compare(entry: &Entry, diff: &Path) -> Result<()> {
    let name = OsStr::from_bytes(&entry.name);
    let path = diff.join(name);
    if let Some(hidden) = name
        .to_string_lossy()
        .rsplit('/')
        .next()
        .and_then(|n| n.strip_prefix(".wh."))
    {
        let hidden = path.with_file_name(hidden);
        let found = std::fs::symlink_metadata(&hidden).map_err(|e| format!("whiteout {}: {e}", hidden.display()))?;
        return match found.rdev() {
            0 => Ok(()),
            other => Err(format!("whiteout {} is device {other}", hidden.display())),
        };
    }
    let found = std::fs::symlink_metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    // A hard link's own header is like its target's only where the writer took care.
    if matches!(entry.kind, Kind::HardLink) {
        return Ok(());
    }
    let kind_holds = match entry.kind {
        Kind::Regular => found.is_file() && found.len() == entry.size,
        Kind::Directory => found.is_dir(),
        Kind::Symlink => {
            found.is_symlink() && std::fs::read_link(&path).is_ok_and(|to| to.as_os_str().as_bytes() == entry.link)
        }
        _ => true,
    };
    let is_link = entry.kind == Kind::Symlink;
    let hard_linked = found.nlink() > 1 && entry.kind == Kind::Regular;
    let holds = kind_holds
        && (hard_linked || (found.uid(), found.gid()) == (entry.uid, entry.gid))
        && (is_link || hard_linked || found.mode() & 0o7777 == entry.mode)
        && (hard_linked || found.mtime() == entry.mtime.seconds);
    if !holds {
        return Err(format!("{} is not as it was: {found:?}", path.display()));
    }
    for (key, value) in &entry.xattrs {
        let key = String::from_utf8_lossy(key).into_owned();
        let mut got = [0; 64];
        let length = rustix::fs::lgetxattr(&path, key.as_str(), &mut got[..]);
        let length = length.map_err(|e| format!("{key} of {}: {e}", path.display()))?;
        if got[..length] != value[..] {
            return Err(format!("{key} of {} is another", path.display()));
        }
    }
    Ok(())
}

/// After the sweep nothing is there but what a record names, or a checkpoint.
fn leftovers(engine: &Engine, path: &Path) -> Result<()> {
    let store = &engine.store;
    let mut known: Vec<String> = store.layers.list().into_iter().map(|(_, info)| info.cache_id).collect();
    for container in store.rw.list() {
        if let Some(layer) = store.rw.get(&container) {
            known.push(layer.mount_id);
            known.extend(layer.init_id);
        }
    }
    let pulls = path.join("balena-pulls");
    let mut checkpoints = String::new();
    for chain in names(&pulls)? {
        for file in names(&pulls.join(&chain))? {
            let bytes = std::fs::read(pulls.join(&chain).join(file)).map_err(say)?;
            checkpoints.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    let overlay = path.join("overlay2");
    let begun: Vec<String> = names(&overlay)?;
    let begun = begun
        .into_iter()
        .filter(|name| name != "l" && checkpoints.contains(name) && !known.contains(name));
    known.extend(begun.collect::<Vec<_>>());
    for name in names(&overlay)? {
        if name != "l" && !known.contains(&name) {
            return Err(format!("overlay2/{name} was left"));
        }
    }
    let links = names(&overlay.join("l"))?.len();
    if links != known.len() {
        return Err(format!("{links} links for {} directories", known.len()));
    }
    unfinished(path, &checkpoints)
}

/// No temporary and no damaged record is anywhere.
fn unfinished(path: &Path, checkpoints: &str) -> Result<()> {
    let records = [
        "image/overlay2",
        "image/overlay2/layerdb/sha256",
        "image/overlay2/layerdb/tmp",
        "image/overlay2/layerdb/mounts",
        "image/overlay2/imagedb/content/sha256",
        "image/overlay2/imagedb/metadata/sha256",
        "containers",
        "network/files",
    ];
    for directory in records {
        for name in names(&path.join(directory))? {
            if checkpoints.contains(&name) {
                continue;
            }
            if name.starts_with(".tmp-") || name.starts_with("write-set") || name.ends_with(".bad") {
                return Err(format!("{directory}/{name} was left"));
            }
        }
    }
    Ok(())
}

/// Containers can be mounted.
fn containers(engine: &Engine) -> Result<()> {
    let rw = &engine.store.rw;
    for container in rw.list() {
        let merged = rw.mount(&container).map_err(say)?;
        let made = std::fs::read(merged.join(".made")).map_err(|e| format!("read in container: {e}"));
        rw.unmount(&container).map_err(say)?;
        made?;
        let record = engine
            .store
            .containers
            .read(&container, "config.v2.json")
            .map_err(say)?;
        if record != Some(work::record(&container).into_bytes()) {
            return Err(format!("the record of container {container} is another"));
        }
    }
    Ok(())
}

fn remove_all(engine: &Engine) -> Result<()> {
    let store = &engine.store;
    for container in store.rw.list() {
        store.containers.remove(&container).map_err(say)?;
        store.rw.remove(&container).map_err(say)?;
    }
    for (name, _) in store.tags.list() {
        store.tags.remove(&name).map_err(say)?;
    }
    for id in store.images.list() {
        store.images.remove(&id).map_err(say)?;
    }
    store.layers.remove_all_unused().map(drop).map_err(say)
}

fn nothing_left(path: &Path) -> Result<()> {
    unfinished(path, "")?;
    for (directory, there) in [
        ("balena-pulls", &[][..]),
        ("balena-damaged", &[]),
        ("overlay2", &["l"]),
        ("overlay2/l", &[]),
        ("image/overlay2/layerdb/sha256", &[]),
        ("image/overlay2/layerdb/tmp", &[]),
        ("image/overlay2/layerdb/mounts", &[]),
        ("image/overlay2/imagedb/content/sha256", &[]),
    ] {
        let names = names(&path.join(directory))?;
        if names != there {
            return Err(format!("everything removed, {directory} still has {names:?}"));
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| format!("list {}: {e}", directory.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(say)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
