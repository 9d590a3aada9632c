//! An image from what a container changed.

use crate::create::merge;
use crate::error::{Context, Error, Result};
use crate::undo::{self, Undo};
use crate::{Engine, image, instruction, update};
use api::container::ContainerConfig;
use oci::config::{History, ImageConfig, RunConfig};
use oci::digest::Digest;
use oci::reference::Reference;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use store::hash::sha256;
use store::{ImageId, LayerId};

/// What a commit is asked for.
#[derive(Default)]
pub struct Request {
    pub container: String,
    /// Without one the image has no name.
    pub reference: Option<Reference>,
    pub comment: String,
    pub author: String,
    /// The container stands still meanwhile.
    pub pause: bool,
    pub changes: Vec<String>,
    /// In place of the container's own.
    pub config: Option<ContainerConfig>,
}

/// Makes the image; returns its ID.
pub fn commit(engine: &Engine, request: &Request) -> Result<Digest> {
    undo::tell_room(engine, commit_changes(engine, request))
}

fn commit_changes(engine: &Engine, request: &Request) -> Result<Digest> {
    let container = engine.containers.find(&request.container)?;
    let (id, base, own, paused_before, running) = {
        let record = container.record();
        (
            record.id.clone(),
            Digest::parse(&record.disk.image).ok().map(ImageId),
            record.disk.config.clone(),
            record.status() == "paused",
            record.is_running(),
        )
    };
    let mut config = request.config.clone().unwrap_or_else(|| own.clone());
    instruction::apply(&mut config, &request.changes)?;
    merge(&mut config, &own);
    let pause = request.pause && running && !paused_before;
    if pause {
        update::pause(engine, id.as_str())?;
    }
    let mut undo = Undo::new(engine);
    let made = make(engine, request, (id.as_str(), &own), base.as_ref(), &config, &mut undo);
    if pause && let Err(error) = update::unpause(engine, id.as_str()) {
        log::error!("{error}");
    }
    let image = made?;
    let mut told = vec![("comment", request.comment.clone()), ("imageID", image.0.to_string())];
    if let Some(reference) = &request.reference {
        engine.store.images.set_last_updated(&image, &api::time::now())?;
        engine.store.tags.set(reference, &image)?;
        told.push(("imageRef", reference.familiar()));
        let attributes = BTreeMap::from([("name".to_string(), reference.familiar())]);
        engine.events.emit("image", "tag", image.0.as_str(), attributes);
    }
    undo.done();
    engine.container_event("commit", &container.record(), &told);
    Ok(image.0)
}

fn make(
    engine: &Engine,
    request: &Request,
    (container, own): (&str, &ContainerConfig),
    base: Option<&ImageId>,
    config: &ContainerConfig,
    undo: &mut Undo<'_>,
) -> Result<ImageId> {
    let below = base.map(|base| image::config_of(engine, base)).transpose()?;
    let parent = engine.store.rw.get(container).and_then(|layer| layer.parent);
    let parent: Option<LayerId> = parent.as_ref().and_then(|chain| engine.store.layers.get(chain));
    let layer = changes(engine, container, parent.as_ref())?;
    let now = api::time::now();
    let text = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    let mut made = ImageConfig {
        architecture: below
            .as_ref()
            .and_then(|below| below.architecture.clone())
            .or_else(|| Some(engine.config.platform.architecture.clone())),
        variant: below.as_ref().and_then(|below| below.variant.clone()),
        os: Some("linux".into()),
        author: text(&request.author),
        created: Some(now.clone()),
        container: Some(container.to_string()),
        docker_version: Some(api::ENGINE_VERSION.into()),
        config: Some(as_run_config(config)?),
        ..ImageConfig::default()
    };
    if let Some(below) = below {
        made.rootfs = below.rootfs;
        made.history = below.history;
    }
    made.rootfs.kind = "layers".into();
    made.history.push(History {
        created: Some(now),
        author: text(&request.author),
        created_by: own.cmd.as_ref().and_then(|words| text(&words.join(" "))),
        comment: text(&request.comment),
        empty_layer: layer.is_none(),
    });
    if let Some(layer) = &layer {
        undo.layer(layer.chain_id().clone());
        let info = engine.store.layers.info(layer.chain_id());
        let info = info.ok_or_else(|| Error::internal("the new layer is gone"))?;
        made.rootfs.diff_ids.push(info.diff_id.0);
    }
    let bytes = json::to_vec(&made);
    undo.image(&ImageId(sha256(&bytes)));
    let id = engine.store.images.put(&bytes, layer.as_ref().or(parent.as_ref()))?;
    if let Some(base) = base {
        engine.store.images.set_parent(&id, base)?;
    }
    Ok(id)
}

/// What a container changed as a layer; nothing if it changed nothing.
fn changes(engine: &Engine, container: &str, parent: Option<&LayerId>) -> Result<Option<LayerId>> {
    let staged = engine.store.layers.stage(parent.map(LayerId::chain_id))?;
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let (unpacked, written) = std::thread::scope(|scope| {
        let rw = &engine.store.rw;
        let writing = scope.spawn(move || {
            let mut out = std::io::BufWriter::with_capacity(64 * 1024, writer);
            rw.tar_diff(container, &mut out as &mut dyn std::io::Write)
        });
        let mut reader = reader;
        let unpacked = staged.unpack(&mut reader as &mut dyn Read);
        drop(reader);
        (unpacked, writing.join())
    });
    let written = written.map_err(|_| Error::internal("the thread that reads a container's changes panicked"))?;
    let unpacked = match (unpacked, written) {
        // Nobody read any more: why not is what the other side says.
        (Err(error), Err(store::Error::Io { source, .. })) if source.kind() == ErrorKind::BrokenPipe => Err(error),
        (_, Err(error)) => Err(error),
        (unpacked, Ok(())) => unpacked,
    }?;
    match unpacked.outcome().entries {
        0 => Ok(None),
        _ => Ok(Some(unpacked.commit_as_is()?)),
    }
}

/// A container's config as an image has it.
pub(crate) fn as_run_config(config: &ContainerConfig) -> Result<RunConfig> {
    let json = json::to_vec(config);
    json::from_slice(&json).context("write the image's config")
}
