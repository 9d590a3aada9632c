//! A layer on its way to becoming one: staged, unpacked, committed. Dropped before that, it leaves nothing.

use crate::error::{Error, Result};
use crate::layers::{self, DiffId, LayerId, LayerInfo, Layers};
use crate::unpack::{self, Outcome};
use crate::{durable, id, overlay};
use std::io::Read;
use std::path::PathBuf;

/// A directory in its final place that nobody refers to.
#[derive(Debug)]
pub struct StagedLayer {
    layers: Layers,
    parent: Option<LayerId>,
    cache_id: String,
    /// Where the record is put together, in `layerdb/tmp`, named as Docker names it.
    record: PathBuf,
    committed: bool,
}

impl StagedLayer {
    pub(crate) fn create(layers: &Layers, parent: Option<LayerId>) -> Result<StagedLayer> {
        let layout = layers.layout();
        let (cache_id, record_name) = (id::long(), format!("write-set{}", id::temporary()));
        layers.stage_name(&cache_id);
        let record = layout.layer_tmp().join(record_name);
        let staged = StagedLayer {
            layers: layers.clone(),
            parent,
            cache_id,
            record,
            committed: false,
        };
        let below = match &staged.parent {
            None => None,
            Some(parent) => Some(
                layers
                    .info(parent.chain_id())
                    .ok_or_else(|| layers::missing(parent.chain_id()))?
                    .cache_id,
            ),
        };
        overlay::create(layout, &staged.cache_id, below.as_deref())?;
        durable::mkdir(&staged.record, 0o700)?;
        Ok(staged)
    }

    /// Unpacks an uncompressed tar, to its very end. When this returns, files and record are durable, but not a layer
    /// yet: [`UnpackedLayer::commit`] makes it one. On an error everything is removed.
    pub fn unpack(self, tar: impl Read) -> Result<UnpackedLayer> {
        let diff = self.diff_path();
        let split = self.record.join("tar-split.json.gz");
        let outcome = unpack::layer(tar, &diff, &split, |outcome| {
            layers::write_record(&self.record, &self.info(outcome))
        })?;
        Ok(UnpackedLayer { staged: self, outcome })
    }

    fn diff_path(&self) -> PathBuf {
        self.layers.layout().overlay_layer(&self.cache_id).join("diff")
    }

    fn info(&self, outcome: &Outcome) -> LayerInfo {
        LayerInfo {
            parent: self.parent.as_ref().map(|parent| parent.chain_id().clone()),
            diff_id: outcome.diff_id.clone(),
            size: outcome.size,
            cache_id: self.cache_id.clone(),
        }
    }
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        if !self.committed {
            if let Err(error) = overlay::remove(self.layers.layout(), &self.cache_id) {
                log::warn!("left to the sweep: {error}");
            }
            let _ = std::fs::remove_dir_all(&self.record);
        }
        self.layers.unstage_name(&self.cache_id);
    }
}

/// A layer whose files are durable, and of which the diff ID is known.
#[derive(Debug)]
pub struct UnpackedLayer {
    staged: StagedLayer,
    outcome: Outcome,
}

impl UnpackedLayer {
    /// What came out of the tar.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Makes it a layer, in one step, if it is the one that was expected. If that layer came to be meanwhile, it is
    /// returned, and what was unpacked goes.
    pub fn commit(mut self, expected: &DiffId) -> Result<LayerId> {
        if *expected != self.outcome.diff_id {
            return Err(Error::Invalid(format!(
                "layers from manifest don't match image configuration: diff ID is {}, expected {}",
                self.outcome.diff_id.0, expected.0
            )));
        }
        let info = self.staged.info(&self.outcome);
        let (layer, adopted) = self
            .staged
            .layers
            .adopt(self.staged.parent.as_ref(), info, &self.staged.record)?;
        self.staged.committed = adopted;
        Ok(layer)
    }

    /// Makes it a layer whatever its diff ID: for what is made here, by commit or build.
    pub fn commit_as_is(self) -> Result<LayerId> {
        let diff_id = self.outcome.diff_id.clone();
        self.commit(&diff_id)
    }

    /// Puts a layer that was unpacked on nothing on top of another: an archive may name parents last, and the files
    /// of a layer are the same whatever lies below them. Durable when it returns.
    pub fn onto(mut self, parent: &LayerId) -> Result<UnpackedLayer> {
        let staged = &mut self.staged;
        let info = staged.layers.info(parent.chain_id());
        let below = info.ok_or_else(|| layers::missing(parent.chain_id()))?.cache_id;
        overlay::put_on(staged.layers.layout(), &staged.cache_id, &below)?;
        durable::write_new(
            &staged.record.join("parent"),
            parent.chain_id().digest().as_str().as_bytes(),
            0o644,
        )?;
        durable::sync_directory(&staged.record)?;
        staged.parent = Some(parent.clone());
        Ok(self)
    }
}
