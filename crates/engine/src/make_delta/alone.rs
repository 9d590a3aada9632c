//! Making deltas without a daemon and without a store: from registry to registry, and from archives.
//!
//! The client runs this in a process of its own, which reads a [`Job`] and answers in frames, as the daemon does. It has no
//! state but temporary files without names.

use super::archive::{Archive, is_path};
use super::remote::{self, Pool};
use super::source::{Image, Named, Spool};
use super::{Framed, Outcome, Work, name};
use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::job;
use crate::progress::Progress;
use api::delta::{JOB, Job};
use oci::platform::Platform;
use oci::reference::Reference;
use registry::{Registry, Repository};
use std::io::Write;
use std::path::Path;

/// The process: its exit status.
pub fn main() -> i32 {
    let (lines, mut archive) = Framed::pair(Box::new(std::io::stdout()));
    let progress = Progress::new(Box::new(lines));
    match work(&progress, &mut archive) {
        Ok(()) => 0,
        Err(error) => {
            progress.error(&error);
            1
        }
    }
}

fn work(progress: &Progress, out: &mut dyn Write) -> Result<()> {
    let job: Job = job::read(JOB)?;
    let cancel = Cancel::new().context("make a handle to cancel by")?;
    let directory = match job.directory.is_empty() {
        true => std::env::temp_dir(),
        false => Path::new(&job.directory).to_owned(),
    };
    let spool = Spool::new(&directory)?;
    let config = registry::Config {
        insecure: job.insecure_registries.clone(),
        ..registry::Config::default()
    };
    let registry = Registry::new(config);
    let place = |name: &str, push: bool| Place::open(&registry, &job, name, push, &spool);
    let target = place(&job.target, job.outcome == Outcome::Push)?;
    let sources: Vec<Place> = job
        .sources
        .iter()
        .map(|name| place(name, false))
        .collect::<Result<_>>()?;
    let wanted = match job.platform.as_str() {
        "all" => None,
        text => Some(platform(text)?),
    };
    let mut found = false;
    let mut deltas = Work::new(&spool, progress, &cancel, (job.outcome, job.together));
    let chosen = target.choose(wanted.as_ref(), !job.platform.is_empty())?;
    for offered in &chosen {
        // One platform's layers at a time are kept.
        let mut pool = Pool::new();
        let mut bases = Vec::new();
        for source in &sources {
            let Some(base) = source.like(offered)? else { continue };
            bases.push(source.image(base, &mut pool, &spool, progress, &cancel)?);
        }
        if bases.is_empty() {
            let text = format!("No image for {} to make a delta from", text_of(&offered.platform));
            progress.status("", text)?;
            continue;
        }
        found = true;
        let image = target.image(offered, &mut pool, &spool, progress, &cancel)?;
        match (&target, job.outcome) {
            (Place::Registry { repository, .. }, Outcome::Push) => {
                let subject = offered.manifest.clone();
                let subject = subject.ok_or_else(|| Error::internal("an image without a manifest"))?;
                deltas.push(&image, &bases, &subject, repository)?;
            }
            (_, Outcome::Push) => {
                return Err(Error::invalid(
                    "deltas are pushed beside a target that is in a registry",
                ));
            }
            (_, Outcome::Archive) => {
                let own = || offered.name.as_deref().and_then(|own| Reference::parse(own).ok());
                let own = || own().filter(|own| own.digest().is_none()).map(Reference::or_latest);
                let name = name(&job.name)?.or_else(own);
                deltas.gather(image, &bases, name)?;
            }
            (_, Outcome::Nothing) => drop(deltas.sets(&image, &bases)?),
        }
    }
    if !found {
        return Err(Error::not_found(format!(
            "no image of {} and {} is for the same platform",
            job.sources.join(", "),
            job.target
        )));
    }
    match job.outcome {
        Outcome::Archive => deltas.write(out),
        _ => Ok(()),
    }
}

fn text_of(platform: &Platform) -> String {
    let mut text = format!("{}/{}", platform.os, platform.architecture);
    if !platform.variant.is_empty() {
        text.push('/');
        text.push_str(&platform.variant);
    }
    text
}

fn host() -> Platform {
    Platform::of_machine(std::env::consts::ARCH)
}

fn platform(text: &str) -> Result<Platform> {
    match text {
        "" => Ok(host()),
        text => Platform::parse(text, &host()).ok_or_else(|| Error::invalid(format!("platform {text:?} is none"))),
    }
}

/// An image that may be made from or to.
struct Offered {
    platform: Platform,
    /// Of an image in a registry.
    manifest: Option<Named>,
    /// Of an image in an archive: its place there.
    at: usize,
    name: Option<String>,
}

/// Where images are.
enum Place {
    Registry {
        repository: Repository,
        name: String,
        offered: Vec<Offered>,
    },
    Archive {
        archive: Archive,
        offered: Vec<Offered>,
    },
}

impl Place {
    fn open(registry: &Registry, job: &Job, text: &str, push: bool, spool: &Spool) -> Result<Place> {
        if is_path(text) {
            let archive = Archive::open(text, spool)?;
            let images = archive.images(spool, &mut Pool::new())?;
            let offered = images.into_iter().enumerate().map(|(at, (image, name))| Offered {
                platform: image.platform,
                manifest: None,
                at,
                name,
            });
            let offered = offered.collect();
            return Ok(Place::Archive { archive, offered });
        }
        let reference = Reference::parse(text).invalid(format!("image {text:?}"))?.or_latest();
        let auth = job::auth(&job.credentials, reference.repository().domain())?;
        let opened = match push {
            true => registry.repository_for_push(&reference, auth),
            false => registry.repository(&reference, auth),
        };
        let repository = opened.map_err(|e| remote::failed(e, text))?;
        let mut offered = Vec::new();
        for (platform, manifest) in remote::manifests(&repository, &reference)? {
            let platform = match platform {
                Some(platform) => platform,
                None => remote::config(&repository, text, &manifest)?.0.platform,
            };
            offered.push(Offered {
                platform,
                manifest: Some(manifest),
                at: 0,
                name: Some(text.to_string()),
            });
        }
        Ok(Place::Registry {
            repository,
            name: text.to_string(),
            offered,
        })
    }

    fn offered(&self) -> &[Offered] {
        match self {
            Place::Registry { offered, .. } | Place::Archive { offered, .. } => offered,
        }
    }

    fn name(&self) -> &str {
        match self {
            Place::Registry { name, .. } => name,
            Place::Archive { archive, .. } => archive.name(),
        }
    }

    /// The images that are asked for: all, or the one that serves a platform best. What is alone is meant, unless a
    /// platform was asked for.
    fn choose(&self, wanted: Option<&Platform>, asked: bool) -> Result<Vec<&Offered>> {
        let all = self.offered();
        let Some(wanted) = wanted else {
            return Ok(all.iter().collect());
        };
        if let ([only], false) = (all, asked) {
            return Ok(vec![only]);
        }
        let ranked = all
            .iter()
            .filter_map(|image| Some((wanted.rank(&image.platform)?, image)));
        match ranked.max_by_key(|(rank, _)| *rank) {
            Some((_, best)) => Ok(vec![best]),
            None => Err(Error::not_found(format!(
                "{} has no image for {}",
                self.name(),
                text_of(wanted)
            ))),
        }
    }

    /// The image for the same platform as another.
    fn like(&self, other: &Offered) -> Result<Option<&Offered>> {
        let same = |image: &&Offered| {
            let (a, b) = (&image.platform, &other.platform);
            (&a.os, &a.architecture, &a.variant) == (&b.os, &b.architecture, &b.variant)
        };
        let mut found = self.offered().iter().filter(same);
        match (found.next(), found.next(), self) {
            (Some(_), Some(_), Place::Archive { .. }) => Err(Error::invalid(format!(
                "{} has several images for {}: save the one alone that is meant",
                self.name(),
                text_of(&other.platform)
            ))),
            (first, ..) => Ok(first),
        }
    }

    fn image(
        &self,
        offered: &Offered,
        pool: &mut Pool,
        spool: &Spool,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Image> {
        match self {
            Place::Registry { repository, name, .. } => {
                let manifest = offered.manifest.as_ref();
                let manifest = manifest.ok_or_else(|| Error::internal("an image without a manifest"))?;
                let found = remote::config(repository, name, manifest)?;
                remote::fetch(repository, found, pool, spool, progress, cancel)
            }
            Place::Archive { archive, .. } => {
                let mut images = archive.images(spool, pool)?;
                Ok(images.swap_remove(offered.at).0)
            }
        }
    }
}
