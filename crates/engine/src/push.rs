//! Pushing images: what the registry has is named, the rest is made from the layers' files while it is sent.
//!
//! For each layer, in this order: a blob that the repository has; one that another repository of the registry has,
//! mounted; an upload, whose gzip is made on the way. Which blobs hold a layer is known from pulls and pushes before.
//! Where all blobs turn out to be those the image was pulled by, its manifest is pushed byte for byte as it was
//! pulled, so that the digest is the same; else one is written as Docker writes it.

use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gzip::Gzipped;
use crate::progress::Progress;
use crate::{Engine, image};
use api::progress::Message;
use json::Serialize;
use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Manifest, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Auth, ErrorKind, Repository, Upload};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::distribution::Blob;
use store::{ChainId, DiffId, ImageId, LayerId};

/// How many blobs are asked for before a layer is uploaded, as in Docker.
const CHECKS: usize = 3;
/// The wait after the first failure; each is longer by as much.
const WAIT: Duration = Duration::from_secs(5);
/// The longest wait; a registry that asks for more is the user's to see.
const LONGEST: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(100);

/// What a push is asked for.
pub struct Request<'a> {
    /// Without a tag, all tags of the repository are pushed.
    pub reference: &'a Reference,
    pub platform: Option<&'a Platform>,
    pub auth: Auth,
}

/// Pushes one tag or all of a repository; reports as Docker does.
pub fn push(engine: &Engine, request: Request<'_>, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let reference = request.reference;
    let name = reference.repository();
    let opened = engine.registry().repository_for_push(reference, request.auth);
    let repository = opened.map_err(failed)?;
    let handle = repository.cancel_handle();
    cancel.on_set(move || handle.cancel());
    progress.status("", format!("The push refers to repository [{}]", name.canonical()))?;
    let known = engine.store.tags.of_repository(&name.familiar());
    if known.is_empty() {
        return Err(Error::internal(format!(
            "An image does not exist locally with the tag: {}",
            name.familiar()
        )));
    }
    let wanted: Vec<(Reference, ImageId)> = match reference.tag() {
        None => known.into_iter().filter(|(name, _)| name.digest().is_none()).collect(),
        Some(_) => {
            let id = engine.store.tags.get(reference);
            let id = id.ok_or_else(|| Error::internal(format!("tag does not exist: {}", reference.familiar())))?;
            vec![(reference.clone(), id)]
        }
    };
    if let Some(platform) = request.platform {
        for (reference, id) in &wanted {
            image::must_be_for(engine, id, &reference.familiar(), platform)?;
        }
    }
    for (reference, id) in &wanted {
        one(engine, &repository, reference, id, progress, cancel)?;
        let attributes = BTreeMap::from([("name".to_string(), name.familiar())]);
        engine.events.emit("image", "push", &reference.familiar(), attributes);
    }
    Ok(())
}

/// A layer on its way, topmost first in all lists of them.
struct Job {
    layer: LayerId,
    diff: DiffId,
    /// What its lines of progress are about.
    id: String,
    /// The blob that the image was pulled by.
    pulled: Option<Descriptor>,
}

fn one(
    engine: &Engine,
    repository: &Repository,
    reference: &Reference,
    id: &ImageId,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let config_bytes = engine.store.images.get(id)?;
    let config = image::config_of(engine, id)?;
    let kept = engine.store.images.kept_manifest(id);
    let pulled = kept
        .as_ref()
        .and_then(|bytes| pulled_by(bytes, id, config.rootfs.diff_ids.len()));
    let (mut jobs, mut chain) = (Vec::new(), None::<ChainId>);
    for (index, diff) in config.rootfs.diff_ids.iter().enumerate() {
        let diff = DiffId(diff.clone());
        let next = ChainId::of(chain.as_ref(), &diff);
        let layer = engine.store.layers.get(&next);
        jobs.push(Job {
            layer: layer.ok_or_else(|| Error::internal(format!("layer does not exist: {}", next.digest())))?,
            id: diff.0.short().to_string(),
            diff,
            pulled: pulled.as_ref().map(|manifest| manifest.layers[index].clone()),
        });
        chain = Some(next);
    }
    jobs.reverse();
    let config_digest = id.0.clone();
    // Asked first: a registry that does not answer is told of before anything else.
    let has_config = match repository.blob_exists(&config_digest) {
        Ok(found) => found.is_some(),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled) => {
            return Err(failed(error));
        }
        Err(_) => false,
    };
    for job in &jobs {
        progress.status(&job.id, "Preparing")?;
    }
    let uploads = engine.limits().uploads.max(1);
    for job in jobs.iter().skip(uploads) {
        progress.status(&job.id, "Waiting")?;
    }
    let mut layers = all(engine, repository, &jobs, uploads, progress, cancel)?;
    layers.reverse();

    if !has_config {
        let length = config_bytes.len() as u64;
        let mut source = &config_bytes[..];
        let sent = repository.upload(&mut source, Some(length), Some(&config_digest));
        sent.map_err(failed)?;
    }
    let same = pulled.filter(|manifest| {
        let digests = |list: &[Descriptor]| list.iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
        digests(&manifest.layers) == digests(&layers)
    });
    let (bytes, kind) = match (same, kept) {
        (Some(manifest), Some(bytes)) => (bytes, type_of(&manifest)),
        _ => (
            written(&config_digest, config_bytes.len() as u64, layers),
            media_type::DOCKER_MANIFEST.to_string(),
        ),
    };
    let tag = reference.tag().unwrap_or("latest");
    let digest = repository.put_manifest(tag, &kind, &bytes).map_err(failed)?;
    progress.status("", format!("{tag}: digest: {digest} size: {}", bytes.len()))?;
    progress.send(&Message {
        progress_detail: Some(api::progress::Detail::default()),
        aux: Some(serde_json::json!({"Tag": tag, "Digest": digest.as_str(), "Size": bytes.len()})),
        ..Message::default()
    })?;
    engine.store.tags.set(&reference.with_digest(&digest), id)?;
    Ok(())
}

/// The manifest that was kept, if it is this image's.
fn pulled_by(bytes: &[u8], id: &ImageId, layers: usize) -> Option<Manifest> {
    match AnyManifest::parse("", bytes).ok()? {
        AnyManifest::Image(manifest) if manifest.config.digest == id.0 && manifest.layers.len() == layers => {
            Some(*manifest)
        }
        _ => None,
    }
}

fn type_of(manifest: &Manifest) -> String {
    match manifest.media_type.as_str() {
        "" => media_type::OCI_MANIFEST.to_string(),
        own => own.to_string(),
    }
}

/// A manifest as Docker writes it: its fields, their order, three spaces.
fn written(config: &Digest, size: u64, layers: Vec<Descriptor>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written {
        schema_version: u32,
        media_type: &'static str,
        config: Part,
        layers: Vec<Part>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        media_type: &'static str,
        size: u64,
        digest: Digest,
    }
    let manifest = Written {
        schema_version: 2,
        media_type: media_type::DOCKER_MANIFEST,
        config: Part {
            media_type: media_type::DOCKER_CONFIG,
            size,
            digest: config.clone(),
        },
        layers: layers
            .into_iter()
            .map(|layer| Part {
                media_type: media_type::DOCKER_LAYER,
                size: layer.size,
                digest: layer.digest,
            })
            .collect(),
    };
    json::pretty(&json::to_string(&manifest), "   ").into_bytes()
}

/// Sees to all layers, some at a time, in their order; the first failure ends the others.
fn all(
    engine: &Engine,
    repository: &Repository,
    jobs: &[Job],
    uploads: usize,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Vec<Descriptor>> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let done: Vec<Mutex<Option<Descriptor>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let lock = |e: std::sync::PoisonError<_>| e.into_inner();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(job) = jobs.get(at) else { return };
            if cancel.is_set() || failure.lock().is_ok_and(|failure| failure.is_some()) {
                return;
            }
            match layer(engine, repository, job, progress, cancel) {
                Ok(descriptor) => *done[at].lock().unwrap_or_else(|e| e.into_inner()) = Some(descriptor),
                Err(error) => {
                    let mut first = failure.lock().unwrap_or_else(lock);
                    first.get_or_insert(error);
                    drop(first);
                    // What others are at is for nothing now.
                    repository.cancel_handle().cancel();
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..uploads.min(jobs.len()) {
            let spawned = std::thread::Builder::new()
                .name("upload".into())
                .stack_size(512 << 10)
                .spawn_scoped(scope, work);
            if let Err(error) = spawned {
                log::warn!("start a thread for an upload: {error}");
            }
        }
        work();
    });
    if cancel.is_set() {
        return Err(Error::cancelled());
    }
    if let Some(error) = failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(error);
    }
    done.into_iter()
        .map(|slot| {
            let found = slot.into_inner().unwrap_or_else(|e| e.into_inner());
            found.ok_or_else(|| Error::internal("a layer was not pushed"))
        })
        .collect()
}

/// Sees to one layer: finds it, mounts it, or sends it.
fn layer(
    engine: &Engine,
    repository: &Repository,
    job: &Job,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Descriptor> {
    let mut known = engine.store.distribution.blobs(&job.diff);
    known.reverse();
    let here = repository.name().canonical();
    let (ours, others): (Vec<Blob>, Vec<Blob>) = known.into_iter().partition(|blob| blob.repository == here);
    let mut candidates: Vec<Digest> = job.pulled.iter().map(|layer| layer.digest.clone()).collect();
    for blob in ours.iter().chain(&others) {
        if !candidates.contains(&blob.digest) {
            candidates.push(blob.digest.clone());
        }
    }
    candidates.truncate(CHECKS);
    let said = |text: &str| progress.status(&job.id, text);
    for digest in &candidates {
        match repository.blob_exists(digest) {
            Ok(Some(size)) => {
                said("Layer already exists")?;
                remember(engine, job, digest, &here);
                return descriptor(repository, digest, size);
            }
            Ok(None) => {
                // It was, and is not any more: the next push does not ask for it.
                for blob in ours.iter().filter(|blob| blob.digest == *digest) {
                    engine.store.distribution.remove(&job.diff, blob)?;
                }
            }
            // To push is what is asked for; that looking is not allowed shows in the upload.
            Err(error) if error.kind() == ErrorKind::Denied => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let domain = repository.name().domain();
    for digest in &candidates {
        for blob in others.iter().filter(|blob| blob.digest == *digest) {
            let Ok(from) = Reference::parse(&blob.repository) else {
                continue;
            };
            if from.repository().domain() != domain {
                continue;
            }
            // A mount that is refused is no failure: the layer is sent.
            if let Ok(true) = repository.mount(digest, from.repository().path()) {
                said(&format!("Mounted from {}", from.repository().path()))?;
                remember(engine, job, digest, &here);
                return descriptor(repository, digest, 0);
            }
        }
    }
    send(engine, repository, job, progress, cancel)
}

fn remember(engine: &Engine, job: &Job, digest: &Digest, here: &str) {
    let blob = Blob {
        digest: digest.clone(),
        repository: here.to_string(),
        hmac: String::new(),
    };
    if let Err(error) = engine.store.distribution.add(&job.diff, blob) {
        log::warn!("{error}");
    }
}

/// A blob with its size, asked for where it was not told.
fn descriptor(repository: &Repository, digest: &Digest, size: u64) -> Result<Descriptor> {
    let size = match size {
        0 => repository.blob_exists(digest).map_err(failed)?.unwrap_or(0),
        size => size,
    };
    Ok(Descriptor {
        media_type: media_type::DOCKER_LAYER.to_string(),
        size,
        digest: digest.clone(),
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: None,
    })
}

/// Uploads a layer. What the network breaks is gone on with where the registry says that it is: the gzip is made again,
/// the same bytes, and its beginning not sent.
fn send(
    engine: &Engine,
    repository: &Repository,
    job: &Job,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Descriptor> {
    let attempts = engine.limits().upload_attempts;
    let (mut attempt, mut upload) = (1, Upload::default());
    loop {
        let before = upload.kept();
        let size = engine
            .store
            .layers
            .info(job.layer.chain_id())
            .map_or(0, |info| info.size);
        let pushing = Pushing {
            progress: progress.clone(),
            id: job.id.clone(),
            size,
            told: None,
        };
        let mut source = Gzipped::of_layer(&engine.store.layers, &job.layer, pushing.counter())?;
        let sent = repository.upload_on(&mut upload, &mut source, None, None);
        // A layer whose files have changed is not the registry's fault, and no other attempt helps.
        let damaged = source.failure();
        match sent {
            Ok(uploaded) => {
                progress.status(&job.id, "Pushed")?;
                let here = repository.name().canonical();
                remember(engine, job, &uploaded.digest, &here);
                return descriptor(repository, &uploaded.digest, uploaded.size);
            }
            Err(_) if damaged.is_some() => return Err(damaged.unwrap_or_else(Error::cancelled)),
            Err(error) if may_pass(&error) && attempt < attempts && !cancel.is_set() => {
                log::info!("push of {}: attempt {attempt}: {error}", job.id);
                if upload.kept() > before {
                    attempt = 1;
                }
                pause(job, error.retry_after().unwrap_or(WAIT * attempt), progress, cancel)?;
                attempt += 1;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Says if an upload may go better another time: the network broke, or the registry says when to come again, and soon.
fn may_pass(error: &registry::Error) -> bool {
    match error.kind() {
        ErrorKind::Unavailable => true,
        ErrorKind::RateLimited => error.retry_after().is_some_and(|wait| wait <= LONGEST),
        _ => false,
    }
}

/// Counts the seconds until the next attempt, as Docker does.
fn pause(job: &Job, wait: Duration, progress: &Progress, cancel: &Cancel) -> Result<()> {
    for left in (1..=wait.min(LONGEST).as_secs().max(1)).rev() {
        let plural = if left == 1 { "" } else { "s" };
        progress.status(&job.id, format!("Retrying in {left} second{plural}"))?;
        std::thread::sleep(Duration::from_secs(1));
        if cancel.is_set() {
            return Err(Error::cancelled());
        }
    }
    Ok(())
}

/// Tells how much of a layer's tar has gone into the upload.
struct Pushing {
    progress: Progress,
    id: String,
    size: u64,
    told: Option<Instant>,
}

impl Pushing {
    fn counter(mut self) -> impl FnMut(u64) -> io::Result<()> + Send {
        move |at| {
            if self.told.is_some_and(|told| told.elapsed() < PACE) {
                return Ok(());
            }
            self.told = Some(Instant::now());
            let line = Message::bytes(&self.id, "Pushing", at, self.size);
            self.progress.send(&line).map_err(io::Error::other)
        }
    }
}

/// A registry's error in the words of a push.
fn failed(error: registry::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Cancelled => Kind::Cancelled,
        ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Internal,
    };
    let text = match error {
        registry::Error::NoCredentials { .. } => "no basic auth credentials".to_string(),
        error => error.to_string(),
    };
    Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_as_docker_writes_it() {
        let digest = Digest::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
        let layer = Descriptor {
            media_type: String::new(),
            size: 7,
            digest: digest.clone(),
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        };
        let text = String::from_utf8(written(&digest, 5, vec![layer])).unwrap();
        let hex = "ab".repeat(32);
        let wanted = format!(
            "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.docker.distribution.manifest.v2+json\",\n   \"config\": {{\n      \"mediaType\": \"application/vnd.docker.container.image.v1+json\",\n      \"size\": 5,\n      \"digest\": \"sha256:{hex}\"\n   }},\n   \"layers\": [\n      {{\n         \"mediaType\": \"application/vnd.docker.image.rootfs.diff.tar.gzip\",\n         \"size\": 7,\n         \"digest\": \"sha256:{hex}\"\n      }}\n   ]\n}}"
        );
        assert_eq!(text, wanted);
    }
}
