//! A layer on its way to becoming one: staged, unpacked, committed. Dropped before that, it leaves nothing, or what
//! its next pull can go on with.

use crate::base::BaseFiles;
use crate::checkpoint::{Checkpoint, Identity, Input, Keeper};
use crate::error::{Doing, Error, Result};
use crate::layers::{self, DiffId, LayerId, LayerInfo, Layers};
use crate::partial::{self, Partial};
use crate::restart::Restartable;
use crate::spool::{Kept, Spool, Spooled};
use crate::unpack::{self, Length, Outcome, Reuse, Shared, Target};
use crate::{durable, id, overlay};
use delta::Delta;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

const TAR_SPLIT: &str = "tar-split.json.gz";

/// A directory in its final place that nobody refers to.
#[derive(Debug)]
pub struct StagedLayer {
    layers: Layers,
    parent: Option<LayerId>,
    cache_id: String,
    /// Where the record is put together, in `layerdb/tmp`, named as Docker names it.
    record: PathBuf,
    committed: bool,
    /// The checkpoints of a pull.
    partial: Option<Partial>,
    /// The delta that it is made of, as far as that has come.
    spool: Option<Spool>,
    /// What the checkpoints tell of is good, only not all of it is here.
    keep: bool,
    /// Bytes of the blob that is to come, all of it.
    blob_bytes: Option<u64>,
}

impl StagedLayer {
    pub(crate) fn create(layers: &Layers, parent: Option<LayerId>, partial: Option<Partial>) -> Result<StagedLayer> {
        let layout = layers.layout();
        let before = partial.as_ref().and_then(|partial| partial.checkpoint.as_ref());
        let resumed = before.is_some();
        let (cache_id, record_name) = match before {
            Some(checkpoint) => (checkpoint.identity.cache_id.clone(), checkpoint.identity.record.clone()),
            None => (id::long(), format!("write-set{}", id::temporary())),
        };
        layers.stage_name(&cache_id);
        layers.stage_name(&record_name);
        let record = layout.layer_tmp().join(record_name);
        let staged = StagedLayer {
            layers: layers.clone(),
            parent,
            cache_id,
            record,
            committed: false,
            partial,
            spool: None,
            keep: false,
            blob_bytes: None,
        };
        if resumed {
            staged.clear_record()?;
            return Ok(staged);
        }
        overlay::create(layout, &staged.cache_id, staged.parent_cache_id()?.as_deref())?;
        durable::mkdir(&staged.record, 0o700)?;
        Ok(staged)
    }

    /// Removes what a run that was cut at its very end had written of the record: it is written again.
    fn clear_record(&self) -> Result<()> {
        for entry in fs::read_dir(&self.record).doing("list", &self.record)? {
            let entry = entry.doing("list", &self.record)?;
            if entry.file_name() != TAR_SPLIT {
                fs::remove_file(entry.path()).doing("remove", entry.path())?;
            }
        }
        Ok(())
    }

    fn parent_cache_id(&self) -> Result<Option<String>> {
        let Some(parent) = &self.parent else { return Ok(None) };
        let chain = parent.chain_id();
        let info = self.layers.info(chain).ok_or_else(|| layers::missing(chain))?;
        Ok(Some(info.cache_id))
    }

    /// Unpacks an uncompressed tar, to its very end. When this returns, files and record are durable, but not a layer
    /// yet: [`UnpackedLayer::commit`] makes it one. On an error everything is removed.
    pub fn unpack(self, mut tar: impl Read) -> Result<UnpackedLayer> {
        let outcome = self.run(&mut tar, None, None, None, None)?;
        Ok(UnpackedLayer { staged: self, outcome })
    }

    /// The same of a tar of which some files need not be written.
    pub(crate) fn unpack_linking(self, tar: &mut dyn Read, reuse: Reuse) -> Result<UnpackedLayer> {
        let outcome = self.run(tar, None, None, Some(reuse), None)?;
        Ok(UnpackedLayer { staged: self, outcome })
    }

    /// Where its files are put.
    pub(crate) fn diff(&self) -> PathBuf {
        self.layers.layout().overlay_layer(&self.cache_id).join("diff")
    }

    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// A delta as it is to be read for [`StagedLayer::unpack_delta`]: `rest` are its bytes from [`Partial::offset`] on,
    /// before which come those that an earlier pull kept. What comes is kept for the next one.
    pub fn keep_delta<R: Read>(&mut self, rest: R) -> Result<Spooled<R>> {
        let Some(partial) = &self.partial else {
            return Ok(Spooled::new(None, rest, None));
        };
        let (spool, before) = match &partial.checkpoint {
            None => (Spool::new(&partial.directory), None),
            Some(checkpoint) => {
                let (spool, before) = Spool::resume(&partial.directory, checkpoint.point.input)?;
                (spool, Some(before))
            }
        };
        self.spool = Some(spool.clone());
        Ok(Spooled::new(before, rest, Some(spool)))
    }

    /// What will have come of the delta of [`StagedLayer::keep_delta`] when this is read, for another try with it.
    pub fn kept_delta(&self) -> Option<Kept> {
        self.spool.clone().map(Kept::new)
    }

    /// Unpacks an uncompressed tar that is made, from its first byte on, of a delta of [`StagedLayer::keep_delta`]. As
    /// [`StagedLayer::unpack_blob`].
    pub fn unpack_made(mut self, mut tar: impl Read) -> Result<UnpackedLayer> {
        let result = self.run_made(&mut tar);
        if let Err(error) = &result {
            self.keep = self.spool.is_some() && is_interruption(error);
        }
        result.map(|outcome| UnpackedLayer { staged: self, outcome })
    }

    fn run_made(&self, tar: &mut dyn Read) -> Result<Outcome> {
        let (before, keeper) = self.going_on()?;
        if let Some(checkpoint) = before {
            skip(tar, checkpoint.place.tar)?;
        }
        self.run(tar, before, keeper, None, None)
    }

    /// Of a delta that is kept: where an earlier pull was, and who notes where this one is.
    fn going_on(&self) -> Result<(Option<&Checkpoint>, Option<Keeper>)> {
        match (&self.partial, &self.spool) {
            (Some(partial), Some(spool)) => {
                let keeper = self.keeper(partial, Input::Delta(spool.clone()))?;
                Ok((partial.checkpoint.as_ref(), Some(keeper)))
            }
            _ => Ok((None, None)),
        }
    }

    /// Unpacks what a delta makes of the base's layers, which are those that its head names, in that order. As
    /// [`StagedLayer::unpack_blob`] if the delta is one of [`StagedLayer::keep_delta`], else as [`StagedLayer::unpack`];
    /// files that are in the base already are linked instead of written. The delta is read to its very end. Nothing of
    /// the base is changed. Of the base only kinds and sizes are checked: who does not get the diff ID that was expected
    /// may find a base that has changed.
    pub fn unpack_delta<R: Read>(mut self, delta: Delta<R>, base: BaseFiles) -> Result<UnpackedLayer> {
        let result = self.run_delta(delta, base);
        if let Err(error) = &result {
            self.keep = self.spool.is_some() && is_interruption(error);
        }
        result.map(|outcome| UnpackedLayer { staged: self, outcome })
    }

    fn run_delta<R: Read>(&self, delta: Delta<R>, base: BaseFiles) -> Result<Outcome> {
        let wrong = |error: delta::Error| match error {
            delta::Error::Io(source) => Error::Io {
                doing: "read layer".into(),
                source,
            },
            other => Error::Invalid(other.to_string()),
        };
        let root = durable::open_directory(&self.diff())?;
        let parent = self.parent.as_ref().map(LayerId::chain_id);
        let below: Vec<_> = parent.map(|parent| self.layers.chain(parent)).unwrap_or_default();
        let below: Vec<_> = below.into_iter().map(|(chain, _)| chain).collect();
        let length = Length::Tar(delta.header().tar_bytes);
        let pieces = delta.pieces(base.layers()).map_err(wrong)?;
        let below = base.among(&below);
        let known = Shared::new(base, root);
        // Who unpacks hashes.
        let mut target = delta::Target::new(pieces, known.clone()).unhashed();
        let reuse = Reuse::new(target.hints(), known, below);
        let (before, keeper) = self.going_on()?;
        if let Some(checkpoint) = before {
            target.skip(checkpoint.place.tar).map_err(wrong)?;
        }
        self.run(&mut target, before, keeper, Some(reuse), Some(length))
    }

    fn keeper(&self, partial: &Partial, input: Input) -> Result<Keeper> {
        let identity = Identity {
            blob: partial.blob.clone(),
            cache_id: self.cache_id.clone(),
            parent_cache_id: self.parent_cache_id()?,
            record: self.record_name(),
        };
        Ok(Keeper::new(partial.directory.clone(), identity, input))
    }

    /// Says if an earlier pull is gone on with, and so the blob's first bytes are not asked for again.
    pub fn is_resumed(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| partial.checkpoint.is_some())
    }

    /// Tells how many bytes the whole blob has, which saves writes: it is a claim that nothing else relies on.
    pub fn sized(mut self, blob_bytes: u64) -> StagedLayer {
        self.blob_bytes = Some(blob_bytes);
        self
    }

    /// Unpacks a blob, compressed or not, from [`Partial::offset`] to its very end, noting checkpoints on the way.
    /// As [`StagedLayer::unpack`], but after an error of the stream itself, what is there is kept for the next pull.
    pub fn unpack_blob(mut self, mut blob: impl Read) -> Result<UnpackedLayer> {
        let result = self.run_blob(&mut blob);
        if let Err(error) = &result {
            self.keep = is_interruption(error);
        }
        result.map(|outcome| UnpackedLayer { staged: self, outcome })
    }

    fn run_blob(&self, blob: &mut dyn Read) -> Result<Outcome> {
        let before = self.partial.as_ref().and_then(|partial| partial.checkpoint.as_ref());
        let mut stream = match before {
            None => Restartable::open(blob)?,
            Some(checkpoint) => Restartable::resume(blob, checkpoint.point.clone())?,
        };
        let keeper = self.partial.as_ref();
        let keeper = keeper.map(|partial| self.keeper(partial, Input::Blob(stream.points())));
        let keeper = keeper.transpose()?;
        if let Some(checkpoint) = before {
            // What lies between the place where decompression could begin and the place reached.
            skip(&mut stream, checkpoint.place.tar - checkpoint.point.output)?;
        }
        let length = self.blob_bytes.map(|bytes| Length::Blob(bytes, stream.points()));
        let outcome = self.run(&mut stream, before, keeper, None, length)?;
        // What follows the archive is part of the blob and of its digest.
        stream.drain().map_err(|source| Error::Io {
            doing: "read the rest of the blob".into(),
            source,
        })?;
        Ok(outcome)
    }

    /// Whatever the stream is, what is made of it is in the binary once.
    fn run(
        &self,
        tar: &mut dyn Read,
        from: Option<&Checkpoint>,
        keeper: Option<Keeper>,
        reuse: Option<Reuse>,
        length: Option<Length>,
    ) -> Result<Outcome> {
        let target = Target {
            diff: &self.diff(),
            tar_split: &self.record.join(TAR_SPLIT),
            from: from.map(|checkpoint| &checkpoint.place),
            keeper,
            reuse,
            length,
        };
        unpack::layer(tar, target, |outcome| {
            layers::write_record(&self.record, &self.info(outcome))
        })
    }

    fn record_name(&self) -> String {
        let name = self.record.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
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

/// Passes what an earlier pull unpacked already.
fn skip(tar: &mut dyn Read, bytes: u64) -> Result<()> {
    let skipped = io::copy(&mut tar.take(bytes), &mut io::sink()).map_err(|source| Error::Io {
        doing: "read layer".into(),
        source,
    })?;
    match skipped == bytes {
        true => Ok(()),
        false => Err(Error::Invalid("a checkpoint is beyond the end of its layer".into())),
    }
}

/// Says if the stream ended before its time and what came of it is good: a network that broke, a client that left.
/// A full disk, damaged data and what no layer may hold are no such thing.
fn is_interruption(error: &Error) -> bool {
    matches!(error, Error::Io { doing, source } if doing == "read layer" && source.kind() == ErrorKind::Other)
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        let layout = self.layers.layout();
        let keep = self.keep && !self.committed;
        // Without a checkpoint there is nothing to go on with.
        let is_begun = |partial: &Partial| Checkpoint::load(&partial.directory).is_some();
        let kept = keep && self.partial.as_ref().is_some_and(is_begun);
        if let Some(partial) = self.partial.as_ref().filter(|_| !kept)
            && let Err(error) = partial::remove(layout, &partial.directory, None)
        {
            log::warn!("left to the sweep: {error}");
        }
        if !self.committed && !kept {
            if let Err(error) = overlay::remove(layout, &self.cache_id) {
                log::warn!("left to the sweep: {error}");
            }
            let _ = fs::remove_dir_all(&self.record);
        }
        self.layers.unstage_name(&self.cache_id);
        self.layers.unstage_name(&self.record_name());
    }
}

/// Opens a regular file in a layer's directory; nothing if there is none of that name.
pub(crate) fn open_in(diff: &Path, name: &str) -> Result<Option<fs::File>> {
    let root = durable::open_directory(diff)?;
    match crate::rebuild::open(root.as_fd(), name.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("open", diff.join(name)),
        Ok(file) => {
            let file = file.file().try_clone().doing("open", diff.join(name))?;
            match file.metadata().doing("stat", diff.join(name))?.is_file() {
                true => Ok(Some(file)),
                false => Err(Error::Invalid(format!("{} is no file", diff.join(name).display()))),
            }
        }
    }
}

/// A layer whose files are durable, and of which the diff ID is known.
#[derive(Debug)]
pub struct UnpackedLayer {
    staged: StagedLayer,
    outcome: Outcome,
}

impl UnpackedLayer {
    /// Opens one of its files for reading; nothing if there is none of that name.
    pub fn open(&self, name: &str) -> Result<Option<fs::File>> {
        let layout = self.staged.layers.layout();
        open_in(&layout.overlay_layer(&self.staged.cache_id).join("diff"), name)
    }

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

    /// Puts it in the place of the same layer, which was found damaged, in one step: the directories of their files
    /// change places, so that everything that refers to the layer refers to the good one. Whoever has the layer mounted
    /// has the old files, so nobody may; `is_mounted` is asked again before they are removed.
    pub fn replace(mut self, damaged: &LayerId, is_mounted: impl Fn() -> bool) -> Result<()> {
        if is_mounted() {
            return Err(Error::Conflict(format!(
                "replace layer {}: a running container has it; stop that first",
                damaged.chain_id().digest().short()
            )));
        }
        let layers = &self.staged.layers;
        let chain = damaged.chain_id();
        let old = layers.info(chain).ok_or_else(|| layers::missing(chain))?;
        if self.outcome.diff_id != old.diff_id {
            return Err(Error::Invalid(format!(
                "replace layer {}: its diff ID is {}, that of the new one {}",
                chain.digest(),
                old.diff_id.0,
                self.outcome.diff_id.0
            )));
        }
        let layout = layers.layout();
        let there = layout.overlay_layer(&old.cache_id).join("diff");
        let split = layout.layer_record(chain).join(TAR_SPLIT);
        // Both tar-splits tell the same of the same tar, so either goes with either directory.
        let bytes = fs::read(self.staged.record.join(TAR_SPLIT)).doing("read", &self.staged.record)?;
        durable::write_atomic(&split, &bytes, 0o644)?;
        layers::restore_record(&layout.layer_record(chain), &old)?;
        durable::exchange(&layout.overlay_layer(&self.staged.cache_id).join("diff"), &there)?;
        layers.set_damaged(chain, false)?;
        // Mounted meanwhile: what it has is left to the sweep of the next start.
        self.staged.committed = is_mounted();
        Ok(())
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
