//! Removes what no record refers to: what a power failure, a kill or a full disk left half made or half removed.
//!
//! Safe beside pulls and creates: what they are making is registered in memory before it is on disk, temporary names
//! carry their process, and directories are listed before records are asked. Only names of the form we and Docker
//! give are touched, so BuildKit's and other programs' directories stay.

use crate::error::{Doing, Error, Result};
use crate::images::Images;
use crate::layers::{ChainId, Layers};
use crate::layout::Layout;
use crate::rw::RwLayers;
use crate::{durable, id, overlay, partial, walk};
use oci::digest::Digest;
use rustix::mount::UnmountFlags;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Layers that are whole and that nobody needs are kept as long as parts of layers are: a pull that was cut finds them.
pub(crate) const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a sweep removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Directories of layers, whole layers that were not asked for in days among them.
    pub layers: u64,
    /// Short links in `overlay2/l` that led nowhere.
    pub links: u64,
    /// Unfinished records and half-removed things.
    pub temporary: u64,
    /// Bytes of the files in them.
    pub bytes: u64,
    /// What could not be removed; the rest was.
    pub errors: Vec<String>,
}

pub(crate) fn sweep(layout: &Layout, layers: &Layers, images: &Images, rw: &RwLayers) -> Swept {
    let mut swept = Swept::default();
    let done = [
        orphans(layout, layers, rw, &mut swept),
        unused(layout, layers, images, &mut swept),
        links(layout, &mut swept),
        temporary(layout, layers, &mut swept),
        notes(layout, layers, &mut swept),
    ];
    swept
        .errors
        .extend(done.into_iter().filter_map(Result::err).map(|error| error.to_string()));
    swept
}

fn orphans(layout: &Layout, layers: &Layers, rw: &RwLayers, swept: &mut Swept) -> Result<()> {
    let names = list(&layout.overlay())?;
    // After listing: what came to be since then is not in the list, what is in it and known stays.
    let staged: Vec<bool> = names.iter().map(|name| layers.is_staged(name)).collect();
    // After asking what is staged: a pull that is interrupted just now was staged then, or has its checkpoint.
    let partial = partial::sweep(layout, layers)?;
    let Some(mut known) = layers.cache_ids() else {
        return Err(Error::Conflict(
            "sweep layers: left alone, because a record could not be read".into(),
        ));
    };
    known.extend(partial.into_iter().map(|identity| identity.cache_id));
    let containers = rw.overlay_names();
    for (name, staged) in names.iter().zip(staged) {
        let base = name.strip_suffix("-removing").unwrap_or(name);
        let base = base.strip_suffix("-init").unwrap_or(base);
        if staged || known.contains(name) || containers.contains(name) || !id::is_long(base) {
            continue;
        }
        let merged = layout.overlay_layer(name).join("merged");
        if merged.is_dir() && sys::fs::is_mount_point(&merged).doing("look at", &merged)? {
            rustix::mount::unmount(&merged, UnmountFlags::DETACH).doing("unmount", &merged)?;
        }
        let bytes = walk::size(&layout.overlay_layer(name)).unwrap_or(0);
        match overlay::remove(layout, name) {
            Ok(()) => {
                log::info!("swept layer directory {name}, {bytes} bytes, which no record refers to");
                swept.layers += 1;
                swept.bytes += bytes;
            }
            Err(error) => swept.errors.push(error.to_string()),
        }
    }
    Ok(())
}

/// Layers that a pull, a load or a commit made and that no image came to need. Only where all records were read, since an
/// image that is set aside needs layers, too; and not beside BuildKit of Docker's, whose cache does.
fn unused(layout: &Layout, layers: &Layers, images: &Images, swept: &mut Swept) -> Result<()> {
    let is_aside = |directory: &Path| Ok::<_, Error>(list(directory)?.iter().any(|name| name.ends_with(".bad")));
    let doubtful = layers.cache_ids().is_none()
        || !images.are_all_served()?
        || is_aside(&layout.mounts())?
        || layout.root().join("buildkit/snapshots.db").exists();
    // A pull that goes on slowly has whole layers that are older than its last part.
    if doubtful || !partial::sweep(layout, layers)?.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now();
    let all = layers.list();
    for (chain, _) in &all {
        let made = fs::metadata(layout.layer_record(chain)).and_then(|record| record.modified());
        if !made.is_ok_and(|made| now.duration_since(made).is_ok_and(|age| age >= STALE)) {
            continue;
        }
        let gone = layers.remove_unused(chain)?;
        for (chain, info) in all.iter().filter(|(chain, _)| gone.contains(chain)) {
            let (digest, bytes) = (chain.digest(), info.size);
            log::info!("swept layer {digest}, {bytes} bytes, which no image needs");
            swept.layers += 1;
            swept.bytes += bytes;
        }
    }
    Ok(())
}

fn links(layout: &Layout, swept: &mut Swept) -> Result<()> {
    for name in list(&layout.links())? {
        let path = layout.links().join(&name);
        let is_link = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        if is_link && matches!(path.try_exists(), Ok(false)) {
            fs::remove_file(&path).doing("remove", &path)?;
            swept.links += 1;
        }
    }
    Ok(())
}

/// Notes of damage to layers that are gone: one that is pulled again is another.
fn notes(layout: &Layout, layers: &Layers, swept: &mut Swept) -> Result<()> {
    if layers.cache_ids().is_none() {
        return Ok(());
    }
    for name in list(&layout.damaged())? {
        let chain = Digest::from_hex(&name).ok().map(ChainId::from_digest);
        if chain.is_some_and(|chain| layers.info(&chain).is_none()) {
            let path = layout.damaged().join(&name);
            fs::remove_file(&path).doing("remove", &path)?;
            swept.temporary += 1;
        }
    }
    Ok(())
}

fn temporary(layout: &Layout, layers: &Layers, swept: &mut Swept) -> Result<()> {
    let image = layout.repositories();
    let image = image.parent().unwrap_or(layout.root());
    let mut directories = vec![
        image.to_owned(),
        image.join("distribution/diffid-by-digest/sha256"),
        image.join("distribution/v2metadata-by-diffid/sha256"),
        layout.image_contents(),
        layout.layer_records(),
        layout.layer_tmp(),
        layout.mounts(),
        layout.containers(),
        layout.volumes(),
        layout.damaged(),
    ];
    for parent in [layout.containers(), image.join("imagedb/metadata/sha256")] {
        directories.extend(
            list(&parent)?
                .into_iter()
                .map(|name| parent.join(name))
                .filter(|path| path.is_dir()),
        );
    }
    for directory in directories {
        let names = list(&directory)?;
        let staged: Vec<bool> = names.iter().map(|name| layers.is_staged(name)).collect();
        let partial = match directory == layout.layer_tmp() {
            true => partial::sweep(layout, layers)?,
            false => Vec::new(),
        };
        for (name, staged) in names.into_iter().zip(staged) {
            if staged || partial.iter().any(|identity| identity.record == name) {
                continue;
            }
            let unfinished = name.starts_with(durable::TMP)
                || name.starts_with("write-set-")
                || (directory == layout.layer_records() && name.ends_with("-removing"));
            // What is being put together in `layerdb/tmp` is staged by its name.
            if !unfinished || (id::is_ours(&name) && !name.starts_with("write-set-")) {
                continue;
            }
            let path = directory.join(&name);
            match remove(&path) {
                Ok(bytes) => {
                    swept.temporary += 1;
                    swept.bytes += bytes;
                }
                Err(error) => swept.errors.push(error.to_string()),
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        // Finished since it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.doing("look at", path)?,
    };
    if metadata.is_dir() {
        let bytes = walk::size(path).unwrap_or(0);
        fs::remove_dir_all(path).doing("remove", path)?;
        return Ok(bytes);
    }
    fs::remove_file(path).doing("remove", path)?;
    Ok(metadata.len())
}

fn list(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing("list", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.doing("list", directory)?.file_name().into_string().ok());
    }
    Ok(names)
}
