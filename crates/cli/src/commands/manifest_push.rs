//! `manifest push`: puts a list on the registry of its images, which are mounted where they lie in other repositories.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::manifests::{self, Image, Lists, check_registry, missing};
use crate::remote::{Remote, unwritten};
use oci::digest::Digest;
use oci::manifest::AnyManifest;
use oci::reference::Reference;
use registry::{Repository, Sha256};
use std::collections::BTreeSet;

pub const COMMAND: Command = Command::new(
    &["manifest push"],
    "[OPTIONS] MANIFEST_LIST",
    "Push a manifest list to a repository",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("insecure", "Allow push to an insecure registry"),
    Flag::bool("purge", "Remove the local manifest list after push").short('p'),
]])
.examples(&[
    "manifest push registry.example/app:1",
    "manifest push --purge registry.example/app:1",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let list = reference_or_latest(parsed.first()).map_err(Failure::new)?;
    let lists = Lists::of(cli);
    let images = lists.images(&list)?.ok_or_else(|| missing(&list))?;
    if images.is_empty() {
        return Err(Failure::new(format!("{} not found", list.canonical())));
    }
    for image in &images {
        let platform = image.descriptor.platform.as_ref();
        if platform.is_none_or(|platform| platform.os.is_empty() || platform.architecture.is_empty()) {
            return Err(Failure::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                image.name.0.canonical()
            )));
        }
        check_registry(&list, image)?;
    }
    let elsewhere = |image: &&Image| image.name.0.repository() != list.repository();
    let to_mount = images.iter().filter(elsewhere).map(mounted);
    let to_mount: Vec<Mounted> = to_mount.collect::<Result<_, _>>()?;
    let repository = Remote::writing(cli, &list, parsed.bool("insecure")).repository(&list)?;
    let mut there = BTreeSet::new();
    for image in &to_mount {
        image.mount_blobs(&repository, &list, &mut there)?;
    }
    for Mounted {
        image,
        media_type,
        bytes,
        ..
    } in &to_mount
    {
        let name = list.with_digest(&image.descriptor.digest);
        let digest = put(&repository, &name, media_type, bytes)?;
        cli.say(format_args!("Pushed ref {} with digest: {digest}", name.canonical()))?;
    }
    let (media_type, text) = manifests::list(&images);
    cli.say(put(&repository, &list, media_type, text.as_bytes())?)?;
    if parsed.bool("purge") {
        lists.remove(&list)?;
    }
    Ok(())
}

fn put(repository: &Repository, name: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest, Failure> {
    let digest = Sha256::digest(bytes);
    // Under a digest it is put under its own, whatever was asked for.
    let place = name.tag().unwrap_or(digest.as_str());
    let put = repository.put_manifest(place, media_type, bytes);
    put.map_err(|e| unwritten(&e, format!("failed to put manifest {}", name.canonical())))
}

/// An image of another repository, with what is put where the list is.
struct Mounted<'a> {
    image: &'a Image,
    media_type: &'static str,
    bytes: Vec<u8>,
    blobs: Vec<Digest>,
}

fn mounted(image: &Image) -> Result<Mounted<'_>, Failure> {
    let (media_type, bytes) = image.payload()?;
    let (name, expected) = (image.name.0.canonical(), &image.descriptor.digest);
    let got = Sha256::digest(&bytes);
    if got != *expected {
        return Err(Failure::new(format!(
            "internal digest mismatch for {name}: expected {expected}, got {got}"
        )));
    }
    let blobs = match AnyManifest::parse(media_type, &bytes) {
        Ok(AnyManifest::Image(manifest)) => {
            let layers = manifest.layers.into_iter().map(|layer| layer.digest);
            std::iter::once(manifest.config.digest).chain(layers).collect()
        }
        Ok(AnyManifest::Index(_)) => return Err(Failure::new(format!("{name} is a manifest list"))),
        Err(e) => return Err(Failure::new(format!("manifest {got}: {e}"))),
    };
    Ok(Mounted {
        image,
        media_type,
        bytes,
        blobs,
    })
}

impl Mounted<'_> {
    /// Takes the image's blobs over; `there` is what was before.
    fn mount_blobs(
        &self,
        repository: &Repository,
        list: &Reference,
        there: &mut BTreeSet<Digest>,
    ) -> Result<(), Failure> {
        let from = self.image.name.0.repository().path();
        // Layers of Windows' own are on no registry.
        let optional = self
            .image
            .descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "windows");
        for blob in &self.blobs {
            if there.contains(blob) {
                continue;
            }
            let (source, target) = (format!("{from}@{blob}"), list.canonical());
            let done = repository.mount(blob, from);
            let done = done.map_err(|e| unwritten(&e, format!("failed to mount blob {source} to {target}")))?;
            match done {
                true => _ = there.insert(blob.clone()),
                false if optional => {}
                false => return Err(Failure::new(format!("error mounting {source} to {target}"))),
            }
        }
        Ok(())
    }
}
