//! Pulling an image: one function that stacks readers, and the order that makes the result atomic and durable.
//!
//! Blobs are fetched by up to [`Limits::downloads`] threads, each a little in front of the unpacking ([`crate::download`]),
//! which goes layer by layer from the lowest: verified blob → decompress → tar → the layer's own directory. Nothing
//! compressed is written. A layer is committed when its files are on the disk and both digests were right; the image
//! after its layers, the tag last. Whatever stops it, at any point, leaves only whole layers behind, and of the one it
//! was at what the next pull can go on with: that one asks for the rest of the blob, and the diff ID tells whether all of
//! it together is the layer. A layer may be made by a delta instead ([`crate::find_delta`]); whatever is wrong with that,
//! another delta or the blob itself is taken.

use crate::apply_delta::{self, Held};
use crate::cancel::Cancel;
use crate::download::{Download, Failure, about, blob_kind, kind_of};
use crate::error::{Context, Error, Kind, Result};
use crate::find_delta::{self, Candidate, Found, Missing, Mode};
use crate::progress::{Progress, Total};
use crate::repair::{self, Damaged};
use crate::rescue::{Rescue, Rescued};
use crate::turn::Queue;
use crate::undo::{self, Undo};
use crate::{Engine, balena_delta, image};
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Manifest, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Auth, BlobError, Repository};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::distribution::Blob;
use store::{ChainId, DiffId, ImageId, LayerId, Partial, UnpackedLayer};

/// The largest image config that is read, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// What a pull is asked for.
pub struct Request<'a> {
    pub reference: &'a Reference,
    pub platform: Option<&'a Platform>,
    pub auth: Auth,
    pub delta: Mode,
}

/// What makes two pulls the same: name, platform, credentials and use of deltas.
pub type Key = (String, Option<Platform>, Auth, Mode);

/// Pulls one tag or digest; reports as Docker does. Returns the image's ID.
pub fn pull(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<Digest> {
    // Advice, for the application's sake: not every scheduler takes it.
    let _ = sys::process::lower_io_priority();
    let reference = request.reference;
    let (id, newer) = undo::tell_room(engine, one(engine, request, progress, cancel))?;
    status(progress, &reference.familiar(), newer)?;
    Ok(id)
}

/// Pulls all tags of a repository.
pub fn pull_all(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let reference = request.reference;
    let opened = engine.registry().repository(reference, request.auth.clone());
    let repository = opened.map_err(|e| registry_error(e, reference))?;
    let handle = repository.cancel_handle();
    cancel.on_set(move || handle.cancel());
    let tags = repository.tags().map_err(|e| registry_error(e, reference))?;
    let mut any = false;
    for tag in &tags {
        let Some(tagged) = reference.with_tag(tag) else {
            continue;
        };
        let wanted = Request {
            reference: &tagged,
            platform: request.platform,
            auth: request.auth.clone(),
            delta: request.delta,
        };
        any |= undo::tell_room(engine, one(engine, wanted, progress, cancel))?.1;
    }
    status(progress, &reference.repository().familiar(), any)
}

fn status(progress: &Progress, familiar: &str, newer: bool) -> Result<()> {
    let text = match newer {
        true => "Downloaded newer image for",
        false => "Image is up to date for",
    };
    progress.status("", format!("Status: {text} {familiar}"))
}

/// Pulls one image; says whether the name stands for another one now.
fn one(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<(Digest, bool)> {
    let mut undo = Undo::new(engine);
    let reference = request.reference;
    let opened = engine.registry().repository(reference, request.auth.clone());
    let mut repository = opened.map_err(|e| registry_error(e, reference))?;
    let pulled = loop {
        let handle = repository.cancel_handle();
        cancel.on_set(move || handle.cancel());
        let pulled = attempt(engine, &request, &repository, &mut undo, progress, cancel);
        // A mirror that gives out what is wrong, or less, is not the last word; what came whole of it stays.
        let next = match &pulled {
            Err(error) if error.kind != Kind::Cancelled && !undo::is_full(error) => repository.past_mirror(),
            _ => None,
        };
        match (next, &pulled) {
            (Some(next), Err(error)) => {
                log::info!(
                    "pull of {}: a mirror fails, going past it: {error}",
                    reference.familiar()
                );
                repository = next;
            }
            _ => break pulled,
        }
    };
    // What an interrupted pull leaves is of use to the next, unless it is what stands in its way.
    if !pulled.as_ref().is_err_and(undo::is_full) {
        undo.done();
    }
    pulled
}

fn attempt(
    engine: &Engine,
    request: &Request<'_>,
    repository: &Repository,
    undo: &mut Undo<'_>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(Digest, bool)> {
    let reference = request.reference;
    let platform = request.platform.unwrap_or(&engine.config.platform);
    let tag = reference
        .digest()
        .map_or(reference.tag().unwrap_or("latest").to_string(), |d| d.to_string());
    let name = reference.repository().path();
    if let Some((digest, id, config)) = unchanged(engine, repository, reference, platform)? {
        progress.status(&tag, format!("Pulling from {name}"))?;
        return finish(engine, reference, &digest, &config, id, None, progress);
    }
    let found = repository
        .manifest(reference)
        .map_err(|e| registry_error(e, reference))?;
    progress.status(&tag, format!("Pulling from {name}"))?;
    let top_digest = found.digest.clone();
    let (manifest, manifest_bytes) = choose(repository, found, reference, platform)?;
    let known = ImageId(manifest.config.digest.clone());
    // An image that is there whole needs nothing but its names.
    let (config_bytes, there) = match is_whole(engine, &known) {
        true => (engine.store.images.get(&known)?, true),
        false => {
            let fetched = repository.blob_bytes(&manifest.config, MAX_CONFIG);
            (fetched.map_err(|e| blob_error(e, reference))?, false)
        }
    };
    let config = ImageConfig::parse(&config_bytes).context(format!("parse config of {}", reference.familiar()))?;
    let delta = balena_delta::Target::of(&config)?.filter(|_| !there);
    if let Some(target) = delta {
        check(&manifest, &config)?;
        let id = by_balena_delta(engine, repository, &manifest, &target, progress, cancel)?;
        // A tag of it is one of the target; its digest is the delta's, and a name only for who asked by it.
        let by_digest = reference.digest().map(|_| reference);
        return finish(engine, reference, &top_digest, &target.config, id, by_digest, progress);
    }
    let id = match there {
        true => known,
        false => {
            check(&manifest, &config)?;
            chains(&config.rootfs.diff_ids)
                .into_iter()
                .for_each(|chain| undo.layer(chain));
            undo.image(&known);
            let target = Target {
                manifest: &manifest,
                digest: store::hash::sha256(&manifest_bytes),
                config: &config,
            };
            let top = fetch_layers(engine, repository, &target, request.delta, progress, cancel)?;
            engine.store.images.put(&config_bytes, top.as_ref())?
        }
    };
    if id.0 != manifest.config.digest {
        return Err(Error::internal(format!(
            "image config is {}, the manifest names {}",
            id.0, manifest.config.digest
        )));
    }
    engine.store.images.keep_manifest(&id, &manifest_bytes)?;
    let by_digest = reference.with_digest(&top_digest);
    finish(engine, reference, &top_digest, &config, id, Some(&by_digest), progress)
}

/// Gives an image its names; says whether the first of them stands for another one now.
fn finish(
    engine: &Engine,
    reference: &Reference,
    top_digest: &Digest,
    config: &ImageConfig,
    id: ImageId,
    by_digest: Option<&Reference>,
    progress: &Progress,
) -> Result<(Digest, bool)> {
    // The names are last: whoever sees them sees a whole image.
    let name = match (reference.digest(), by_digest) {
        (Some(_), Some(by_digest)) => by_digest,
        _ => reference,
    };
    let before = engine.store.tags.get(name);
    let by_tag = (reference.digest().is_none() && before.as_ref() != Some(&id)).then_some(reference);
    let names: Vec<&Reference> = by_digest.into_iter().chain(by_tag).collect();
    if by_tag.is_some() {
        engine.store.images.set_last_updated(&id, &api::time::now())?;
    }
    engine.store.tags.set_all(&names, &id)?;
    progress.status("", format!("Digest: {top_digest}"))?;
    let familiar = reference.familiar();
    let mut attributes = image::labels_of(config);
    attributes.insert("name".into(), reference.repository().familiar());
    engine.events.emit("image", "pull", &familiar, attributes);
    let newer = before.as_ref() != Some(&id);
    Ok((id.0, newer))
}

/// Makes the image that one of balenaEngine's deltas stands for.
fn by_balena_delta(
    engine: &Engine,
    repository: &Repository,
    delta: &Manifest,
    target: &balena_delta::Target,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ImageId> {
    if is_whole(engine, &target.id()) {
        return Ok(target.id());
    }
    let mut base: Option<balena_delta::Base<'_>> = None;
    let mut top: Option<LayerId> = None;
    let sum = progress.total(delta.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add));
    let queue = Queue::new(engine.pace.rate());
    for (index, (layer, diff)) in delta.layers.iter().zip(target.diffs()).enumerate() {
        let below = top.as_ref().map(LayerId::chain_id);
        let chain = ChainId::of(below, &DiffId(diff.clone()));
        let short = layer.digest.short();
        if let Some(there) = engine.store.layers.get(&chain) {
            progress.status(short, "Already exists")?;
            top = Some(there);
            continue;
        }
        let base = match &mut base {
            Some(base) => base,
            none => none.insert(balena_delta::Base::find(engine, target)?),
        };
        progress.status(short, "Pulling fs layer")?;
        let meter = progress.meter(short, layer.size, &sum);
        let partial = engine.store.layers.partial(below, &chain, &[&layer.digest]);
        let offset = partial.as_ref().map_or(0, |partial| partial.offset().min(layer.size));
        let turn = queue.join(index, layer.size - offset);
        let download = Download::start(engine, repository, layer, offset, meter, turn)?;
        let made = download.unpack(layer, |blob| {
            let mut staged = engine.store.layers.stage_pull(below, partial)?;
            let mut stream = store::Decompressed::open(staged.keep_delta(blob)?)?;
            let made = base.layer(target, index, staged, &mut stream)?;
            stream.drain().map_err(|source| store::Error::Io {
                doing: "read the rest of the blob".into(),
                source,
            })?;
            Ok(made)
        });
        if cancel.is_set() {
            return Err(Error::cancelled());
        }
        let committed = made.and_then(|made| made.commit(&DiffId(diff.clone())).map_err(|e| about(layer, e)));
        top = Some(committed.map_err(|failure| failure.error)?);
        progress.status(short, "Pull complete")?;
    }
    Ok(engine.store.images.put(&target.config_bytes, top.as_ref())?)
}

/// The image of a tag that is there, if the registry says that the tag still stands for it: devices ask for this all day, and
/// registries that limit pulls count manifests.
fn unchanged(
    engine: &Engine,
    repository: &Repository,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<(Digest, ImageId, ImageConfig)>> {
    let tags = &engine.store.tags;
    let Some(id) = tags.get(reference).filter(|_| reference.digest().is_none()) else {
        return Ok(None);
    };
    let Ok(config) = image::config_of(engine, &id) else {
        return Ok(None);
    };
    // An index may have a better one for this machine than what was asked for then.
    let same = config.architecture.as_ref() == Some(&platform.architecture)
        && config.variant.clone().unwrap_or_default() == platform.variant;
    if !same || !is_whole(engine, &id) {
        return Ok(None);
    }
    let found = match repository.glance(reference) {
        Ok(found) => found,
        Err(error @ (registry::Error::Transport { .. } | registry::Error::Cancelled)) => {
            return Err(registry_error(error, reference));
        }
        // Its reason comes with the answer to who asks for the manifest.
        Err(_) => None,
    };
    let found = found.map(|found| found.digest);
    let known = |digest: &Digest| tags.get(&reference.with_digest(digest)).as_ref() == Some(&id);
    Ok(found.filter(known).map(|digest| (digest, id.clone(), config)))
}

fn is_whole(engine: &Engine, id: &ImageId) -> bool {
    let layers = &engine.store.layers;
    match engine.store.images.top_layer(id) {
        Ok(None) => true,
        Ok(Some(top)) => {
            let chain = layers.chain(&top);
            let whole = |chain: &ChainId| layers.exists(chain) && !layers.is_damaged(chain);
            !chain.is_empty() && chain.iter().all(|(chain, _)| whole(chain))
        }
        Err(_) => false,
    }
}

/// Goes from what the name stands for to the one manifest that this machine runs.
fn choose(
    repository: &Repository,
    mut found: registry::ManifestResponse,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Manifest, Vec<u8>)> {
    // An index may name an index; more than two levels are somebody's joke.
    for _ in 0..3 {
        let parsed = AnyManifest::parse(&found.media_type, &found.bytes).map_err(|e| manifest_error(&e, &found))?;
        match parsed {
            AnyManifest::Image(manifest) => return Ok((*manifest, found.bytes)),
            AnyManifest::Index(index) => {
                let Some(descriptor) = index.choose(platform) else {
                    return Err(Error::not_found(format!(
                        "no matching manifest for {platform} in the manifest list entries"
                    )));
                };
                let next = reference.with_digest(&descriptor.digest);
                found = repository.manifest(&next).map_err(|e| registry_error(e, reference))?;
            }
        }
    }
    Err(Error::invalid(format!(
        "the index of {} is nested too deeply",
        reference.familiar()
    )))
}

fn manifest_error(error: &oci::manifest::ManifestError, found: &registry::ManifestResponse) -> Error {
    if found
        .media_type
        .starts_with("application/vnd.docker.distribution.manifest.v1+")
    {
        return Error::new(
            Kind::NotImplemented,
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported by balena; push the image again with a current docker",
        );
    }
    Error::invalid(format!("manifest {}: {error}", found.digest))
}

/// What can be told from manifest and config before anything is fetched.
fn check(manifest: &Manifest, config: &ImageConfig) -> Result<()> {
    let kind = manifest.config.media_type.as_str();
    if !matches!(
        kind,
        "" | media_type::DOCKER_CONFIG | media_type::OCI_CONFIG | "application/octet-stream"
    ) {
        return Err(Error::invalid(format!(
            "Encountered remote \"{kind}\"(unknown) when fetching: it is no container image"
        )));
    }
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(Error::invalid(format!(
            "layers from manifest don't match image configuration: {} layers, {} diff IDs",
            manifest.layers.len(),
            config.rootfs.diff_ids.len()
        )));
    }
    if config.os.as_deref().is_some_and(|os| !os.is_empty() && os != "linux") {
        return Err(Error::invalid(format!(
            "image operating system \"{}\" cannot be used on this platform",
            config.os.as_deref().unwrap_or_default()
        )));
    }
    Ok(())
}

/// The image to be.
struct Target<'a> {
    manifest: &'a Manifest,
    /// The manifest's.
    digest: Digest,
    config: &'a ImageConfig,
}

/// One layer on its way.
struct Job<'a> {
    descriptor: &'a Descriptor,
    diff: &'a Digest,
    chain: &'a ChainId,
    below: Option<&'a ChainId>,
    /// Deltas that make it and were not tried yet.
    deltas: Vec<Candidate>,
    mode: Mode,
    sum: Arc<Total>,
    queue: Queue,
    /// In the queue.
    place: usize,
}

impl Job<'_> {
    fn short(&self) -> &str {
        self.descriptor.digest.short()
    }
}

fn fetch_layers(
    engine: &Engine,
    repository: &Repository,
    target: &Target<'_>,
    mode: Mode,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Option<LayerId>> {
    let (manifest, diffs) = (target.manifest, &target.config.rootfs.diff_ids);
    let mut top: Option<LayerId> = None;
    let mut have = 0;
    for diff in diffs {
        let chain = ChainId::of(top.as_ref().map(LayerId::chain_id), &DiffId(diff.clone()));
        match engine.store.layers.get(&chain) {
            Some(layer) => top = Some(layer),
            None => break,
        }
        have += 1;
    }
    let chains = chains(diffs);
    for (index, descriptor) in manifest.layers[..have].iter().enumerate() {
        let below = index.checked_sub(1).map(|below| &chains[below]);
        if engine.store.layers.is_damaged(&chains[index]) {
            let damaged = Damaged {
                descriptor,
                below,
                chain: &chains[index],
            };
            repair::layer(engine, repository, &damaged, progress, cancel)?;
        } else {
            progress.status(descriptor.digest.short(), "Already exists")?;
        }
    }
    let mut deltas = find_deltas(engine, repository, target, have, mode, progress)?;
    let sizes = manifest.layers.iter().zip(diffs).skip(have);
    let total = sizes.map(|(layer, diff)| deltas.get(diff).map_or(layer.size, |found| found[0].descriptor.size));
    let sum = progress.total(total.fold(0, u64::saturating_add));
    // Of what an earlier pull had begun nobody knows what it will need.
    let new = (have..manifest.layers.len()).filter(|&index| !engine.store.layers.is_begun(&chains[index]));
    enough_space(
        engine,
        new.map(|index| (&manifest.layers[index], deltas.get(&diffs[index]))),
    )?;
    let queue = Queue::new(engine.pace.rate());
    let mut jobs: Vec<Job<'_>> = (have..manifest.layers.len())
        .map(|index| Job {
            descriptor: &manifest.layers[index],
            diff: &diffs[index],
            chain: &chains[index],
            below: index.checked_sub(1).map(|below| &chains[below]),
            deltas: deltas.remove(&diffs[index]).unwrap_or_default(),
            mode,
            sum: sum.clone(),
            queue: queue.clone(),
            place: index,
        })
        .collect();
    for job in &jobs {
        progress.status(job.short(), "Pulling fs layer")?;
    }
    // Of one pull it stays the same.
    let downloads = engine.limits().downloads;
    for job in jobs.iter().skip(downloads) {
        progress.status(job.short(), "Waiting")?;
    }
    // Downloads run ahead of the unpacking in a window of their own; leaving the scope early drops the receivers,
    // which ends their threads at the next chunk, and cancels what they wait for on the network.
    let mut ahead: BTreeMap<usize, Arriving<'_>> = BTreeMap::new();
    let mut next = 0;
    let network = repository.cancel_handle();
    let mut saved = Saved::default();
    let result: Result<()> = (|| {
        for index in 0..jobs.len() {
            while next < jobs.len() && next < index + downloads.max(1) {
                ahead.insert(next, begin(engine, repository, &mut jobs[next], progress)?);
                next += 1;
            }
            let arriving = ahead
                .remove(&index)
                .ok_or_else(|| Error::internal("a layer's download was not started"))?;
            let work = Work {
                engine,
                repository,
                progress,
                cancel,
            };
            let layer = work.layer(top.as_ref(), &mut jobs[index], arriving, &mut saved)?;
            progress.status(jobs[index].short(), "Pull complete")?;
            top = Some(layer);
        }
        Ok(())
    })();
    drop(ahead);
    if result.is_err() {
        network.cancel();
    }
    result?;
    if let Some(text) = saved.text() {
        progress.status("", text)?;
    }
    Ok(top)
}

/// Looks for deltas of the layers that are missing. That this fails is no reason for a pull to fail.
fn find_deltas(
    engine: &Engine,
    repository: &Repository,
    target: &Target<'_>,
    have: usize,
    mode: Mode,
    progress: &Progress,
) -> Result<Found> {
    let layers = target.manifest.layers.iter().zip(&target.config.rootfs.diff_ids);
    let missing: Vec<Missing<'_>> = layers
        .skip(have)
        .map(|(layer, diff)| Missing {
            diff,
            bytes: layer.size,
        })
        .collect();
    if mode == Mode::Off || missing.is_empty() {
        return Ok(Found::new());
    }
    let found = find_delta::find(engine, repository, &target.digest, &missing);
    match (mode, found) {
        (Mode::Only, Err(error)) => Err(Error::not_found(format!("no delta: {error}"))),
        (Mode::Only, Ok((found, _))) if found.is_empty() => Err(Error::not_found(format!(
            "no delta of {} can be applied to what is here, and delta=only was asked for: push one from an image that is here, or pull with delta=auto",
            target.digest
        ))),
        (_, Ok((found, listed))) => {
            if found.is_empty() && listed > 0 {
                // Whoever looks after the device will want to know why it fetched everything.
                let text = format!("Delta not used: of {listed} on the registry none is smaller and from what is here");
                progress.status("", text)?;
            }
            Ok(found)
        }
        (_, Err(error)) => {
            log::warn!("no deltas of {}: {error}", target.digest);
            Ok(Found::new())
        }
    }
}

/// What deltas saved.
#[derive(Default)]
struct Saved {
    from: Option<String>,
    bytes: u64,
    instead_of: u64,
}

impl Saved {
    fn text(&self) -> Option<String> {
        let from = self.from.as_ref()?;
        Some(delta_text(from, self.bytes, self.instead_of))
    }
}

fn delta_text(from: &str, bytes: u64, instead_of: u64) -> String {
    let (bytes, instead_of) = (find_delta::megabytes(bytes), find_delta::megabytes(instead_of));
    format!("Delta from {from}: {bytes} instead of {instead_of}")
}

/// Begins to fetch a layer: its next delta, if there is one that costs less than what is left of the blob itself.
fn begin<'a>(
    engine: &'a Engine,
    repository: &Repository,
    job: &mut Job<'_>,
    progress: &Progress,
) -> Result<Arriving<'a>> {
    let own = &job.descriptor.digest;
    let blobs: Vec<&Digest> = std::iter::once(own)
        .chain(job.deltas.iter().map(|delta| &delta.descriptor.digest))
        .collect();
    let partial = engine.store.layers.partial(job.below, job.chain, &blobs);
    let begun = partial
        .as_ref()
        .and_then(|partial| Some((partial.begun()?.clone(), partial.offset())));
    let offset = |blob: &Descriptor| match &begun {
        Some((digest, offset)) if *digest == blob.digest => (*offset).min(blob.size),
        _ => 0,
    };
    let left = |blob: &Descriptor| blob.size - offset(blob);
    let most = left(job.descriptor);
    job.deltas.sort_by_key(|delta| left(&delta.descriptor));
    let mut without_base = None;
    while !job.deltas.is_empty() {
        let delta = job.deltas.remove(0);
        if left(&delta.descriptor) >= most {
            continue;
        }
        // Held from now on: by the time that it is applied, an image may have been removed.
        match Held::find(engine, &delta.bases) {
            Ok(held) => {
                // What an earlier pull left of the blob itself stays until the delta has made the layer.
                let own_is_begun = begun.as_ref().is_some_and(|(digest, _)| digest == own);
                let partial = partial.filter(|_| !own_is_begun);
                let partial = partial
                    .map(|partial| partial.of(&delta.descriptor.digest))
                    .transpose()?;
                let offset = offset(&delta.descriptor);
                let meter = progress.meter(job.short(), delta.descriptor.size, &job.sum);
                let turn = job.queue.join(job.place, delta.descriptor.size - offset);
                return Ok(Arriving {
                    download: Download::start(engine, repository, &delta.descriptor, offset, meter, turn)?,
                    offset,
                    partial,
                    delta: Some((delta, held)),
                });
            }
            // It was there when the delta was chosen.
            Err(error) => {
                log::warn!("delta {}: {error}", delta.descriptor.digest);
                without_base = Some(error);
            }
        }
    }
    match without_base {
        Some(error) if job.mode == Mode::Only => return Err(Error::not_found(format!("no delta: {error}"))),
        Some(error) => progress.status(job.short(), format!("Delta not used: {error}"))?,
        None => {}
    }
    let partial = partial.map(|partial| partial.of(own)).transpose()?;
    start_download(engine, repository, job, partial, progress)
}

/// What a layer's making needs besides the layer.
struct Work<'a> {
    engine: &'a Engine,
    repository: &'a Repository,
    progress: &'a Progress,
    cancel: &'a Cancel,
}

impl<'a> Work<'a> {
    /// Makes a layer of what arrives, or of something else if that turns out to be no good.
    fn layer(
        &self,
        top: Option<&LayerId>,
        job: &mut Job<'_>,
        mut arriving: Arriving<'a>,
        saved: &mut Saved,
    ) -> Result<LayerId> {
        let engine = self.engine;
        let layer = loop {
            let (resumed, mut delta) = (arriving.offset > 0, arriving.delta.take());
            let rescue = Rescue::new(self.repository, job.descriptor, &engine.pace);
            let made = match &mut delta {
                Some((_, held)) => apply(held, top.map(LayerId::chain_id), job, arriving, &rescue),
                None => receive(engine, top.map(LayerId::chain_id), job.descriptor, arriving),
            };
            let made = made.and_then(|unpacked| {
                let committed = unpacked.commit(&DiffId(job.diff.clone()));
                committed.map_err(|e| about(job.descriptor, e))
            });
            if self.cancel.is_set() {
                return Err(Error::cancelled());
            }
            match (made, delta) {
                (Ok(layer), Some((delta, _))) => {
                    self.applied(job, &delta, rescue.rescued(), saved)?;
                    break layer;
                }
                (Ok(layer), None) => {
                    if !resumed {
                        // Of a blob whose beginning came another time the digest was not seen: nothing is said of it.
                        engine.store.distribution.add(
                            &DiffId(job.diff.clone()),
                            Blob {
                                digest: job.descriptor.digest.clone(),
                                repository: self.repository.name().canonical(),
                                hmac: String::new(),
                            },
                        )?;
                    }
                    break layer;
                }
                (Err(failure), Some((delta, _))) if resumed && failure.is_about_content => {
                    // What was left of an earlier pull may be what is wrong, and is gone now: once more, all of it.
                    log::warn!(
                        "delta {}: from the beginning again: {}",
                        delta.descriptor.digest,
                        failure.error
                    );
                    job.deltas.push(delta);
                    arriving = begin(engine, self.repository, job, self.progress)?;
                }
                (Err(failure), Some(_)) if !failure.is_final => {
                    let text = format!("Delta not used: {}", failure.error);
                    log::warn!("layer {}: {text}", job.descriptor.digest);
                    self.progress.status(job.short(), text)?;
                    arriving = begin(engine, self.repository, job, self.progress)?;
                    if job.mode == Mode::Only && arriving.delta.is_none() {
                        return Err(failure.error);
                    }
                }
                (Err(failure), None) if resumed && failure.is_about_content => {
                    // What was left of an earlier pull may be what is wrong, and is gone now: once more, all of it.
                    log::warn!("{}: from the beginning again: {}", job.descriptor.digest, failure.error);
                    let partial = engine
                        .store
                        .layers
                        .partial(job.below, job.chain, &[&job.descriptor.digest]);
                    arriving = start_download(engine, self.repository, job, partial, self.progress)?;
                }
                (Err(failure), _) => return Err(failure.error),
            }
        };
        Ok(layer)
    }

    /// Says what a delta saved, and forgets what an earlier pull left of the blob.
    fn applied(&self, job: &Job<'_>, delta: &Candidate, rescued: Option<Rescued>, saved: &mut Saved) -> Result<()> {
        if let Some(rescued) = rescued {
            log::warn!("layer {}: {rescued}", job.descriptor.digest);
            self.progress.status(job.short(), rescued.to_string())?;
        }
        let more = rescued.map_or(0, |rescued| rescued.bytes);
        let (bytes, instead_of) = (delta.descriptor.size.saturating_add(more), job.descriptor.size);
        let from = find_delta::base_name(self.engine, &delta.bases);
        self.progress
            .status(job.short(), delta_text(&from, bytes, instead_of))?;
        saved.from.get_or_insert(from);
        (saved.bytes, saved.instead_of) = (saved.bytes + bytes, saved.instead_of + instead_of);
        let layers = &self.engine.store.layers;
        if layers.is_begun(job.chain)
            && let Some(mut partial) = layers.partial(job.below, job.chain, &[&job.descriptor.digest])
            && let Err(error) = partial.discard()
        {
            log::warn!("left to the sweep: {error}");
        }
        Ok(())
    }
}

/// Refuses a pull that cannot fit before it writes anything. Certain is only a part of what it will need: a compressed
/// layer has nearly as many bytes unpacked at least, a plain one may be half headers, and deltas say what they write.
fn enough_space<'a>(
    engine: &Engine,
    layers: impl Iterator<Item = (&'a Descriptor, Option<&'a Vec<Candidate>>)>,
) -> Result<()> {
    let least = |layer: &Descriptor| match layer.media_type.ends_with("tar") {
        true => layer.size / 2,
        false => layer.size / 10 * 9,
    };
    let human = |bytes: u64| api::progress::human(i64::try_from(bytes).unwrap_or(i64::MAX));
    let (mut needed, mut by_deltas) = (0u64, 0u64);
    for (layer, deltas) in layers {
        match deltas.and_then(|deltas| deltas.iter().map(|delta| delta.written).min()) {
            Some(written) => by_deltas = by_deltas.saturating_add(written),
            None => needed = needed.saturating_add(least(layer)),
        }
    }
    needed = needed.saturating_add(by_deltas);
    let free = engine.store.free_space()?;
    if needed <= free {
        return Ok(());
    }
    let told = match by_deltas {
        0 => String::new(),
        // Not more than a claim; and a file system may compress.
        bytes => format!(
            "; {} of it as its deltas say, and delta=off pulls without them",
            human(bytes)
        ),
    };
    Err(Error::internal(format!(
        "no space left on device: the image needs {} at least, {} of {} are free{told}",
        human(needed),
        human(free),
        engine.config.data_root.display()
    )))
}

/// The chain IDs of all layers, base first.
fn chains(diffs: &[Digest]) -> Vec<ChainId> {
    let mut chains: Vec<ChainId> = Vec::new();
    for diff in diffs {
        chains.push(ChainId::of(chains.last(), &DiffId(diff.clone())));
    }
    chains
}

/// A download on its way, and what was there of the layer before.
struct Arriving<'a> {
    download: Download,
    offset: u64,
    partial: Option<Partial>,
    /// It is this delta that arrives, not the layer's own blob.
    delta: Option<(Candidate, Held<'a>)>,
}

/// Starts to fetch a layer's own blob, from where an earlier pull was.
fn start_download<'a>(
    engine: &'a Engine,
    repository: &Repository,
    job: &Job<'_>,
    partial: Option<Partial>,
    progress: &Progress,
) -> Result<Arriving<'a>> {
    let offset = partial.as_ref().map_or(0, Partial::offset);
    let meter = progress.meter(job.short(), job.descriptor.size, &job.sum);
    let turn = job.queue.join(job.place, job.descriptor.size.saturating_sub(offset));
    Ok(Arriving {
        download: Download::start(engine, repository, job.descriptor, offset, meter, turn)?,
        offset,
        partial,
        delta: None,
    })
}

/// Unpacks a blob as it arrives.
fn receive(
    engine: &Engine,
    below: Option<&ChainId>,
    layer: &Descriptor,
    arriving: Arriving<'_>,
) -> Result<UnpackedLayer, Failure> {
    let partial = arriving.partial;
    arriving.download.unpack(layer, |blob| {
        let staged = engine.store.layers.stage_pull(below, partial)?;
        staged.sized(layer.size).unpack_blob(blob)
    })
}

/// Makes a layer of a delta as that arrives.
fn apply(
    held: &mut Held<'_>,
    below: Option<&ChainId>,
    job: &Job<'_>,
    arriving: Arriving<'_>,
    rescue: &Rescue,
) -> Result<UnpackedLayer, Failure> {
    let target = apply_delta::Target {
        below,
        diff: job.diff,
        partial: arriving.partial,
        rescue: Some(rescue),
    };
    arriving
        .download
        .unpack(job.descriptor, |delta| apply_delta::unpack(held, target, delta))
}

fn blob_error(error: BlobError, reference: &Reference) -> Error {
    match error {
        BlobError::Registry(e) => registry_error(e, reference),
        other => Error::new(blob_kind(&other), other.to_string()),
    }
}

/// A registry's error in the words of a pull.
pub fn registry_error(error: registry::Error, reference: &Reference) -> Error {
    // A client takes "not found" for the end of it, and whose password is wrong has not heard of the image at all.
    let kind = match kind_of(&error) {
        Kind::NotFound if error.is_unauthorized() => Kind::Internal,
        kind => kind,
    };
    Error::new(kind, error.for_pull(reference))
}
