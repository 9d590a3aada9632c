//! Which images an archive has, from its descriptions: `manifest.json`, else an OCI layout, else the oldest form.

use super::contents::Contents;
use super::legacy;
use crate::error::{Context, Error, Result};
use json::Deserialize;
use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Index};
use oci::platform::Platform;
use oci::reference::Reference;
use std::collections::BTreeMap;

/// An image to be put together.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    pub names: Vec<Reference>,
    pub config: Vec<u8>,
    /// Resolved names in the archive, lowest first.
    pub layers: Vec<String>,
    pub parent: Option<Digest>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerItem {
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Vec<String>,
    #[serde(default)]
    parent: Option<String>,
}

/// The images of an archive; it must have one, but for a docker archive whose list is empty: that loads nothing, as in
/// Docker.
pub fn images(contents: &mut Contents, platform: &Platform) -> Result<Vec<Image>> {
    if let Some(items) = docker_items(contents)? {
        return items.into_iter().map(|item| docker_image(contents, item)).collect();
    }
    if let Some(index) = contents.document("index.json")? {
        let index: Index = oci::json::parse(index).invalid("invalid archive: index.json")?;
        let images = oci_images(contents, &index, platform)?;
        if !images.is_empty() {
            return Ok(images);
        }
        return Err(Error::not_found(format!(
            "no image for {platform} was found in the archive's index"
        )));
    }
    if contents.document("repositories")?.is_some() {
        return legacy::images(contents);
    }
    Err(Error::invalid("invalid archive: does not contain a manifest.json"))
}

/// `manifest.json`, if there is one.
pub fn docker_items(contents: &Contents) -> Result<Option<Vec<DockerItem>>> {
    let Some(bytes) = contents.document("manifest.json")? else {
        return Ok(None);
    };
    let mut items: Vec<DockerItem> = oci::json::parse(bytes).invalid("invalid archive: manifest.json")?;
    for item in &mut items {
        for layer in &mut item.layers {
            *layer = contents.resolve(layer)?;
        }
    }
    Ok(Some(items))
}

fn docker_image(contents: &Contents, item: DockerItem) -> Result<Image> {
    let config = contents.document(&item.config)?;
    let config = config.ok_or_else(|| Error::invalid(format!("invalid archive: it has no config {}", item.config)))?;
    let names = item.repo_tags.unwrap_or_default();
    Ok(Image {
        names: names.iter().map(|name| tagged(name)).collect::<Result<_>>()?,
        config: config.to_vec(),
        layers: item.layers,
        parent: item.parent.and_then(|id| Digest::parse(&id).ok()),
    })
}

/// A name with a tag.
pub fn tagged(name: &str) -> Result<Reference> {
    match Reference::parse(name) {
        Ok(reference) if reference.digest().is_none() && reference.tag().is_some() => Ok(reference),
        Ok(_) => Err(Error::invalid(format!("invalid tag \"{name}\""))),
        Err(error) => Err(Error::invalid(error.to_string())),
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn oci_images(contents: &Contents, index: &Index, platform: &Platform) -> Result<Vec<Image>> {
    let mut images: Vec<Image> = Vec::new();
    let rank = |descriptor: &Descriptor| descriptor.platform.as_ref().and_then(|p| platform.rank(p));
    // One name for the images of several platforms means that of this one.
    let mut best: BTreeMap<String, &Descriptor> = BTreeMap::new();
    for descriptor in index.manifests.iter().filter(|d| rank(d).is_some()) {
        if let Some(name) = oci_name(descriptor) {
            let known = best.entry(name.canonical()).or_insert(descriptor);
            if rank(descriptor) > rank(known) {
                *known = descriptor;
            }
        }
    }
    for descriptor in &index.manifests {
        // What describes an image beside it, as buildkit's attestations do, is none.
        let unknown = descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown");
        // A file of deltas has the targets of several platforms, of which one is wanted.
        let other = contents.has_deltas() && descriptor.platform.is_some() && rank(descriptor).is_none();
        if unknown || other || descriptor.artifact_type.is_some() {
            continue;
        }
        let name = oci_name(descriptor);
        let known = name.as_ref().and_then(|name| best.get(&name.canonical()));
        if known.is_some_and(|best| best.digest != descriptor.digest) {
            continue;
        }
        let Some(mut image) = oci_image(contents, descriptor, platform, 0)? else {
            continue;
        };
        image.names = name.into_iter().collect();
        match images.iter_mut().find(|known| known.config == image.config) {
            Some(known) => known.names.append(&mut image.names),
            None => images.push(image),
        }
    }
    Ok(images)
}

fn oci_name(descriptor: &Descriptor) -> Option<Reference> {
    let full = descriptor.annotations.get("io.containerd.image.name");
    // By the specification a tag; podman and others write whole names.
    let other = descriptor.annotations.get("org.opencontainers.image.ref.name");
    let name = full.or(other.filter(|name| name.contains([':', '/'])))?;
    tagged(name).ok()
}

fn oci_image(contents: &Contents, descriptor: &Descriptor, platform: &Platform, depth: u32) -> Result<Option<Image>> {
    if depth > 2 {
        return Err(Error::invalid("invalid archive: its index is nested too deeply"));
    }
    let name = blob(&descriptor.digest);
    let bytes = contents.document(&name)?;
    // An index may name images of other platforms that were not put into the archive.
    let Some(bytes) = bytes else { return Ok(None) };
    match AnyManifest::parse(&descriptor.media_type, bytes).invalid(format!("invalid archive: {name}"))? {
        AnyManifest::Index(index) => match index.choose(platform) {
            Some(next) => oci_image(contents, next, platform, depth + 1),
            None => Ok(None),
        },
        AnyManifest::Image(manifest) => {
            let config = contents.document(&blob(&manifest.config.digest))?;
            let config = config
                .ok_or_else(|| Error::invalid(format!("invalid archive: it has no {}", manifest.config.digest)))?;
            let layers = manifest
                .layers
                .iter()
                .map(|layer| contents.resolve(&blob(&layer.digest)));
            Ok(Some(Image {
                names: Vec::new(),
                config: config.to_vec(),
                layers: layers.collect::<Result<_>>()?,
                parent: None,
            }))
        }
    }
}
