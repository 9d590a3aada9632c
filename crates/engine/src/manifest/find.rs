//! What a name stands for: an image with what it is for, or a list and all of its images.

use super::{Remote, unreachable};
use crate::error::{Context, Error, Result};
use api::manifest::{Found, Image};
use json::Raw;
use oci::base64;
use oci::manifest::{AnyManifest, Manifest, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{ApiError, BlobError, ErrorKind, ManifestResponse, Repository};

/// The largest image config that is read, bytes.
const CONFIG: u64 = 8 << 20;
/// Most images of a list that are looked at, and most bytes of their manifests.
const LISTED: usize = 128;
const LISTED_BYTES: usize = 4 << 20;

/// The image that a name stands for.
pub fn image(remote: &Remote, name: &Reference) -> Result<Image> {
    let repository = remote.repository(name)?;
    match fetch(&repository, name)? {
        (found, AnyManifest::Image(manifest)) => {
            let platform = platform(&repository, &manifest)?;
            Ok(described(name.canonical(), &found, &manifest, &platform))
        }
        (_, AnyManifest::Index(_)) => Err(Error::invalid(format!("{} is a manifest list", name.canonical()))),
    }
}

/// The image, or all images of the list.
pub fn find(remote: &Remote, name: &Reference) -> Result<Found> {
    let repository = remote.repository(name)?;
    let listed = match fetch(&repository, name)? {
        (found, AnyManifest::Image(manifest)) => {
            let platform = platform(&repository, &manifest)?;
            let image = described(name.canonical(), &found, &manifest, &platform);
            return Ok(Found::Image { image });
        }
        (_, AnyManifest::Index(index)) => index.manifests,
    };
    let too_much = |what| Error::invalid(format!("{} lists more than {what}", name.canonical()));
    if listed.len() > LISTED {
        return Err(too_much(format!("{LISTED} images")));
    }
    let (mut images, mut bytes) = (Vec::new(), 0);
    for entry in &listed {
        let (found, parsed) = fetch(&repository, &name.with_digest(&entry.digest))?;
        bytes += found.bytes.len();
        if bytes > LISTED_BYTES {
            return Err(too_much(format!("{LISTED_BYTES} bytes of manifests")));
        }
        let AnyManifest::Image(manifest) = parsed else {
            return Err(Error::invalid(
                "unsupported manifest type: *manifestlist.DeserializedManifestList",
            ));
        };
        // What its config says is not shown, but it must be one.
        platform(&repository, &manifest)?;
        let shown = format!("{}@{}", name.canonical(), entry.digest);
        let platform = entry.platform.clone().unwrap_or_default();
        images.push(described(shown, &found, &manifest, &platform));
    }
    Ok(Found::List { images })
}

fn fetch(repository: &Repository, name: &Reference) -> Result<(ManifestResponse, AnyManifest)> {
    let found = repository.manifest(name).map_err(|e| unread(e, name))?;
    let parsed = AnyManifest::parse(&found.media_type, &found.bytes).invalid(format!("manifest {}", found.digest))?;
    Ok((found, parsed))
}

/// What an image is for, by its config.
fn platform(repository: &Repository, manifest: &Manifest) -> Result<Platform> {
    let config = repository.blob_bytes(&manifest.config, CONFIG).map_err(|e| match e {
        BlobError::Registry(e) if e.kind() == ErrorKind::NotFound => Error::not_found("unknown blob"),
        other => Error::internal(other.to_string()),
    })?;
    oci::json::parse(&config).invalid(format!("config {}", manifest.config.digest))
}

fn described(name: String, found: &ManifestResponse, manifest: &Manifest, platform: &Platform) -> Image {
    let kind = match manifest.media_type.as_str() {
        "" => &found.media_type,
        own => own,
    };
    Image {
        name,
        digest: found.digest.to_string(),
        manifest: base64::encode(&found.bytes),
        oci: kind != media_type::DOCKER_MANIFEST,
        platform: Raw::of(platform),
    }
}

/// Why there is no manifest. A registry that docker's client would ask elsewhere after, and one that speaks no TLS, just
/// have none.
fn unread(error: registry::Error, name: &Reference) -> Error {
    use registry::Error as From;
    let none = match &error {
        From::Api { errors, .. } => errors.first().is_none_or(|ApiError { code, .. }| {
            matches!(code.as_str(), "UNAUTHORIZED" | "MANIFEST_UNKNOWN" | "NAME_UNKNOWN")
        }),
        From::Unparsable { .. } => true,
        From::Transport { message, .. } => message == "http: server gave HTTP response to HTTPS client",
        _ => false,
    };
    if none {
        return Error::not_found(format!("no such manifest: {}", name.canonical()));
    }
    // Who does not answer was asked with TLS first, and that docker tells.
    match unreachable(&error) {
        Some(told) => Error::new(told.kind, told.to_string().replacen("\"http://", "\"https://", 1)),
        None => Error::internal(error.to_string()),
    }
}
