//! Images of a registry, for deltas, and what is pushed there.

use super::set::{Artifact, NOTHING, Set, describe};
use super::source::{Image, Layer, Named, Plain, Spool, Watched};
use crate::cancel::Cancel;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::manifest::AnyManifest;
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{ErrorKind, Kept, Repository};
use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use store::Decompressed;
use store::hash::sha256;

/// Most bytes of a config.
const CONFIG: u64 = 8 << 20;
/// Most bytes of a layer's tar.
pub const TAR: u64 = 64 << 30;
/// Most images of an index that are looked at.
const IMAGES: usize = 64;

/// An error of the registry as one of a verb.
pub fn failed(error: registry::Error, what: &str) -> Error {
    let kind = match error.kind() {
        ErrorKind::Cancelled => return Error::cancelled(),
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::Denied => Kind::Unauthorized,
        ErrorKind::Unavailable => Kind::Unavailable,
        _ => Kind::Internal,
    };
    Error::new(kind, format!("{what}: {error}"))
}

/// Layers that were fetched, by diff ID.
pub type Pool = HashMap<Digest, Layer>;

/// The images that a reference stands for, each with its platform: of an index all that run on one.
pub fn manifests(repository: &Repository, reference: &Reference) -> Result<Vec<(Option<Platform>, Named)>> {
    let name = reference.familiar();
    let found = repository.manifest(reference).map_err(|e| failed(e, &name))?;
    match parse(&name, &found)? {
        AnyManifest::Image(parsed) => Ok(vec![(None, named(found, *parsed))]),
        AnyManifest::Index(index) => {
            let mut all = Vec::new();
            for entry in &index.manifests {
                // What describes an image beside it is none.
                let Some(platform) = entry.platform.clone().filter(|p| p.os != "unknown") else {
                    continue;
                };
                if entry.artifact_type.is_some() {
                    continue;
                }
                if all.len() == IMAGES {
                    return Err(Error::invalid(format!("{name} has more than {IMAGES} images")));
                }
                let reference = reference.with_digest(&entry.digest);
                let found = repository.manifest(&reference).map_err(|e| failed(e, &name))?;
                if let AnyManifest::Image(parsed) = parse(&name, &found)? {
                    all.push((Some(platform), named(found, *parsed)));
                }
            }
            Ok(all)
        }
    }
}

fn parse(name: &str, found: &registry::ManifestResponse) -> Result<AnyManifest> {
    AnyManifest::parse(&found.media_type, &found.bytes).invalid(format!("manifest of {name}"))
}

fn named(found: registry::ManifestResponse, parsed: oci::manifest::Manifest) -> Named {
    Named {
        digest: found.digest,
        media_type: found.media_type,
        bytes: found.bytes,
        parsed,
    }
}

/// The manifest in a repository of an image that is known by its ID.
pub fn manifest_of(repository: &Repository, reference: &Reference, id: &Digest) -> Result<Named> {
    let all = manifests(repository, reference)?;
    let same = all.into_iter().find(|(_, named)| named.parsed.config.digest == *id);
    same.map(|(_, named)| named).ok_or_else(|| {
        Error::conflict(format!(
            "{} in its registry is another image: push it first",
            reference.familiar()
        ))
    })
}

/// An image's config, which says its platform and its layers.
pub fn config(repository: &Repository, name: &str, manifest: &Named) -> Result<(Image, ImageConfig)> {
    let bytes = repository.blob_bytes(&manifest.parsed.config, CONFIG);
    let bytes = bytes.map_err(|e| Error::new(Kind::Internal, format!("config of {name}: {e}")))?;
    let (mut image, config) = Image::new(name, bytes)?;
    if config.rootfs.diff_ids.len() != manifest.parsed.layers.len() || config.rootfs.diff_ids.is_empty() {
        return Err(Error::invalid(format!("{name} is no image that deltas are made of")));
    }
    image.manifest = Some(manifest.clone());
    Ok((image, config))
}

/// Fetches an image's layers, but for those that are in the pool already.
pub fn fetch(
    repository: &Repository,
    (mut image, config): (Image, ImageConfig),
    pool: &mut Pool,
    spool: &Spool,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Image> {
    let manifest = image
        .manifest
        .clone()
        .ok_or_else(|| Error::internal("an image without a manifest"))?;
    for (diff, blob) in config.rootfs.diff_ids.iter().zip(&manifest.parsed.layers) {
        if let Some(known) = pool.get(diff) {
            image.layers.push(known.clone());
            continue;
        }
        let about = |why: &dyn std::fmt::Display| match cancel.is_set() {
            true => Error::cancelled(),
            false => Error::internal(format!("layer {} of {}: {why}", blob.digest, image.name)),
        };
        let id = diff.short().to_string();
        let reader = repository.blob(blob).map_err(|e| about(&e))?;
        let watched = Watched::new(reader, (&id, "Downloading"), blob.size, progress, cancel);
        let layer = plain(watched, diff, spool).map_err(|e| about(&e))?;
        progress.status(&id, "Download complete")?;
        pool.insert(diff.clone(), layer.clone());
        image.layers.push(layer);
    }
    Ok(image)
}

/// Keeps a layer, compressed or not, as a plain tar.
pub fn plain(stream: impl Read, diff: &Digest, spool: &Spool) -> Result<Layer> {
    let mut stream = Decompressed::open(stream)?;
    let (file, bytes, digest) = spool.take(&mut stream, TAR)?;
    stream.drain().context("read layer")?;
    if digest != *diff {
        return Err(Error::invalid(format!("its diff ID is {digest}, not {diff}")));
    }
    Ok(Layer::Plain(Plain {
        file: Arc::new(file),
        start: 0,
        bytes,
        diff: digest,
    }))
}

/// Pushes a set as an artifact that refers to the target's manifest. Nothing is uploaded twice.
pub fn publish(
    repository: &Repository,
    set: &Set,
    subject: &Named,
    target: &Image,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Artifact> {
    let artifact = describe(set, subject, target)?;
    let at = |e: registry::Error| failed(e, &format!("push delta of {}", target.name));
    let empty = sha256(NOTHING);
    if repository.blob_exists(&empty).map_err(at)?.is_none() {
        let sent = repository.upload(&mut &*NOTHING, Some(NOTHING.len() as u64), Some(&empty));
        sent.map_err(at)?;
    }
    for delta in &set.deltas {
        let id = delta.target.short().to_string();
        if repository.blob_exists(&delta.digest).map_err(at)?.is_some() {
            progress.status(&id, "Delta already exists")?;
            continue;
        }
        let file = FromStart(&delta.file, 0);
        let mut watched = Watched::new(file, (&id, "Pushing"), delta.bytes, progress, cancel);
        let sent = repository.upload(&mut watched, Some(delta.bytes), Some(&delta.digest));
        sent.map_err(at)?;
        progress.status(&id, "Pushed")?;
    }
    // What was made from the same layers for the same target before is out of date.
    let bases = artifact.descriptor.annotations.get(oci::delta::BASES);
    let same = |known: &oci::manifest::Descriptor| {
        known.artifact_type.as_deref() == Some(oci::delta::ARTIFACT)
            && known.annotations.get(oci::delta::BASES) == bases
    };
    let kept = repository.attach(&subject.digest, &artifact.descriptor, &artifact.bytes, &same);
    let how = match kept.map_err(at)? {
        Kept::Api => "",
        Kept::Tag => ", listed under a tag: the registry has no referrers API",
    };
    progress.status(
        "",
        format!(
            "Pushed delta {} to {}{how}",
            artifact.descriptor.digest,
            repository.name().familiar()
        ),
    )?;
    Ok(artifact)
}

/// A file from its beginning, whoever else reads it.
pub struct FromStart<'a>(pub &'a std::fs::File, pub u64);

impl Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read_at(into, self.1)?;
        self.1 += n as u64;
        Ok(n)
    }
}
