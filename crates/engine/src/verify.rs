//! Checking images against what was pulled, and healing them from their registry.

use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::find_delta::Mode;
use crate::progress::Progress;
use crate::{Engine, image, pull};
use oci::reference::Reference;
use registry::Auth;
use std::collections::{BTreeMap, BTreeSet};
use store::{ChainId, ImageId};

/// What is asked for.
pub struct Request<'a> {
    /// Images by name or ID; none for all.
    pub names: &'a [String],
    /// Reads contents, too.
    pub deep: bool,
    /// Pulls what is damaged and swaps it in.
    pub repair: bool,
    pub auth: Auth,
}

/// Checks images layer by layer and tells of each damaged file; ends with an error if any is damaged still.
pub fn verify(engine: &Engine, request: &Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let images: Vec<ImageId> = match request.names {
        [] => engine.store.images.list(),
        names => {
            let found: Result<BTreeSet<_>> = names.iter().map(|name| image::find(engine, name)).collect();
            found?.into_iter().collect()
        }
    };
    let mut layers: BTreeMap<ChainId, u64> = BTreeMap::new();
    let mut left = 0;
    for id in images {
        let mut damaged = check(engine, &id, request.deep, &mut layers, progress, cancel)?;
        let name = engine.store.tags.of_image(&id);
        let shown = name
            .first()
            .map_or_else(|| id.0.short().to_owned(), Reference::familiar);
        if damaged > 0 && request.repair {
            heal(engine, &id, request, progress, cancel)?;
            // Once more, and all of it: nothing is said to be whole that was not looked at.
            layers.clear();
            damaged = check(engine, &id, true, &mut layers, progress, cancel)?;
        }
        let verdict = match damaged {
            0 => "whole".to_owned(),
            n => format!("{n} damaged"),
        };
        progress.status("", format!("{shown}: {verdict}"))?;
        left += damaged;
    }
    match left {
        0 => Ok(()),
        n => Err(Error::new(
            Kind::Conflict,
            format!("{n} damaged; --repair fetches what is needed"),
        )),
    }
}

/// Checks an image's config and its layers, those that were not checked before; returns what is damaged of it.
fn check(
    engine: &Engine,
    id: &ImageId,
    deep: bool,
    layers: &mut BTreeMap<ChainId, u64>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<u64> {
    engine.store.images.config(id)?;
    let Some(top) = engine.store.images.top_layer(id)? else {
        return Ok(0);
    };
    let mut damaged = 0;
    for (chain, info) in engine.store.layers.chain(&top) {
        if cancel.is_set() {
            return Err(Error::cancelled());
        }
        if let Some(known) = layers.get(&chain) {
            damaged += known;
            continue;
        }
        let short = info.diff_id.0.short();
        let Some(layer) = engine.store.layers.get(&chain) else {
            progress.status(short, "missing")?;
            damaged += 1;
            continue;
        };
        progress.status(short, "Verifying")?;
        let mut tell = |name: &str, what: &str| {
            log::error!("layer {}: {name}: {what}", info.diff_id.0);
            // What is wrong with the layer itself has no name. Whether the client is still there shows at the next layer.
            let name = if name.is_empty() {
                String::new()
            } else {
                format!("{name}: ")
            };
            let _ = progress.status("", format!("{short}: {name}{what}"));
        };
        let verified = engine.store.layers.verify(&layer, deep, &mut tell)?;
        progress.status(short, "Verified")?;
        damaged += verified.damaged;
        layers.insert(chain, verified.damaged);
    }
    Ok(damaged)
}

/// Pulls an image by its digest: what is whole is kept, what was noted as damaged is fetched and swapped in.
fn heal(engine: &Engine, id: &ImageId, request: &Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let names = engine.store.tags.of_image(id);
    let source = names.iter().find(|name| name.digest().is_some());
    let Some(reference) = source else {
        return Err(Error::new(
            Kind::Conflict,
            format!("repair {}: it came from no registry; load it again", id.0.short()),
        ));
    };
    let wanted = pull::Request {
        reference,
        platform: None,
        auth: request.auth.clone(),
        delta: Mode::Off,
    };
    pull::pull(engine, wanted, progress, cancel).map(drop)
}

/// A look at everything without reading contents, for the start after a power failure or a kill. Tells the log.
pub fn after_unclean_stop(engine: &Engine) {
    let _ = sys::process::lower_io_priority();
    let (mut entries, mut damaged) = (0, 0);
    for (chain, info) in engine.store.layers.list() {
        let Some(layer) = engine.store.layers.get(&chain) else {
            continue;
        };
        let mut tell = |name: &str, what: &str| log::error!("layer {}: {name}: {what}", info.diff_id.0);
        match engine.store.layers.verify(&layer, false, &mut tell) {
            Ok(verified) => {
                entries += verified.entries;
                damaged += verified.damaged;
            }
            Err(error) => log::error!("verify layer {}: {error}", info.diff_id.0),
        }
    }
    log::info!("the last stop was not clean: looked at {entries} files, {damaged} are damaged");
}
