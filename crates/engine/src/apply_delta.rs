//! Makes a layer from a delta and the layers that it reads, which are found by their diff IDs and held meanwhile.

use crate::Engine;
use crate::rescue::Rescue;
use delta::{Delta, FileId, Limits};
use oci::digest::Digest;
use std::collections::HashSet;
use std::io::{BufReader, Read};
use store::{BaseFiles, BaseLayer, ChainId, DiffId, Error, LayerId, Partial, Result, StagedLayer, UnpackedLayer};

/// What is to be made, and with what help.
pub(crate) struct Target<'a> {
    pub below: Option<&'a ChainId>,
    pub diff: &'a Digest,
    /// What comes is kept for a pull that goes on after this one was interrupted, and the delta's bytes are those from
    /// where an earlier one was.
    pub partial: Option<Partial>,
    /// Files that the base has no more come from here.
    pub rescue: Option<&'a Rescue>,
}

/// Unpacks what a delta makes. It is read to its end; the result is checked against the target's diff ID, and its claim to
/// make that before anything is written. If the base turns out to have changed where nobody could see it, the layer is
/// made once more of the same delta, without the files that have. Memory: see `docs/deltas.md`.
pub(crate) fn unpack(held: &mut Held<'_>, target: Target<'_>, delta: &mut dyn Read) -> Result<UnpackedLayer> {
    let engine = held.engine;
    let mut staged = engine.store.layers.stage_pull(target.below, target.partial)?;
    let mut stream = staged.keep_delta(&mut *delta)?;
    let kept = staged.kept_delta();
    let opened = open(&mut stream, target.diff)?;
    let base: Vec<LayerId> = held.all(opened.header().base.iter().map(|base| &base.diff_id))?;
    // Whatever does not come from a base is written: a claim beyond both is a bomb, and is told before it is one.
    let most = engine.store.free_space()?.saturating_add(held.bytes());
    let tar_bytes = opened.header().tar_bytes;
    if tar_bytes / 2 > most {
        return Err(Error::Invalid(format!(
            "the delta makes {tar_bytes} bytes, which do not fit"
        )));
    }
    let files = held.files(&base, target.rescue, &[])?;
    let why = match make(staged, opened, files, target.diff) {
        Ok(made) => {
            note_damage(engine, &base, target.rescue);
            return Ok(made);
        }
        Err(error) if is_about_content(&error) => error,
        Err(error) => return Err(error),
    };
    let Some(damage) = find_damage(held, &base)? else {
        return Err(why);
    };
    if damage.changed.is_empty() {
        // All that is wrong was known while it was made: what could have been done then was tried.
        return Err(Error::Invalid(format!("{}; {why}", damage.text)));
    }
    let (Some(rescue), Some(kept)) = (target.rescue, kept) else {
        return Err(Error::Invalid(damage.text));
    };
    log::warn!(
        "layer {}: once more without what has changed: {}",
        target.diff,
        damage.text
    );
    let files = held.files(&base, Some(rescue), &damage.changed)?;
    let again = rescue.prepare().map_err(read_error).and_then(|()| {
        let mut stream = kept.chain(delta);
        // Of a try that is interrupted nothing is kept: the base is none any more for the next pull.
        let staged = engine.store.layers.stage_pull(target.below, None)?;
        make(staged, open(&mut stream, target.diff)?, files, target.diff)
    });
    again.map_err(|error| match is_about_content(&error) {
        true => Error::Invalid(format!("{}; {error}", damage.text)),
        false => error,
    })
}

type Opened<'a> = Delta<BufReader<&'a mut dyn Read>>;

/// Reads a delta's head, and checks that it makes what it is to make.
fn open<'a>(stream: &'a mut dyn Read, diff: &Digest) -> Result<Opened<'a>> {
    let stream = BufReader::with_capacity(16 << 10, stream);
    let opened = Delta::open(stream, Limits { tar_bytes: u64::MAX }).map_err(|error| match error {
        delta::Error::Io(source) => Error::Io {
            doing: "read delta".into(),
            source,
        },
        other => Error::Invalid(other.to_string()),
    })?;
    match opened.header().target == *diff {
        true => Ok(opened),
        false => Err(Error::Invalid(format!(
            "the delta makes {}, not {diff}",
            opened.header().target
        ))),
    }
}

fn make(staged: StagedLayer, delta: Opened<'_>, files: BaseFiles, diff: &Digest) -> Result<UnpackedLayer> {
    let made = staged.unpack_delta(delta, files)?;
    match made.outcome().diff_id.0 == *diff {
        true => Ok(made),
        false => Err(Error::Invalid(format!("what the delta makes is not {diff}"))),
    }
}

fn read_error(source: std::io::Error) -> Error {
    Error::Io {
        doing: "read layer".into(),
        source,
    }
}

/// Another delta, or the base as it was, may be better.
fn is_about_content(error: &Error) -> bool {
    matches!(error, Error::Invalid(_)) || error.is_damage()
}

/// What is wrong with a base.
struct Damage {
    /// The first of it in words.
    text: String,
    /// Files with another content than they had.
    changed: Vec<FileId>,
}

/// Looks if the base is the reason that what a delta makes is not what it was to be. A layer that is damaged is noted as
/// such, so that it is the base of nothing more and the next pull of its own image mends it.
fn find_damage(held: &mut Held<'_>, base: &[LayerId]) -> Result<Option<Damage>> {
    let (mut found, mut changed) = (None, Vec::new());
    for (number, layer) in (0..).zip(base) {
        let mut names = HashSet::new();
        let mut tell = |name: &str, what: &str| {
            found.get_or_insert_with(|| format!("{name} of the base has changed: {what}"));
            names.insert(name.to_owned());
        };
        if let Err(error) = held.engine.store.layers.verify(layer, true, &mut tell) {
            log::warn!("check layer {}: {error}", layer.chain_id().digest());
        }
        if !names.is_empty() {
            changed.extend(held.files(base, None, &[])?.find_changed(number, &names));
        }
    }
    Ok(found.map(|text| Damage { text, changed }))
}

/// Notes the layers of which files were missing.
fn note_damage(engine: &Engine, base: &[LayerId], rescue: Option<&Rescue>) {
    let lacking = rescue.map(Rescue::layers).unwrap_or_default();
    for (_, layer) in (0..).zip(base).filter(|(number, _)| lacking.contains(number)) {
        if let Err(error) = engine.store.layers.note_damaged(layer) {
            log::warn!("note that layer {} is damaged: {error}", layer.chain_id().digest());
        }
    }
}

/// The same on nothing yet, with whatever bases are here.
pub(crate) fn unpack_alone(engine: &Engine, diff: &Digest, delta: &mut dyn Read) -> Result<UnpackedLayer> {
    let target = Target {
        below: None,
        diff,
        partial: None,
        rescue: None,
    };
    unpack(&mut Held::find(engine, &[])?, target, delta)
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

    /// The files of a base, some of which may be known to have changed.
    fn files(&mut self, base: &[LayerId], rescue: Option<&Rescue>, changed: &[FileId]) -> Result<BaseFiles> {
        let files = BaseFiles::new(self.described(base)?);
        Ok(match rescue {
            Some(rescue) => files.or_from(Box::new(rescue.clone()), changed),
            None => files,
        })
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
