//! Makes a layer from a delta and the layers that it reads, which are found by their diff IDs and held meanwhile.

use crate::Engine;
use delta::{Delta, Limits};
use oci::digest::Digest;
use std::io::{BufReader, Read};
use store::{BaseFiles, BaseLayer, ChainId, DiffId, Error, LayerId, Partial, Result, UnpackedLayer};

/// Unpacks what a delta makes on top of `below`. It is read to its end; the result is checked against `diff`, and its
/// claim to make that before anything is written. With `partial`, what comes is kept for a pull that goes on after this
/// one was interrupted, and `delta` are the bytes from where an earlier one was. Memory: see `docs/deltas.md`.
pub(crate) fn unpack(
    held: &mut Held<'_>,
    below: Option<&ChainId>,
    diff: &Digest,
    partial: Option<Partial>,
    delta: &mut dyn Read,
) -> Result<UnpackedLayer> {
    let engine = held.engine;
    let mut staged = engine.store.layers.stage_pull(below, partial)?;
    let delta = BufReader::with_capacity(16 << 10, staged.keep_delta(delta)?);
    let opened = Delta::open(delta, Limits { tar_bytes: u64::MAX }).map_err(|error| match error {
        delta::Error::Io(source) => Error::Io {
            doing: "read delta".into(),
            source,
        },
        other => Error::Invalid(other.to_string()),
    })?;
    let header = opened.header();
    if header.target != *diff {
        return Err(Error::Invalid(format!("the delta makes {}, not {diff}", header.target)));
    }
    let base: Vec<LayerId> = held.all(header.base.iter().map(|base| &base.diff_id))?;
    // Whatever does not come from a base is written: a claim beyond both is a bomb, and is told before it is one.
    let most = engine.store.free_space()?.saturating_add(held.bytes());
    if header.tar_bytes / 2 > most {
        return Err(Error::Invalid(format!(
            "the delta makes {} bytes, which do not fit",
            header.tar_bytes
        )));
    }
    let files = BaseFiles::new(held.described(&base)?);
    let why = match staged.unpack_delta(opened, files) {
        Ok(unpacked) if unpacked.outcome().diff_id.0 == *diff => return Ok(unpacked),
        Ok(_) => Error::Invalid(format!("what the delta makes is not {diff}")),
        Err(error) if matches!(error, Error::Invalid(_)) || error.is_damage() => error,
        Err(error) => return Err(error),
    };
    Err(damage(engine, &base).map_or(why, Error::Invalid))
}

/// Looks if the base is the reason that what a delta makes is not what it was to be. A layer that is damaged is noted as
/// such, so that it is the base of nothing more and the next pull of its own image mends it.
fn damage(engine: &Engine, base: &[LayerId]) -> Option<String> {
    let mut found = None;
    for layer in base {
        let mut tell = |name: &str, what: &str| {
            found.get_or_insert_with(|| format!("{name} of the base has changed: {what}"));
        };
        if let Err(error) = engine.store.layers.verify(layer, true, &mut tell) {
            log::warn!("check layer {}: {error}", layer.chain_id().digest());
        }
    }
    found
}

/// The same on nothing yet, with whatever bases are here.
pub(crate) fn unpack_alone(engine: &Engine, diff: &Digest, delta: &mut dyn Read) -> Result<UnpackedLayer> {
    unpack(&mut Held::find(engine, &[])?, None, diff, None, delta)
}

/// Layers that are held while a delta is fetched and applied. What its image lost meanwhile goes when they are let go.
pub(crate) struct Held<'a> {
    engine: &'a Engine,
    /// Each with its diff ID, and whether it was of use to anybody before.
    layers: Vec<(Digest, LayerId, bool)>,
    /// What the last delta had to know of its bases: that of the next layer often has one in common.
    described: Vec<BaseLayer>,
}

impl Held<'_> {
    /// Holds layers of these diff IDs.
    pub fn find<'a>(engine: &'a Engine, diffs: &[Digest]) -> Result<Held<'a>> {
        let mut held = Held {
            engine,
            layers: Vec::new(),
            described: Vec::new(),
        };
        held.all(diffs.iter())?;
        Ok(held)
    }

    /// The layers of these diff IDs, held from now on if they were not.
    fn all<'b>(&mut self, diffs: impl Iterator<Item = &'b Digest>) -> Result<Vec<LayerId>> {
        let layers = &self.engine.store.layers;
        let mut all = Vec::new();
        for diff in diffs {
            if let Some((_, layer, _)) = self.layers.iter().find(|(held, ..)| held == diff) {
                all.push(layer.clone());
                continue;
            }
            let found = layers.with_diff_id(&DiffId(diff.clone()));
            let Some(layer) = found.into_iter().next() else {
                return Err(Error::NotFound(format!(
                    "the delta's base layer {diff} is not here or damaged"
                )));
            };
            all.push(layer.clone());
            let is_used = layers.is_used(layer.chain_id());
            self.layers.push((diff.clone(), layer, is_used));
        }
        Ok(all)
    }

    /// What a delta has to know of its bases.
    fn described(&mut self, base: &[LayerId]) -> Result<Vec<BaseLayer>> {
        let is = |known: &BaseLayer, layer: &LayerId| known.id().chain_id() == layer.chain_id();
        // Those that are not wanted now go before others come: it is what an update has most of in memory.
        self.described.retain(|known| base.iter().any(|layer| is(known, layer)));
        let mut all = Vec::new();
        for layer in base {
            let known = self.described.iter().find(|known| is(known, layer)).cloned();
            all.push(known.map_or_else(|| self.engine.store.layers.base(layer.clone()), Ok)?);
        }
        self.described.clone_from(&all);
        Ok(all)
    }

    fn bytes(&self) -> u64 {
        let info = |layer: &LayerId| self.engine.store.layers.info(layer.chain_id());
        let sizes = self.layers.iter().filter_map(|(_, layer, _)| Some(info(layer)?.size));
        sizes.fold(0, u64::saturating_add)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.described.clear();
        for (_, layer, was_used) in self.layers.drain(..) {
            let chain = layer.chain_id().clone();
            drop(layer);
            if was_used && let Err(error) = self.engine.store.layers.remove_unused(&chain) {
                log::warn!("left to the next prune: {error}");
            }
        }
    }
}
