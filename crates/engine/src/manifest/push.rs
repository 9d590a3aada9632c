//! A list is put on the registry of its images, which are mounted where they lie in other repositories.

use super::{Remote, unreachable};
use crate::error::{Context, Error, Result};
use api::manifest::Elsewhere;
use oci::base64;
use oci::digest::Digest;
use oci::manifest::AnyManifest;
use oci::reference::Reference;
use registry::{Repository, Sha256};
use std::collections::BTreeSet;

/// Puts the list, and before it what is not beside it; `said` is told the digest of each manifest that was put.
pub fn push(
    remote: &Remote,
    list: &Reference,
    (media_type, text): (&str, &str),
    elsewhere: &[Elsewhere],
    said: impl Fn(&[u8]) -> Result<()>,
) -> Result<()> {
    let images = elsewhere.iter().map(Mounted::of).collect::<Result<Vec<_>>>()?;
    let repository = remote.repository(list)?;
    let mut there = BTreeSet::new();
    for image in &images {
        image.mount_blobs(&repository, list, &mut there)?;
    }
    for Mounted {
        image, digest, bytes, ..
    } in &images
    {
        let put = put(&repository, &list.with_digest(digest), &image.media_type, bytes)?;
        said(put.as_str().as_bytes())?;
    }
    let put = put(&repository, list, media_type, text.as_bytes())?;
    said(put.as_str().as_bytes())
}

fn put(repository: &Repository, name: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest> {
    let digest = Sha256::digest(bytes);
    // Under a digest it is put under its own, whatever was asked for.
    let place = name.tag().unwrap_or(digest.as_str());
    let put = repository.put_manifest(place, media_type, bytes);
    put.map_err(|e| unwritten(&e, format!("failed to put manifest {}", name.canonical())))
}

/// What is said of a registry that does not take what it is given; `what` names it.
fn unwritten(error: &registry::Error, what: String) -> Error {
    unreachable(error).unwrap_or_else(|| Error::internal(format!("{what}: {error}")))
}

/// An image of another repository, with what is put where the list is.
struct Mounted<'a> {
    image: &'a Elsewhere,
    name: Reference,
    digest: Digest,
    bytes: Vec<u8>,
    blobs: Vec<Digest>,
}

impl Mounted<'_> {
    fn of(image: &Elsewhere) -> Result<Mounted<'_>> {
        let name = &image.name;
        let bytes = base64::decode(&image.manifest);
        let bytes = bytes.ok_or_else(|| Error::invalid(format!("manifest of {name}: not in base64")))?;
        let digest = Sha256::digest(&bytes);
        if digest.as_str() != image.digest {
            return Err(Error::invalid(format!(
                "internal digest mismatch for {name}: expected {}, got {digest}",
                image.digest
            )));
        }
        let parsed = AnyManifest::parse(&image.media_type, &bytes).invalid(format!("manifest {digest}"))?;
        let AnyManifest::Image(manifest) = parsed else {
            return Err(Error::invalid(format!("{name} is a manifest list")));
        };
        let layers = manifest.layers.into_iter().map(|layer| layer.digest);
        Ok(Mounted {
            image,
            name: super::parse(name)?,
            digest,
            bytes,
            blobs: std::iter::once(manifest.config.digest).chain(layers).collect(),
        })
    }

    /// Takes the image's blobs over; `there` is what was before.
    fn mount_blobs(&self, repository: &Repository, list: &Reference, there: &mut BTreeSet<Digest>) -> Result<()> {
        let from = self.name.repository().path();
        for blob in &self.blobs {
            if there.contains(blob) {
                continue;
            }
            let (source, target) = (format!("{from}@{blob}"), list.canonical());
            let done = repository.mount(blob, from);
            let done = done.map_err(|e| unwritten(&e, format!("failed to mount blob {source} to {target}")))?;
            match done {
                true => _ = there.insert(blob.clone()),
                false if self.image.incomplete => {}
                false => return Err(Error::not_found(format!("error mounting {source} to {target}"))),
            }
        }
        Ok(())
    }
}
