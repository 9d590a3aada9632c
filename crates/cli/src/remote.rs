//! Registries that the client asks itself, as docker's does for `manifest`: no daemon is needed, and none's settings count.
//! What goes wrong is told in the words of docker's client, which are others than its daemon's.

use crate::cli::Cli;
use crate::command::Failure;
use crate::manifests::Image;
use oci::manifest::{AnyManifest, Manifest, media_type};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{ApiError, Auth, BlobError, Config, Error, ErrorKind, ManifestResponse, Registry, Repository};

/// The largest image config that is read, bytes.
const CONFIG: u64 = 8 << 20;
/// Most images of a list that are looked at, and most bytes of their manifests.
const LISTED: usize = 128;
const LISTED_BYTES: usize = 4 << 20;

/// The client's way to the registries of some names.
pub struct Remote<'a> {
    cli: &'a Cli,
    registry: Registry,
}

/// What a name stands for.
pub enum Found {
    Image(Box<Image>),
    List(Vec<Image>),
}

impl Remote<'_> {
    /// For reading: in the clear, and from who has no certificate that is trusted, only where the user says `--insecure`.
    /// Loopback may have any certificate, but even it is not read from in the clear.
    pub fn reading<'a>(cli: &'a Cli, names: &[&Reference], insecure: bool) -> Remote<'a> {
        Remote::new(cli, names, insecure, !insecure)
    }

    /// For writing, where loopback needs no word.
    pub fn writing<'a>(cli: &'a Cli, name: &Reference, insecure: bool) -> Remote<'a> {
        Remote::new(cli, &[name], insecure, false)
    }

    fn new<'a>(cli: &'a Cli, names: &[&Reference], insecure: bool, tls_only: bool) -> Remote<'a> {
        let domains = names.iter().map(|name| name.repository().domain().to_string());
        let config = Config {
            insecure: domains.filter(|_| insecure).collect(),
            tls_only,
            ..Config::default()
        };
        let registry = Registry::new(config);
        Remote { cli, registry }
    }

    fn auth(&self, domain: &str) -> Auth {
        match self.cli.config.borrow().credentials(domain) {
            None => Auth::Anonymous,
            Some(found) if !found.identity_token.is_empty() => Auth::IdentityToken(found.identity_token),
            Some(found) => Auth::Basic {
                user: found.username,
                password: found.password,
            },
        }
    }

    /// The repository of a name, to write to.
    pub fn repository(&self, name: &Reference) -> Result<Repository, Failure> {
        let auth = self.auth(name.repository().domain());
        let opened = self.registry.repository_for_push(name, auth);
        opened.map_err(|e| Failure::new(e.to_string()))
    }

    /// The image that a name stands for.
    pub fn image(&self, name: &Reference) -> Result<Image, Failure> {
        let repository = self.repository(name)?;
        match fetch(&repository, name)? {
            (found, AnyManifest::Image(manifest)) => image(&repository, name.clone(), &found, &manifest),
            (_, AnyManifest::Index(_)) => Err(Failure::new(format!("{} is a manifest list", name.canonical()))),
        }
    }

    /// The image, or all images of the list.
    pub fn find(&self, name: &Reference) -> Result<Found, Failure> {
        let repository = self.repository(name)?;
        let listed = match fetch(&repository, name)? {
            (found, AnyManifest::Image(manifest)) => {
                let image = image(&repository, name.clone(), &found, &manifest)?;
                return Ok(Found::Image(Box::new(image)));
            }
            (_, AnyManifest::Index(index)) => index.manifests,
        };
        let too_much = |what| Failure::new(format!("{} lists more than {what}", name.canonical()));
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
                return Err(Failure::new(
                    "unsupported manifest type: *manifestlist.DeserializedManifestList",
                ));
            };
            let shown = format!("{}@{}", name.canonical(), entry.digest);
            let shown = Reference::parse(&shown).map_err(|e| Failure::new(e.to_string()))?;
            let mut image = image(&repository, shown, &found, &manifest)?;
            image.descriptor.platform = Some(entry.platform.clone().unwrap_or_default());
            images.push(image);
        }
        Ok(Found::List(images))
    }
}

fn fetch(repository: &Repository, name: &Reference) -> Result<(ManifestResponse, AnyManifest), Failure> {
    let found = repository.manifest(name).map_err(|e| unread(e, name))?;
    let parsed = AnyManifest::parse(&found.media_type, &found.bytes)
        .map_err(|e| Failure::new(format!("manifest {}: {e}", found.digest)))?;
    Ok((found, parsed))
}

/// An image with the platform that its config says.
fn image(
    repository: &Repository,
    name: Reference,
    found: &ManifestResponse,
    manifest: &Manifest,
) -> Result<Image, Failure> {
    let config = repository.blob_bytes(&manifest.config, CONFIG).map_err(|e| match e {
        BlobError::Registry(e) if e.kind() == ErrorKind::NotFound => Failure::new("unknown blob"),
        other => Failure::new(other.to_string()),
    })?;
    let platform: Platform =
        oci::json::parse(&config).map_err(|e| Failure::new(format!("config {}: {e}", manifest.config.digest)))?;
    let kind = match manifest.media_type.as_str() {
        "" => &found.media_type,
        own => own,
    };
    let is_oci = kind != media_type::DOCKER_MANIFEST;
    let image = Image::new(name, (found.digest.clone(), &found.bytes), is_oci, platform);
    image.map_err(|e| Failure::new(format!("manifest {}: {e}", found.digest)))
}

/// Why there is no manifest. A registry that docker's client would ask elsewhere after, and one that speaks no TLS, just
/// have none.
fn unread(error: Error, name: &Reference) -> Failure {
    let none = match &error {
        Error::Api { errors, .. } => errors.first().is_none_or(|ApiError { code, .. }| {
            matches!(code.as_str(), "UNAUTHORIZED" | "MANIFEST_UNKNOWN" | "NAME_UNKNOWN")
        }),
        Error::Unparsable { .. } => true,
        Error::Transport { message, .. } => message == "http: server gave HTTP response to HTTPS client",
        _ => false,
    };
    if none {
        return Failure::new(format!("no such manifest: {}", name.canonical()));
    }
    // Who does not answer was asked with TLS first, and that docker tells.
    let unreachable = unreachable(&error).map(|text| text.replacen("\"http://", "\"https://", 1));
    Failure::new(unreachable.unwrap_or_else(|| error.to_string()))
}

/// What is said of a registry that does not answer.
fn unreachable(error: &Error) -> Option<String> {
    match error {
        Error::Transport { url, .. } if url.ends_with("/v2/") => Some(format!(
            "failed to configure transport: error pinging v2 registry: {error}"
        )),
        _ => None,
    }
}

/// What is said of a registry that does not take what it is given; `what` names it.
pub fn unwritten(error: &Error, what: String) -> Failure {
    Failure::new(unreachable(error).unwrap_or_else(|| format!("{what}: {error}")))
}
