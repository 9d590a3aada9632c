//! An image of one layer from a tar of files.

use crate::cancel::Cancel;
use crate::commit::as_run_config;
use crate::error::{Context, Error, Result};
use crate::progress::{Metered, Progress};
use crate::undo::{self, Undo};
use crate::{Engine, instruction};
use api::container::ContainerConfig;
use oci::config::{History, ImageConfig, RootFs};
use oci::digest::Digest;
use oci::platform::Platform;
use oci::reference::Reference;
use std::collections::BTreeMap;
use std::io::Read;
use store::hash::sha256;
use store::{ImageId, UnpackedLayer};

/// Where the tar comes from.
pub enum Source<'a> {
    Body(&'a mut dyn Read),
    Url(&'a str),
}

/// What an import is asked for.
pub struct Request<'a> {
    pub source: Source<'a>,
    pub reference: Option<Reference>,
    pub message: String,
    pub changes: Vec<String>,
    pub platform: Option<&'a Platform>,
}

/// Makes the image; its ID is the last line that is reported.
pub fn import(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<Digest> {
    undo::tell_room(engine, import_archive(engine, request, progress, cancel))
}

fn import_archive(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<Digest> {
    let mut config = ContainerConfig::default();
    instruction::apply(&mut config, &request.changes)?;
    let platform = request.platform.unwrap_or(&engine.config.platform);
    if platform.os != "linux" {
        return Err(Error::invalid(format!(
            "operating system is not supported: {}",
            platform.os
        )));
    }
    let unpacked = match request.source {
        Source::Body(archive) => unpack(engine, archive)?,
        Source::Url(url) => {
            let fetched = engine.registry().fetch(url, &cancel.of_registry());
            let mut fetched = fetched.map_err(|e| Error::internal(e.to_string()))?;
            progress.status("", format!("Downloading from {url}"))?;
            let size = fetched.length.unwrap_or_default();
            unpack(engine, &mut Metered::new(&mut fetched, progress, "", "Importing", size))?
        }
    };
    let diff = unpacked.outcome().diff_id.0.clone();
    let mut undo = Undo::new(engine);
    let layer = unpacked.commit_as_is()?;
    undo.layer(layer.chain_id().clone());
    let now = api::time::now();
    let made = ImageConfig {
        architecture: Some(platform.architecture.clone()),
        variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
        os: Some(platform.os.clone()),
        comment: Some(request.message.clone()),
        created: Some(now.clone()),
        docker_version: Some(api::ENGINE_VERSION.into()),
        config: Some(as_run_config(&config)?),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![diff],
        },
        history: vec![History {
            created: Some(now.clone()),
            comment: Some(request.message),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let bytes = json::to_vec(&made);
    undo.image(&ImageId(sha256(&bytes)));
    let id = engine.store.images.put(&bytes, Some(&layer))?;
    if let Some(reference) = &request.reference {
        engine.store.images.set_last_updated(&id, &now)?;
        engine.store.tags.set(reference, &id)?;
    }
    undo.done();
    let attributes = BTreeMap::from([("name".to_string(), id.0.to_string())]);
    engine.events.emit("image", "import", id.0.as_str(), attributes);
    progress.status("", id.0.to_string())?;
    Ok(id.0)
}

fn unpack(engine: &Engine, archive: &mut dyn Read) -> Result<UnpackedLayer> {
    let staged = engine.store.layers.stage(None)?;
    let mut stream = store::Decompressed::open(archive)?;
    let unpacked = staged.unpack(&mut stream as &mut dyn Read)?;
    stream.drain().context("read the rest of the archive")?;
    Ok(unpacked)
}
