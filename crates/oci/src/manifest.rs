//! Manifests and indexes: Docker's schema 2 and the OCI types, which differ in their media types only.
//!
//! Source: OCI image spec v1.1 (manifest, image index), Docker's "Image Manifest V 2, Schema 2".

use crate::digest::Digest;
use crate::platform::Platform;
use json::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Media types on the wire.
pub mod media_type {
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_LAYER_PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
}

/// Most layers an image may have; Docker's overlay2 driver stops at 128.
pub const MAX_LAYERS: usize = 128;

/// Names a piece of content: what it is, how long, and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// One image for one platform: its config and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several images under one name (a manifest list in Docker's words).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a name on a registry turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyManifest {
    Image(Box<Manifest>),
    Index(Index),
}

/// Says why bytes are not a manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("parse manifest: {0}")]
    Json(#[from] json::Error),
    #[error("unsupported manifest media type {0:?}")]
    MediaType(String),
    #[error("image has {0} layers, at most {MAX_LAYERS} are supported")]
    TooManyLayers(usize),
}

impl AnyManifest {
    /// Parses bytes served as `content_type`; the bytes' own `mediaType` and shape decide where that is vague.
    pub fn parse(content_type: &str, bytes: &[u8]) -> Result<AnyManifest, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            media_type: String,
            #[serde(default)]
            manifests: Option<json::Ignored>,
            #[serde(default)]
            layers: Option<json::Ignored>,
        }
        let shape: Shape = crate::json::parse(bytes)?;
        // A document that is both could be read in two ways under one digest (CVE-2021-41190).
        if shape.manifests.is_some() && shape.layers.is_some() {
            return Err(ManifestError::MediaType("both manifest and index".into()));
        }
        let served = content_type.split(';').next().unwrap_or("").trim();
        if !shape.media_type.is_empty() && is_known(served) && served != shape.media_type {
            return Err(ManifestError::MediaType(format!(
                "{} served as {served}",
                shape.media_type
            )));
        }
        let kind = match (shape.media_type.as_str(), served) {
            ("", served) if is_known(served) => served,
            ("", _) if shape.manifests.is_some() => media_type::OCI_INDEX,
            ("", _) => media_type::OCI_MANIFEST,
            (own, _) => own,
        };
        match kind {
            media_type::DOCKER_MANIFEST | media_type::OCI_MANIFEST => {
                let manifest: Manifest = crate::json::parse(bytes)?;
                if manifest.layers.len() > MAX_LAYERS {
                    return Err(ManifestError::TooManyLayers(manifest.layers.len()));
                }
                Ok(AnyManifest::Image(Box::new(manifest)))
            }
            media_type::DOCKER_LIST | media_type::OCI_INDEX => Ok(AnyManifest::Index(crate::json::parse(bytes)?)),
            other => Err(ManifestError::MediaType(other.to_string())),
        }
    }
}

fn is_known(kind: &str) -> bool {
    matches!(
        kind,
        media_type::DOCKER_MANIFEST
            | media_type::OCI_MANIFEST
            | media_type::DOCKER_LIST
            | media_type::OCI_INDEX
            | media_type::DOCKER_SCHEMA1
            | media_type::DOCKER_SCHEMA1_SIGNED
    )
}

impl Index {
    /// The manifest that serves `wanted` best; the first of equals, as Docker does.
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let mut best: Option<(u8, &Descriptor)> = None;
        for descriptor in &self.manifests {
            let rank = match &descriptor.platform {
                Some(platform) => wanted.rank(platform),
                // An entry that names no platform is taken when nothing better is there.
                None if descriptor.artifact_type.is_none() => Some(0),
                None => None,
            };
            if let Some(rank) = rank
                && best.is_none_or(|(have, _)| rank > have)
            {
                best = Some((rank, descriptor));
            }
        }
        best.map(|(_, descriptor)| descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn kinds_by_type_and_by_shape() {
        let image = format!(r#"{{"schemaVersion":2,"config":{{"size":2,"digest":"{D}"}},"layers":[]}}"#);
        assert!(matches!(
            AnyManifest::parse("", image.as_bytes()),
            Ok(AnyManifest::Image(_))
        ));
        assert!(matches!(
            AnyManifest::parse(media_type::OCI_MANIFEST, image.as_bytes()),
            Ok(AnyManifest::Image(_))
        ));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(
            AnyManifest::parse("text/plain; charset=utf-8", index.as_bytes()),
            Ok(AnyManifest::Index(_))
        ));
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{{"size":2,"digest":"{D}"}},"layers":[]}}"#);
        assert!(AnyManifest::parse(media_type::OCI_MANIFEST, both.as_bytes()).is_err());
        let v1 = r#"{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}"#;
        assert!(AnyManifest::parse("", v1.as_bytes()).is_err());
        let negative = format!(r#"{{"schemaVersion":2,"config":{{"size":-2,"digest":"{D}"}},"layers":[]}}"#);
        assert!(AnyManifest::parse("", negative.as_bytes()).is_err());
    }

    #[test]
    fn too_many_layers() {
        let layer = format!(r#"{{"size":2,"digest":"{D}"}}"#);
        let layers = vec![layer.as_str(); 200].join(",");
        let image = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{layers}]}}"#);
        assert!(matches!(
            AnyManifest::parse("", image.as_bytes()),
            Err(ManifestError::TooManyLayers(200))
        ));
    }
}
