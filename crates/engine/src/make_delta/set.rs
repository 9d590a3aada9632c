//! The deltas that make one image from another, and how they are described: the artifact.
//!
//! A target's layer that the base has needs none. Any other gets one against all of the base's layers; which of them it
//! reads, it says itself.

use super::source::{Files, Image, Layer, Named, Spool, Surveys, Watched};
use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use delta::make::{self, Report, Survey};
use json::Serialize;
use oci::delta::{ARTIFACT, BASES, CREATED, EMPTY, FULL, LAYER, SIZE, SPACE, TARGET, WRITTEN};
use oci::digest::Digest;
use oci::manifest::{Descriptor, media_type};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::rc::Rc;
use std::sync::Arc;
use store::hash::{Hashing, sha256};

/// The empty config of an artifact.
pub const NOTHING: &[u8] = b"{}";

/// One layer's delta.
pub struct Delta {
    pub target: Digest,
    /// The layers it reads.
    pub bases: Vec<Digest>,
    pub digest: Digest,
    pub bytes: u64,
    /// Bytes of the layer's tar.
    pub tar: u64,
    /// Bytes of the layer's blob that it stands for.
    pub full: u64,
    /// What applying it adds to a disk.
    pub space: u64,
    /// What of it is added wherever it is applied.
    pub written: u64,
    pub file: Arc<File>,
    /// The files that take most of it, with about how many bytes.
    pub largest: Vec<(String, u64)>,
    /// Files and their bytes: the base's own, the target's own again, patched, new.
    pub ways: [make::Amount; 4],
    /// Of the first, what only has another header.
    pub touched: make::Amount,
}

/// The deltas from one image to another.
pub struct Set {
    /// What the base was called.
    pub base: String,
    pub deltas: Vec<Delta>,
}

/// Makes the deltas from `base` to `target`.
pub fn make(
    base: &Image,
    target: &Image,
    surveys: &mut Surveys,
    spool: &Spool,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Set> {
    let mut there = BTreeSet::new();
    let distinct: Vec<&Layer> = base.layers.iter().filter(|layer| there.insert(layer.diff())).collect();
    let mut set = Set {
        base: base.name.clone(),
        deltas: Vec::new(),
    };
    for (at, layer) in target.layers.iter().enumerate() {
        if !there.insert(layer.diff()) {
            progress.status(layer.diff().short(), "Skipping common layer")?;
            continue;
        }
        let mut old = Vec::with_capacity(distinct.len());
        for layer in &distinct {
            old.push((*layer, surveys.of(layer, progress, cancel)?));
        }
        let full = match target.blob_size(at) {
            Some(size) => size,
            None => layer.length()?,
        };
        let made = one(&old, layer, full, surveys, spool, progress, cancel);
        set.deltas.push(made.map_err(|error| match cancel.is_set() {
            true => Error::cancelled(),
            false => error,
        })?);
    }
    Ok(set)
}

fn one(
    old: &[(&Layer, Rc<Survey>)],
    layer: &Layer,
    full: u64,
    surveys: &mut Surveys,
    spool: &Spool,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Delta> {
    let survey = surveys.of(layer, progress, cancel)?;
    let id = layer.diff().short().to_string();
    let tar = Watched::new(
        layer.tar()?,
        (&id, "Computing delta"),
        survey.tar_bytes(),
        progress,
        cancel,
    );
    let file = Arc::new(spool.file()?);
    let mut out = Hashing::new(BufWriter::with_capacity(256 << 10, &*file));
    let references: Vec<&Survey> = old.iter().map(|(_, survey)| &**survey).collect();
    let mut contents = Files::new(old)?;
    let report = make::write(&references, &mut contents, &survey, tar, &mut out).context(format!("layer {id}"))?;
    out.flush().context("write a temporary file")?;
    let (_, digest) = out.into_parts();
    progress.status(&id, "Delta complete")?;
    Ok(Delta {
        target: layer.diff().clone(),
        bases: report.header.base.iter().map(|base| base.diff_id.clone()).collect(),
        digest,
        bytes: report.bytes,
        tar: survey.tar_bytes(),
        full,
        space: report.space(),
        written: report.written(),
        file,
        largest: named(&survey, &report),
        ways: report.ways,
        touched: report.touched,
    })
}

fn named(survey: &Survey, report: &Report) -> Vec<(String, u64)> {
    let name = |entry: u32| {
        let entry = survey.layer().entry(entry)?;
        Some(String::from_utf8_lossy(&entry.name).into_owned())
    };
    let all = report.largest.iter();
    all.filter_map(|&(entry, bytes)| Some((name(entry)?, bytes))).collect()
}

impl Set {
    /// Bytes of all deltas.
    pub fn bytes(&self) -> u64 {
        self.deltas.iter().map(|delta| delta.bytes).sum()
    }

    /// Bytes of the blobs that the deltas stand for.
    pub fn full(&self) -> u64 {
        self.deltas.iter().map(|delta| delta.full).sum()
    }

    /// What applying all adds to a disk.
    pub fn space(&self) -> u64 {
        self.deltas.iter().map(|delta| delta.space).sum()
    }

    /// Takes out deltas that are larger than the layers they stand for.
    pub fn without_losses(&mut self) {
        self.deltas.retain(|delta| delta.bytes < delta.full);
    }
}

/// A set as an artifact that refers to the target's manifest.
pub struct Artifact {
    /// As a list of referrers has it.
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Descriptor,
    annotations: BTreeMap<String, String>,
}

/// A descriptor without anything that is optional.
pub fn descriptor(kind: &str, digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: kind.to_string(),
        size,
        digest: digest.clone(),
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: None,
    }
}

fn list<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> String {
    let texts: Vec<&str> = digests.into_iter().map(Digest::as_str).collect();
    texts.join(",")
}

/// Describes a set. The same set for the same target is the same bytes, whenever it is made.
pub fn describe(set: &Set, subject: &Named, target: &Image) -> Result<Artifact> {
    let layers = set.deltas.iter().map(|delta| {
        let mut layer = descriptor(LAYER, &delta.digest, delta.bytes);
        layer.annotations.insert(TARGET.into(), delta.target.to_string());
        layer.annotations.insert(BASES.into(), list(&delta.bases));
        layer.annotations.insert(WRITTEN.into(), delta.written.to_string());
        layer
    });
    let bases: BTreeSet<&Digest> = set.deltas.iter().flat_map(|delta| &delta.bases).collect();
    let mut annotations = BTreeMap::from([
        (BASES.to_string(), list(bases)),
        (SIZE.to_string(), set.bytes().to_string()),
        (FULL.to_string(), set.full().to_string()),
        (SPACE.to_string(), set.space().to_string()),
    ]);
    if !target.created.is_empty() {
        annotations.insert(CREATED.to_string(), target.created.clone());
    }
    let written = Written {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        artifact_type: ARTIFACT,
        config: descriptor(EMPTY, &sha256(NOTHING), NOTHING.len() as u64),
        layers: layers.collect(),
        subject: descriptor(&subject.media_type, &subject.digest, subject.bytes.len() as u64),
        annotations: annotations.clone(),
    };
    let bytes = json::to_vec(&written);
    let mut descriptor = descriptor(media_type::OCI_MANIFEST, &sha256(&bytes), bytes.len() as u64);
    descriptor.artifact_type = Some(ARTIFACT.to_string());
    descriptor.annotations = annotations;
    Ok(Artifact { descriptor, bytes })
}
