//! What a registry has under a name, without pulling it.

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use oci::config::ImageConfig;
use oci::manifest::AnyManifest;
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Auth, ErrorKind, ManifestResponse};
use serde_json::{Value, json};

/// Most images of a list that are looked at.
const MAX_LISTED: usize = 128;

/// The largest image config that is read, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

fn failed(error: registry::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::Denied => Kind::Unauthorized,
        ErrorKind::Cancelled => Kind::Cancelled,
        _ => Kind::Internal,
    };
    Error::new(kind, error.to_string())
}

/// The answer to `GET /distribution/{name}/json`.
pub fn inspect(engine: &Engine, reference: &Reference, auth: Auth, cancel: &Cancel) -> Result<Value> {
    let repository = engine.registry().repository(reference, auth).map_err(failed)?;
    let handle = repository.cancel_handle();
    cancel.on_set(move || handle.cancel());
    let found = repository.manifest(reference).map_err(failed)?;
    let parsed = AnyManifest::parse(&found.media_type, &found.bytes)
        .map_err(|e| Error::invalid(format!("manifest {}: {e}", found.digest)))?;
    let platform = |platform: &Platform| json::to_value(platform);
    let platforms: Vec<Value> = match parsed {
        AnyManifest::Index(index) => index
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(platform)
            .collect(),
        AnyManifest::Image(manifest) => {
            let bytes = repository.blob_bytes(&manifest.config, MAX_CONFIG);
            let bytes = bytes.map_err(|e| Error::internal(e.to_string()))?;
            let config = ImageConfig::parse(&bytes).map_err(|e| Error::invalid(format!("parse config: {e}")))?;
            let mut one = json!({"architecture": config.architecture, "os": config.os});
            if let Some(variant) = config.variant.filter(|variant| !variant.is_empty()) {
                one["variant"] = variant.into();
            }
            vec![one]
        }
    };
    Ok(json!({
        "Descriptor": {"mediaType": found.media_type, "digest": found.digest.as_str(), "size": found.bytes.len()},
        "Platforms": platforms,
    }))
}

/// The answer to `GET /distribution/{name}/manifests`, a route of ours: the manifest of an image, or those of all images
/// of a list, as `docker manifest inspect` asks a registry for them. `Raw` is base64 of the very bytes.
pub fn manifests(engine: &Engine, reference: &Reference, auth: Auth, cancel: &Cancel) -> Result<Value> {
    let missing = || Error::not_found(format!("no such manifest: {}", reference.canonical()));
    let failed = |error: registry::Error| match error.kind() {
        ErrorKind::NotFound => missing(),
        _ => failed(error),
    };
    let repository = engine.registry().repository(reference, auth).map_err(failed)?;
    let handle = repository.cancel_handle();
    cancel.on_set(move || handle.cancel());
    let found = repository.manifest(reference).map_err(failed)?;
    let parse = |found: &ManifestResponse| {
        AnyManifest::parse(&found.media_type, &found.bytes)
            .map_err(|e| Error::invalid(format!("manifest {}: {e}", found.digest)))
    };
    let one = |name: String, found: &ManifestResponse, platform: &Platform| {
        json!({
            "Ref": name,
            "Descriptor": {
                "mediaType": found.media_type, "digest": found.digest.as_str(), "size": found.bytes.len(), "platform": json::to_value(platform),
            },
            "Raw": oci::base64::encode(&found.bytes),
        })
    };
    let images = match parse(&found)? {
        AnyManifest::Image(manifest) => {
            let bytes = repository.blob_bytes(&manifest.config, MAX_CONFIG);
            let bytes = bytes.map_err(|e| Error::internal(e.to_string()))?;
            let config = ImageConfig::parse(&bytes).map_err(|e| Error::invalid(format!("parse config: {e}")))?;
            let image = one(reference.canonical(), &found, &config.platform());
            return Ok(json!({"Images": [image]}));
        }
        AnyManifest::Index(index) if index.manifests.len() > MAX_LISTED => {
            return Err(Error::invalid(format!(
                "{} lists more than {MAX_LISTED} images",
                found.digest
            )));
        }
        AnyManifest::Index(index) => index.manifests,
    };
    let looked_up = images.iter().map(|listed| {
        let name = reference.with_digest(&listed.digest);
        let found = repository.manifest(&name).map_err(failed)?;
        parse(&found)?;
        let shown = format!("{}@{}", reference.canonical(), listed.digest);
        Ok(one(shown, &found, &listed.platform.clone().unwrap_or_default()))
    });
    let images = looked_up.collect::<Result<Vec<Value>>>()?;
    Ok(json!({"ListMediaType": found.media_type, "Images": images}))
}
