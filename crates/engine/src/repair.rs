//! Puts a good copy in the place of a layer that was found damaged.
//!
//! It is made out of itself where that is possible: files that are whole are linked, and only what is missing or has
//! changed is fetched, by `Range` out of the layer's blob ([`crate::rescue`]). Otherwise the blob is fetched.

use crate::Engine;
use crate::cancel::Cancel;
use crate::download::{Download, about};
use crate::error::{Error, Result};
use crate::find_delta::megabytes;
use crate::progress::Progress;
use crate::rescue::Rescue;
use crate::turn::Queue;
use oci::manifest::Descriptor;
use registry::Repository;
use std::collections::HashSet;
use store::{BaseFiles, ChainId, LayerId, UnpackedLayer};

/// A layer that is to be replaced.
pub(crate) struct Damaged<'a> {
    pub descriptor: &'a Descriptor,
    pub below: Option<&'a ChainId>,
    pub chain: &'a ChainId,
}

/// Replaces a layer, unless a running container has it.
pub(crate) fn layer(
    engine: &Engine,
    repository: &Repository,
    damaged: &Damaged<'_>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let descriptor = damaged.descriptor;
    let short = descriptor.digest.short();
    let Some(old) = engine.store.layers.get(damaged.chain) else {
        return Err(Error::not_found(format!("layer {short} went away")));
    };
    let is_mounted = || !engine.store.rw.mounted_on(damaged.chain).is_empty();
    if is_mounted() {
        // What runs goes on with what it has, and so does whoever starts another of it.
        log::warn!("layer {short} is damaged and in use: fetched when no running container has it");
        return progress.status(short, "Already exists, damaged, in use");
    }
    progress.status(short, "Pulling fs layer")?;
    let mut names = HashSet::new();
    let mut tell = |name: &str, _: &str| {
        names.insert(name.to_owned());
    };
    let verified = engine.store.layers.verify(&old, true, &mut tell);
    if verified.as_ref().is_ok_and(|verified| verified.damaged == 0) {
        return progress.status(short, "Already exists");
    }
    let rescue = Rescue::new(repository, descriptor, &engine.pace);
    let made = verified.and_then(|_| out_of_itself(engine, damaged, &old, &names, &rescue));
    let made = made.and_then(|made| made.replace(&old, is_mounted));
    if cancel.is_set() {
        return Err(Error::cancelled());
    }
    match made {
        Ok(()) => {
            let bytes = rescue.rescued().map_or(0, |rescued| rescued.bytes);
            let text = format!(
                "Repaired by {} instead of {}",
                megabytes(bytes),
                megabytes(descriptor.size)
            );
            log::info!("layer {}: {text}", descriptor.digest);
            progress.status(short, text)?;
        }
        // The blob would do no better.
        Err(error) if error.is_no_space() || matches!(error, store::Error::Conflict(_)) => {
            return Err(about(descriptor, error).error);
        }
        Err(error) => {
            log::info!("layer {}: fetched whole: {error}", descriptor.digest);
            fetch(engine, repository, damaged, &old, progress)?;
        }
    }
    progress.status(short, "Pull complete")
}

/// Makes a layer once more of what is whole of it; `names` are of what is not.
fn out_of_itself(
    engine: &Engine,
    damaged: &Damaged<'_>,
    old: &LayerId,
    names: &HashSet<String>,
    rescue: &Rescue,
) -> store::Result<UnpackedLayer> {
    let layers = &engine.store.layers;
    let itself = layers.base(old.clone())?;
    let changed = BaseFiles::new(vec![itself.clone()]).find_changed(0, names);
    let staged = layers.stage_pull(damaged.below, None)?;
    staged.unpack_again(itself, Box::new(rescue.clone()), &changed)
}

fn fetch(
    engine: &Engine,
    repository: &Repository,
    damaged: &Damaged<'_>,
    old: &LayerId,
    progress: &Progress,
) -> Result<()> {
    let descriptor = damaged.descriptor;
    let meter = progress.meter(
        descriptor.digest.short(),
        descriptor.size,
        &progress.total(descriptor.size),
    );
    let turn = Queue::new(0).join(0, descriptor.size);
    let download = Download::start(engine, repository, descriptor, 0, meter, turn)?;
    let stage = || engine.store.layers.stage_pull(damaged.below, None);
    let replaced = download
        .unpack(descriptor, |blob| stage()?.sized(descriptor.size).unpack_blob(blob))
        .and_then(|unpacked| {
            let is_mounted = || !engine.store.rw.mounted_on(damaged.chain).is_empty();
            unpacked.replace(old, is_mounted).map_err(|e| about(descriptor, e))
        });
    replaced.map_err(|failure| failure.error)
}
