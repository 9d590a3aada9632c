//! Judges what a crash left: recovers as the daemon does, compares with the ledger, reads every byte, pulls anew,
//! and removes everything to see that nothing stays.

use crate::images::{self, Made};
use crate::ledger::Expected;
use crate::{Result, root, work};
use engine::Engine;
use oci::tar::{Entry, Kind, Reader};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The whole judgement; an error says what was lost, damaged or left over.
pub fn check(path: &Path, expected: &Expected, seed: u64, bytes: u64) -> Result<()> {
    let made = images::make(seed, bytes);
    let tars: HashMap<String, &[u8]> = made
        .iter()
        .flat_map(|made| made.image.layers.iter().zip(&made.tars))
        .map(|(layer, tar)| (layer.diff_id.clone(), &tar[..]))
        .collect();
    let engine = root::open(path)?;
    let stale = engine.store.rw.unmount_stale(&Default::default());
    if let Some(error) = stale.first() {
        return Err(format!("unmount: {error}"));
    }
    let swept = engine.store.sweep();
    if let Some(error) = swept.errors.first() {
        return Err(format!("sweep: {error}"));
    }
    records(&engine, expected)?;
    layers(&engine, &tars)?;
    leftovers(&engine, path)?;
    containers(&engine)?;
    if !names(&path.join("balena-pulls"))?.is_empty() {
        println!("resumes");
    }
    pull_anew(&engine, &made)?;
    layers(&engine, &tars)?;
    remove_all(&engine)?;
    nothing_left(path)
}

/// Everything acknowledged is there, and nothing that was never asked for.
fn records(engine: &Engine, expected: &Expected) -> Result<()> {
    let store = &engine.store;
    let tags = store.tags.list().into_iter();
    expected.compare(
        "tag",
        &tags.map(|(name, id)| (name.familiar(), id.to_string())).collect(),
    )?;
    let mut images = BTreeMap::new();
    for id in store.images.list() {
        store.images.config(&id).map_err(say)?;
        images.insert(id.to_string(), "there".to_owned());
    }
    expected.compare("image", &images)?;
    for (name, id) in store.tags.list() {
        if !images.contains_key(&id.to_string()) {
            return Err(format!("tag {} names {id}, which is not there", name.familiar()));
        }
    }
    let mut containers = BTreeMap::new();
    for id in store.containers.list().map_err(say)? {
        // A directory without the record is a container that does not exist; the engine removes it.
        match store.containers.read(&id, "config.v2.json").map_err(say)? {
            Some(bytes) => drop(containers.insert(id, String::from_utf8_lossy(&bytes).into_owned())),
            None => drop(store.containers.remove(&id).map_err(say)?),
        }
    }
    expected.compare("container", &containers)?;
    for id in containers.keys() {
        if store.rw.get(id).is_none() {
            return Err(format!("container {id} has no layer"));
        }
    }
    for id in store.rw.list() {
        if !containers.contains_key(&id) {
            store.rw.remove(&id).map_err(say)?;
        }
    }
    Ok(())
}

/// Every layer is what its diff ID says, with every file as it was in its tar.
fn layers(engine: &Engine, tars: &HashMap<String, &[u8]>) -> Result<()> {
    let store = &engine.store;
    for (chain, info) in store.layers.list() {
        let about = |error: &dyn std::fmt::Display| format!("layer {}: {error}", info.diff_id.0);
        let layer = store
            .layers
            .get(&chain)
            .ok_or_else(|| about(&"its directory is gone"))?;
        let mut hashing = store::hash::Hashing::new(std::io::sink());
        store.layers.write_tar(&layer, &mut hashing).map_err(|e| about(&e))?;
        let got = hashing.finish().0;
        if got != info.diff_id.0 {
            return Err(about(&format!("its tar is now {got}")));
        }
        let Some(tar) = tars.get(info.diff_id.0.as_str()) else {
            continue;
        };
        let diff = store.layers.diff_path(&chain).map_err(say)?;
        let mut reader = Reader::new(*tar);
        while let Some(entry) = reader.next_entry().map_err(say)? {
            compare(&entry, &diff).map_err(|e| about(&e))?;
        }
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

fn pull_anew(engine: &Engine, made: &[Made]) -> Result<()> {
    for made in made {
        let reference = root::serve(made)?;
        root::pull(engine, &reference).map_err(|e| format!("afterwards: {e}"))?;
        let id = engine.store.tags.get(&reference).map(|id| id.to_string());
        if id != Some(made.image.id()) {
            return Err(format!("pulled anew, {} is {id:?}", reference.familiar()));
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
