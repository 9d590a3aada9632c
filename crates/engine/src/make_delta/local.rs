//! Images of the store, for deltas.

use super::source::{Image, Layer, Named};
use crate::error::{Error, Result};
use crate::{Engine, image};
use oci::manifest::{AnyManifest, media_type};
use store::hash::sha256;
use store::{ChainId, DiffId};

/// Finds an image and holds its layers.
pub fn find(engine: &Engine, name: &str) -> Result<Image> {
    let id = image::find(engine, name)?;
    let (mut found, config) = Image::new(name, engine.store.images.get(&id)?)?;
    let mut chain = None::<ChainId>;
    for diff in &config.rootfs.diff_ids {
        let next = ChainId::of(chain.as_ref(), &DiffId(diff.clone()));
        let held = engine.store.layers.get(&next);
        found.layers.push(Layer::Stored {
            layers: engine.store.layers.clone(),
            held: held.ok_or_else(|| Error::internal(format!("layer does not exist: {}", next.digest())))?,
            diff: diff.clone(),
        });
        chain = Some(next);
    }
    found.manifest = engine.store.images.kept_manifest(&id).and_then(|bytes| {
        let parsed = match AnyManifest::parse("", &bytes).ok()? {
            AnyManifest::Image(parsed) if parsed.config.digest == id.0 => *parsed,
            _ => return None,
        };
        let own = parsed.media_type.clone();
        let media_type = if own.is_empty() {
            media_type::OCI_MANIFEST.into()
        } else {
            own
        };
        (parsed.layers.len() == found.layers.len()).then(|| Named {
            digest: sha256(&bytes),
            media_type,
            bytes,
            parsed,
        })
    });
    Ok(found)
}
