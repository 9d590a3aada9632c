//! Images. One file for each route.

pub mod commit;
pub mod create;
pub mod delta;
pub mod distribution;
pub mod get;
pub mod history;
mod import;
pub mod inspect;
pub mod list;
pub mod load;
pub mod prune;
pub mod push;
pub mod remove;
pub mod search;
pub mod tag;
pub mod verify;

pub use super::late::Late;

use crate::route::Request;
use engine::Engine;
use engine::error::{Error, Result};
use oci::platform::Platform;

/// The platform that a request names as JSON in a field of its query: the last of several.
pub fn platform_of(engine: &Engine, request: &Request, field: &str) -> Result<Option<Platform>> {
    #[derive(json::Deserialize)]
    struct Wire {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    let Some(text) = request.query.all(field).last().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wire: Wire =
        json::from_slice(text.as_bytes()).map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
    let host = engine.config.platform.clone();
    if wire.architecture.is_empty() {
        return Ok(Some(Platform {
            os: if wire.os.is_empty() { host.os } else { wire.os },
            ..host
        }));
    }
    Ok(Some(Platform {
        os: wire.os,
        architecture: wire.architecture,
        variant: wire.variant,
        ..host
    }))
}
