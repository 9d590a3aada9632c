//! Deltas between images made by hand, as the artifacts that a registry holds.

use crate::Daemon;
use crate::image::{Image, Layer, MANIFEST, Tar, sha256};
use delta::make::Survey;
use delta::rsync::{self, Signature};
use delta::{Contents, FileId};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::PathBuf;

const ARTIFACT: &str = "application/vnd.balena.delta.v1";
const DELTA: &str = "application/vnd.balena.delta.layer.v1";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// One layer's delta.
#[derive(Clone, Debug)]
pub struct Delta {
    /// What it says it makes, and from what.
    pub target: String,
    pub bases: Vec<String>,
    /// What it says it writes.
    pub written: u64,
    pub bytes: Vec<u8>,
}

struct Tars<'a>(Vec<(&'a [u8], &'a Survey)>);

impl Contents for Tars<'_> {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (tar, survey) = self.0[file.layer as usize];
        let start = survey.offset(file.entry).ok_or(io::ErrorKind::NotFound)? + offset;
        let part = usize::try_from(start)
            .ok()
            .and_then(|start| tar.get(start..start + into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The delta that makes a layer from others, lowest first.
pub fn between(bases: &[&Layer], target: &Layer) -> Delta {
    let tars: Vec<Vec<u8>> = bases.iter().map(|layer| layer.tar()).collect();
    let survey = |tar: &Vec<u8>| Survey::read(&tar[..]).expect("a tar that was written here");
    let surveys: Vec<Survey> = tars.iter().map(survey).collect();
    let mut contents = Tars(tars.iter().map(Vec::as_slice).zip(&surveys).collect());
    let tar = target.tar();
    let mut bytes = Vec::new();
    let references: Vec<&Survey> = surveys.iter().collect();
    let report = delta::make::write(&references, &mut contents, &survey(&tar), &tar[..], &mut bytes);
    let report = report.expect("memory is read and written");
    Delta {
        target: target.diff_id.clone(),
        bases: report.header.base.iter().map(|base| base.diff_id.to_string()).collect(),
        written: report.written(),
        bytes,
    }
}

/// A delta image as balenaEngine makes one between two images, of which the lowest layers may be the same.
pub fn balena_image(base: &Image, target: &Image) -> Image {
    let mut tars = Vec::new();
    for layer in &base.layers {
        tars.append(&mut layer.tar());
    }
    let layers = target.layers.iter().enumerate().map(|(at, layer)| {
        let same = (0..=at).all(|at| base.layers.get(at).map(|b| &b.diff_id) == Some(&target.layers[at].diff_id));
        if same {
            return Layer::gzip(&Tar::default().bytes());
        }
        let mut delta = Vec::new();
        let signature = Signature::read(&mut &tars[..], tars.len() as u64);
        let signature = signature.expect("memory is read");
        rsync::write(&signature, &mut &layer.tar()[..], &mut delta).expect("memory is read and written");
        Layer::gzip(&Tar::default().file("delta", 0o600, &delta).bytes())
    });
    let labels = json!({
        "io.resin.delta.base": base.id(), "io.resin.delta.config": String::from_utf8_lossy(&target.config),
    });
    Image::new(layers.collect(), json!({"Labels": labels})).into_schema2()
}

/// A set of deltas as an OCI artifact.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub blobs: Vec<Vec<u8>>,
    pub manifest: Vec<u8>,
    /// What a list of referrers has of it.
    pub descriptor: Value,
}

impl Artifact {
    pub fn new(target: &Image, deltas: &[Delta]) -> Artifact {
        let mut bases: Vec<&str> = deltas
            .iter()
            .flat_map(|delta| &delta.bases)
            .map(String::as_str)
            .collect();
        bases.sort_unstable();
        bases.dedup();
        let sum: usize = deltas.iter().map(|delta| delta.bytes.len()).sum();
        let annotations = json!({
            "io.balena.delta.bases": bases.join(","), "io.balena.delta.size": sum.to_string(),
        });
        let layers: Vec<Value> = deltas
            .iter()
            .map(|delta| {
                json!({
                    "mediaType": DELTA, "digest": sha256(&delta.bytes), "size": delta.bytes.len(),
                    "annotations": {
                        "io.balena.delta.target": delta.target, "io.balena.delta.bases": delta.bases.join(","),
                        "io.balena.delta.written": delta.written.to_string(),
                    },
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": ARTIFACT,
            "config": {"mediaType": EMPTY, "digest": sha256(b"{}"), "size": 2},
            "layers": layers, "annotations": annotations,
            "subject": {"mediaType": target.media_type, "digest": target.digest(), "size": target.manifest.len()},
        });
        let manifest = manifest.to_string().into_bytes();
        let mut blobs: Vec<Vec<u8>> = deltas.iter().map(|delta| delta.bytes.clone()).collect();
        blobs.push(b"{}".to_vec());
        Artifact {
            descriptor: json!({
                "mediaType": MANIFEST, "artifactType": ARTIFACT, "digest": sha256(&manifest), "size": manifest.len(),
                "annotations": annotations,
            }),
            blobs,
            manifest,
        }
    }

    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }
}

/// An index of artifacts: an answer of the referrers API, or what the fallback tag has.
pub fn index(artifacts: &[Artifact]) -> Vec<u8> {
    let list: Vec<&Value> = artifacts.iter().map(|artifact| &artifact.descriptor).collect();
    let index = json!({"schemaVersion": 2, "mediaType": crate::image::INDEX, "manifests": list});
    index.to_string().into_bytes()
}

/// Bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The delta that an interrupted pull kept, if it has one.
pub fn kept_delta(daemon: &Daemon) -> Option<PathBuf> {
    let pulls = fs::read_dir(daemon.data_root().join("balena-pulls")).ok()?;
    let kept = pulls.flatten().map(|entry| entry.path().join("delta"));
    kept.into_iter().find(|path| path.is_file())
}
