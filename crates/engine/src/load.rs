//! Loading images from an archive: what `save` writes, of any age and maker.
//!
//! The archive is read once, as it comes, and nothing of it is put aside on disk: a layer is unpacked where it is to
//! stay, on nothing yet, because its place among the others may be told at the very end ([`contents`]). Then
//! [`plan`] reads the descriptions, which are small and were kept, and each layer is put on its parent, its diff ID
//! checked, and committed; the image comes after its layers, its name last. Whatever stops it leaves whole layers at
//! most, which nobody refers to and which the end of the load removes.
//!
//! Memory: the descriptions (bounded by [`contents::MEMORY`]) and what unpacking needs.

mod contents;
mod legacy;
mod plan;

use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::undo::{self, Undo};
use crate::{Engine, balena_delta, image};
use api::progress::Message;
use contents::{Contents, Layer};
use oci::config::{ImageConfig, RootFs};
use oci::digest::Digest;
use oci::platform::Platform;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use store::hash::sha256;
use store::{ChainId, DiffId, ImageId, LayerId};

/// What a load is asked for.
pub struct Request<'a> {
    pub archive: &'a mut dyn Read,
    pub platform: Option<&'a Platform>,
    /// Says nothing of single layers.
    pub quiet: bool,
}

/// Loads the images of an archive.
pub fn load(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<()> {
    undo::tell_room(engine, load_archive(engine, request, progress, cancel))
}

fn load_archive(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let shown = match request.quiet {
        true => Progress::silent(),
        false => progress.clone(),
    };
    let mut contents = contents::read(engine, request.archive, &shown, cancel)?;
    let mut images = plan::images(&mut contents, request.platform.unwrap_or(&engine.config.platform))?;
    if let Some(platform) = request.platform {
        images.retain(|planned| {
            let config = ImageConfig::parse(&planned.config);
            config.is_ok_and(|config| image::is_for(&config, platform))
        });
        if images.is_empty() {
            return Err(Error::not_found(format!(
                "requested platform ({platform}) not found: the archive has images of other platforms only"
            )));
        }
    }
    let mut used = Used::default();
    let loaded = images.into_iter().try_for_each(|planned| {
        let mut undo = Undo::new(engine);
        undo.image(&ImageId(sha256(&planned.config)));
        let id = put(engine, &planned, &mut contents, &mut used)?;
        if let Some(parent) = &planned.parent {
            adopt(engine, &id, parent);
        }
        let attributes = BTreeMap::from([("name".to_string(), id.0.to_string())]);
        engine.events.emit("image", "load", id.0.as_str(), attributes);
        say(engine, &planned, &id, progress)?;
        undo.done();
        Ok(())
    });
    drop(contents);
    // A layer that was committed for an image that then failed is nobody's.
    used.remove_unused(engine);
    loaded
}

/// Layers that are held while images are put together.
#[derive(Default)]
struct Used {
    /// By the name in the archive: a layer that several chains have is there once.
    by_name: BTreeMap<String, LayerId>,
    made: BTreeSet<ChainId>,
}

impl Used {
    fn remove_unused(&mut self, engine: &Engine) {
        self.by_name.clear();
        for chain in &self.made {
            if let Err(error) = engine.store.layers.remove_unused(chain) {
                log::warn!("left to the next prune: {error}");
            }
        }
    }
}

/// Puts an image together: its layers, then its config.
fn put(engine: &Engine, planned: &plan::Image, contents: &mut Contents, used: &mut Used) -> Result<ImageId> {
    let config = ImageConfig::parse(&planned.config).invalid("parse the image's config")?;
    let diffs = &config.rootfs.diff_ids;
    if config.rootfs == RootFs::default() {
        return Err(Error::invalid("invalid image JSON, no RootFS key"));
    }
    if diffs.len() != planned.layers.len() {
        return Err(Error::invalid(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            planned.layers.len(),
            diffs.len()
        )));
    }
    if diffs.len() > oci::manifest::MAX_LAYERS {
        return Err(Error::invalid("max depth exceeded"));
    }
    if config.os.as_deref().is_some_and(|os| !os.is_empty() && os != "linux") {
        return Err(Error::invalid(format!(
            "cannot load {} image on linux",
            config.os.as_deref().unwrap_or_default()
        )));
    }
    if let Some(target) = balena_delta::Target::of(&config)? {
        return put_target(engine, planned, diffs, &target, contents, used);
    }
    let mut top: Option<LayerId> = None;
    for (index, (name, diff)) in planned.layers.iter().zip(diffs).enumerate() {
        let below = top.as_ref();
        let chain = ChainId::of(below.map(LayerId::chain_id), &DiffId(diff.clone()));
        let layer = match engine.store.layers.get(&chain) {
            Some(layer) => {
                // What the archive has under this name must still be what it says.
                check(contents.diff_of(name), index, diff)?;
                if engine.store.layers.is_damaged(&chain) {
                    heal(engine, &layer, name, contents)?;
                }
                layer
            }
            None => place(engine, below, (index, name, diff), contents, used)?,
        };
        used.made.insert(chain);
        used.by_name.entry(name.clone()).or_insert_with(|| layer.clone());
        top = Some(layer);
    }
    Ok(engine.store.images.put(&planned.config, top.as_ref())?)
}

/// Puts what the archive has in the place of a layer that was found damaged, unless a running container has it.
fn heal(engine: &Engine, layer: &LayerId, name: &str, contents: &mut Contents) -> Result<()> {
    let Some(Layer::Unpacked(good)) = contents.take(name) else {
        return Ok(());
    };
    let is_mounted = || !engine.store.rw.mounted_on(layer.chain_id()).is_empty();
    match good.replace(layer, is_mounted) {
        Err(error @ store::Error::Conflict(_)) => log::warn!("left damaged: {error}"),
        healed => healed?,
    }
    Ok(())
}

/// Puts the image together that one of balenaEngine's deltas stands for.
fn put_target(
    engine: &Engine,
    planned: &plan::Image,
    diffs: &[Digest],
    target: &balena_delta::Target,
    contents: &mut Contents,
    used: &mut Used,
) -> Result<ImageId> {
    let mut base: Option<balena_delta::Base<'_>> = None;
    let mut top: Option<LayerId> = None;
    let names = planned.layers.iter().zip(diffs);
    for (index, ((name, delta_diff), diff)) in names.zip(target.diffs()).enumerate() {
        let below = top.as_ref().map(LayerId::chain_id);
        let chain = ChainId::of(below, &DiffId(diff.clone()));
        check(contents.diff_of(name), index, delta_diff)?;
        let layer = match engine.store.layers.get(&chain) {
            Some(layer) => layer,
            None => {
                let base = match &mut base {
                    Some(base) => base,
                    none => none.insert(balena_delta::Base::find(engine, target)?),
                };
                let missing = || Error::invalid(format!("invalid archive: it has no layer {name}"));
                let delta = match contents.take(name).ok_or_else(missing)? {
                    Layer::Unpacked(unpacked) => unpacked.open(balena_delta::FILE)?,
                    Layer::There(layer) => engine.store.layers.open_file(&layer, balena_delta::FILE)?,
                };
                let made = base.layer_of_file(target, index, below, delta)?;
                made.commit(&DiffId(diff.clone()))?
            }
        };
        used.made.insert(chain);
        top = Some(layer);
    }
    Ok(engine.store.images.put(&target.config_bytes, top.as_ref())?)
}

fn check(got: Option<&Digest>, index: usize, expected: &Digest) -> Result<()> {
    match got {
        Some(got) if got != expected => Err(Error::invalid(format!(
            "invalid diffID for layer {index}: expected \"{expected}\", got \"{got}\""
        ))),
        _ => Ok(()),
    }
}

/// Makes a layer that is not there: from what was unpacked, or from the same layer elsewhere.
fn place(
    engine: &Engine,
    below: Option<&LayerId>,
    (index, name, diff): (usize, &String, &Digest),
    contents: &mut Contents,
    used: &Used,
) -> Result<LayerId> {
    let found = match contents.take(name) {
        None if contents.has_deltas() && !used.by_name.contains_key(name) => Some(by_delta(engine, diff, contents)?),
        found => found,
    };
    let source = match found {
        Some(Layer::Unpacked(unpacked)) => {
            check(Some(&unpacked.outcome().diff_id.0), index, diff)?;
            let unpacked = match below {
                Some(below) => unpacked.onto(below)?,
                None => *unpacked,
            };
            return Ok(unpacked.commit(&DiffId(diff.clone()))?);
        }
        Some(Layer::There(layer)) => Some(layer),
        None => used.by_name.get(name).cloned(),
    };
    let source = source.ok_or_else(|| Error::invalid(format!("invalid archive: it has no layer {name}")))?;
    let info = engine.store.layers.info(source.chain_id());
    check(info.as_ref().map(|info| &info.diff_id.0), index, diff)?;
    copy(engine, &source, below, diff)
}

/// What stands in an archive of deltas for a layer: its delta, or one that is here.
fn by_delta(engine: &Engine, diff: &Digest, contents: &mut Contents) -> Result<Layer> {
    let why = match contents.take_by_delta(diff) {
        Ok(layer) => return Ok(layer),
        Err(why) => why,
    };
    if let Some(layer) = engine
        .store
        .layers
        .with_diff_id(&DiffId(diff.clone()))
        .into_iter()
        .next()
    {
        return Ok(Layer::There(layer));
    }
    let why = match why {
        Some(why) => format!("load layer {diff} by delta: {why}"),
        None => format!("load layer {diff}: the archive has neither it nor a delta of it, and it is not here"),
    };
    Err(Error::not_found(format!(
        "{why}; the image itself, pulled or loaded, needs no base"
    )))
}

/// Makes a layer again on another parent, from the tar of the one that is there.
fn copy(engine: &Engine, source: &LayerId, below: Option<&LayerId>, diff: &Digest) -> Result<LayerId> {
    let staged = engine.store.layers.stage(below.map(LayerId::chain_id))?;
    let (reader, mut writer) = std::io::pipe().context("make a pipe")?;
    let (unpacked, written) = std::thread::scope(|scope| {
        let layers = &engine.store.layers;
        let writing = scope.spawn(move || layers.write_tar(source, &mut writer));
        let mut reader = reader;
        let unpacked = staged.unpack(&mut reader as &mut dyn Read);
        drop(reader);
        let written = writing.join();
        (unpacked, written)
    });
    let unpacked = unpacked?;
    written.map_err(|_| Error::internal("the thread that reads a layer panicked"))??;
    Ok(unpacked.commit(&DiffId(diff.clone()))?)
}

/// Records the parent that Docker's archives name, if it is one.
fn adopt(engine: &Engine, id: &ImageId, parent: &Digest) {
    let parent = ImageId(parent.clone());
    let both = image::config_of(engine, id)
        .ok()
        .zip(image::config_of(engine, &parent).ok());
    let fits = both.is_some_and(|(child, parent)| {
        child.history.len() > parent.history.len()
            && child.rootfs.diff_ids.starts_with(&parent.rootfs.diff_ids)
            && child.history.starts_with(&parent.history)
    });
    if fits && let Err(error) = engine.store.images.set_parent(id, &parent) {
        log::warn!("{error}");
    }
}

/// Gives an image its names, and says so in Docker's words.
fn say(engine: &Engine, planned: &plan::Image, id: &ImageId, progress: &Progress) -> Result<()> {
    let line = |text: String| {
        progress.send(&Message {
            stream: text + "\n",
            ..Message::default()
        })
    };
    for name in &planned.names {
        let familiar = name.familiar();
        if let Some(old) = engine.store.tags.get(name).filter(|old| old != id) {
            line(format!(
                "The image {familiar} already exists, renaming the old one with ID {old} to empty string"
            ))?;
        }
        engine.store.tags.set(name, id)?;
        line(format!("Loaded image: {familiar}"))?;
    }
    if planned.names.is_empty() {
        line(format!("Loaded image ID: {id}"))?;
    }
    Ok(())
}
