//! What a registry has under a name, without pulling it.

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use oci::config::ImageConfig;
use oci::manifest::AnyManifest;
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Auth, ErrorKind};
use serde_json::{Value, json};

/// The largest image config that is read, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

fn failed(error: registry::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::Denied if error.is_unauthorized() => Kind::Unauthorized,
        ErrorKind::Denied => Kind::Forbidden,
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
