//! balenaEngine's deltas: images whose layers hold, instead of files, what makes them from another image's.
//!
//! Such an image names its base and has its target's config in two labels. Each of its layers is a tar with one file
//! `delta`, which is applied to the tars of all the base's layers in a row ([`delta::rsync`]), or an empty tar, which
//! says that the target's layer is the base's. What comes of it is the target: its config, layers that have the diff
//! IDs which that names, its image ID. The base is the image in the store, or in a second, read-only one.

use crate::Engine;
use crate::error::{Error, Result};
use delta::rsync::{PatchError, Patched, ReadAt};
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::tar::{Kind, Reader};
use std::io::{self, BufReader, Read};
use store::{BaseTar, ChainId, DiffId, ImageId, LayerId, OtherStore, StagedLayer, UnpackedLayer};

const BASE: &str = "io.resin.delta.base";
const CONFIG: &str = "io.resin.delta.config";
/// The one file of a layer.
pub(crate) const FILE: &str = "delta";

/// What a delta image says that it makes, and of what.
pub(crate) struct Target {
    pub base: Digest,
    pub config_bytes: Vec<u8>,
    pub config: ImageConfig,
}

impl Target {
    /// Reads it from an image's config; nothing for an image that is no delta.
    pub fn of(delta: &ImageConfig) -> Result<Option<Target>> {
        let labels = crate::image::labels_of(delta);
        let (Some(base), Some(text)) = (labels.get(BASE), labels.get(CONFIG)) else {
            return Ok(None);
        };
        let bad = |why: String| Error::invalid(format!("invalid delta image: {why}"));
        let base = Digest::parse(base).map_err(|e| bad(format!("{BASE}: {e}")))?;
        let config = ImageConfig::parse(text.as_bytes()).map_err(|e| bad(format!("{CONFIG}: {e}")))?;
        let (has, makes) = (delta.rootfs.diff_ids.len(), config.rootfs.diff_ids.len());
        if has != makes || makes > oci::manifest::MAX_LAYERS {
            return Err(bad(format!("it has {has} layers, its target {makes}")));
        }
        if config.os.as_deref().is_some_and(|os| !os.is_empty() && os != "linux") {
            return Err(bad("its target cannot be used on this platform".into()));
        }
        Ok(Some(Target {
            base,
            config_bytes: text.clone().into_bytes(),
            config,
        }))
    }

    pub fn id(&self) -> ImageId {
        ImageId(store::hash::sha256(&self.config_bytes))
    }

    /// The target's layers.
    pub fn diffs(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }
}

/// Where the base is.
enum Place {
    Here(Vec<LayerId>),
    Elsewhere(OtherStore),
}

/// A base that was found, held where that is possible.
pub(crate) struct Base<'a> {
    engine: &'a Engine,
    place: Place,
    diffs: Vec<Digest>,
    tar: BaseTar,
}

impl<'a> Base<'a> {
    /// Finds a target's base.
    pub fn find(engine: &'a Engine, target: &Target) -> Result<Base<'a>> {
        let id = ImageId(target.base.clone());
        if let Ok(config) = engine.store.images.config(&id) {
            let diffs = config.rootfs.diff_ids;
            let mut layers: Vec<LayerId> = Vec::new();
            for diff in &diffs {
                let below = layers.last().map(LayerId::chain_id);
                let chain = ChainId::of(below, &DiffId(diff.clone()));
                let layer = engine.store.layers.get(&chain);
                layers.push(layer.ok_or_else(|| Error::not_found(format!("the delta's base {id} is damaged")))?);
            }
            return Ok(Base {
                engine,
                tar: engine.store.layers.base_tar(&layers)?,
                place: Place::Here(layers),
                diffs,
            });
        }
        let mut places = String::from("here");
        if let Some(root) = &engine.config.delta_data_root {
            places = format!("here, nor in {}", root.display());
            let other = OtherStore::new(root);
            if let Some(config) = other.config(&target.base)? {
                let diffs = config.rootfs.diff_ids;
                return Ok(Base {
                    engine,
                    tar: other.base_tar(&diffs, 0)?,
                    place: Place::Elsewhere(other),
                    diffs,
                });
            }
        }
        Err(Error::not_found(format!(
            "the delta's base {id} is not {places}: pull the image itself"
        )))
    }

    /// Makes the target's layer `index` where it is `staged` from a layer of the delta image, an uncompressed tar.
    pub fn layer(
        &mut self,
        target: &Target,
        index: usize,
        staged: StagedLayer,
        tar: &mut dyn Read,
    ) -> store::Result<UnpackedLayer> {
        let broken = |e: oci::tar::TarError| match e {
            oci::tar::TarError::Io(source) => store::Error::Io {
                doing: "read layer".into(),
                source,
            },
            other => store::Error::Invalid(format!("invalid delta image: {other}")),
        };
        let mut reader = Reader::with_tap(BufReader::with_capacity(64 << 10, tar), ());
        let Some(entry) = reader.next_entry().map_err(broken)? else {
            reader.finish().map_err(broken)?;
            return self.same(target, index, staged);
        };
        if entry.name != FILE.as_bytes() || entry.kind != Kind::Regular {
            return Err(store::Error::Invalid(
                "invalid delta image: a layer has another file than a delta".into(),
            ));
        }
        let layer = self.patched(target, index, staged, &mut reader)?;
        if reader.next_entry().map_err(broken)?.is_some() {
            return Err(store::Error::Invalid(
                "invalid delta image: a layer has more than a delta".into(),
            ));
        }
        reader.finish().map_err(broken)?;
        Ok(layer)
    }

    /// The same from the delta itself; nothing stands for an empty tar.
    pub fn layer_of_file(
        &mut self,
        target: &Target,
        index: usize,
        below: Option<&ChainId>,
        delta: Option<std::fs::File>,
    ) -> store::Result<UnpackedLayer> {
        let staged = self.engine.store.layers.stage(below)?;
        match delta {
            Some(file) => self.patched(target, index, staged, &mut BufReader::with_capacity(64 << 10, file)),
            None => self.same(target, index, staged),
        }
    }

    fn patched(
        &mut self,
        target: &Target,
        index: usize,
        staged: StagedLayer,
        delta: &mut dyn Read,
    ) -> store::Result<UnpackedLayer> {
        let bytes = self.tar.bytes();
        // Copies may repeat, and every byte of the result is written: more than there is room for is a bomb.
        let limit = self
            .engine
            .store
            .free_space()?
            .saturating_mul(2)
            .saturating_add(64 << 20);
        let wanted = target.diffs()[index].clone();
        let failed = |error: PatchError| match error {
            PatchError::Read(source) => store::Error::Io {
                doing: "read layer".into(),
                source,
            },
            other => store::Error::Invalid(other.to_string()),
        };
        let mut patched = Patched::new(delta, &mut self.tar, bytes, limit, wanted).map_err(failed)?;
        staged.unpack_made(&mut patched as &mut dyn Read)
    }

    /// The base's layer once more: on another parent, or from the other store.
    fn same(&mut self, target: &Target, index: usize, staged: StagedLayer) -> store::Result<UnpackedLayer> {
        if self.diffs.get(index) != Some(&target.diffs()[index]) {
            return Err(store::Error::Invalid(format!(
                "invalid delta image: layer {index} is empty, and the base has another one there"
            )));
        }
        let tar = match &self.place {
            Place::Here(layers) => self.engine.store.layers.base_tar(&layers[index..=index])?,
            Place::Elsewhere(other) => other.base_tar(&self.diffs[..=index], index)?,
        };
        let mut whole = Whole { tar, at: 0 };
        staged.unpack(&mut whole as &mut dyn Read)
    }
}

/// Tars from their beginning to their end.
struct Whole {
    tar: BaseTar,
    at: u64,
}

impl Read for Whole {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.tar.bytes() - self.at;
        let n = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        self.tar.read_at(self.at, &mut into[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}
