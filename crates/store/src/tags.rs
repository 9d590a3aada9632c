//! Which names images have: `repositories.json`, as Docker writes it.
//!
//! `{"Repositories":{"busybox":{"busybox:latest":"sha256:…","busybox@sha256:…":"sha256:…"}}}`, keyed by familiar
//! names, sorted. The file is small and is replaced as a whole, under a lock.

use crate::durable;
use crate::error::{Error, Result};
use crate::images::ImageId;
use crate::reserve::Reserve;
use json::{Deserialize, Serialize};
use oci::digest::Digest;
use oci::reference::Reference;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

type Repositories = BTreeMap<String, BTreeMap<String, ImageId>>;

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "Repositories")]
    repositories: &'a Repositories,
}

/// As read: an entry that is damaged costs that entry only.
#[derive(Default, Deserialize)]
struct Read {
    #[serde(rename = "Repositories", default)]
    repositories: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

/// The names of a data root's images.
#[derive(Debug)]
pub struct Tags {
    path: PathBuf,
    repositories: Mutex<Repositories>,
    reserve: Reserve,
}

impl Tags {
    /// Reads the names; a file that is no JSON is set aside.
    pub(crate) fn open(path: PathBuf) -> Result<Tags> {
        let read: Read = match durable::read(&path)?.map(|bytes| json::from_slice(&bytes)) {
            None => Read::default(),
            Some(Ok(read)) => read,
            Some(Err(error)) => {
                durable::set_aside(&path, &error);
                Read::default()
            }
        };
        let mut repositories = Repositories::new();
        for (repository, names) in read.repositories.unwrap_or_default() {
            for (name, id) in names {
                match Digest::parse(&id) {
                    Ok(id) => drop(
                        repositories
                            .entry(repository.clone())
                            .or_default()
                            .insert(name, ImageId(id)),
                    ),
                    Err(error) => log::error!("left out name {name} in {}: {error}", path.display()),
                }
            }
        }
        Ok(Tags {
            reserve: Reserve::keep(path.with_file_name("balena-reserve")),
            path,
            repositories: Mutex::new(repositories),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Repositories> {
        self.repositories
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The image of a name; a name without tag and digest means `latest`.
    pub fn get(&self, reference: &Reference) -> Option<ImageId> {
        let (repository, name) = key(reference);
        self.lock().get(&repository)?.get(&name).cloned()
    }

    /// Gives an image a name, durably; returns the image that had it.
    /// `sha256` is the name of none: with a tag it would read as an image's ID.
    pub fn set(&self, reference: &Reference, id: &ImageId) -> Result<Option<ImageId>> {
        unambiguous(reference)?;
        let (repository, name) = key(reference);
        self.change(|repositories| repositories.entry(repository).or_default().insert(name, id.clone()))
    }

    /// Gives an image several names in one step, durably.
    pub fn set_all(&self, references: &[&Reference], id: &ImageId) -> Result<()> {
        references.iter().try_for_each(|reference| unambiguous(reference))?;
        self.change(|repositories| {
            for (repository, name) in references.iter().map(|reference| key(reference)) {
                repositories.entry(repository).or_default().insert(name, id.clone());
            }
        })
    }

    /// Takes a name away, durably, also on a full device; returns the image that had it.
    pub fn remove(&self, reference: &Reference) -> Result<Option<ImageId>> {
        let (repository, name) = key(reference);
        let take = |repositories: &mut Repositories| {
            let names = repositories.get_mut(&repository)?;
            let old = names.remove(&name);
            if names.is_empty() {
                repositories.remove(&repository);
            }
            old
        };
        self.reserve.lend(|| self.change(take))
    }

    /// Changes a copy, writes it, and only then lets it be seen.
    fn change<T>(&self, change: impl FnOnce(&mut Repositories) -> T) -> Result<T> {
        let mut repositories = self.lock();
        let mut changed = repositories.clone();
        let result = change(&mut changed);
        if changed != *repositories {
            let json = json::to_vec(&Written { repositories: &changed });
            durable::write_atomic(&self.path, &json, 0o600)?;
            *repositories = changed;
        }
        Ok(result)
    }

    /// The names of an image, sorted.
    pub fn of_image(&self, id: &ImageId) -> Vec<Reference> {
        self.select(|_, of| of == id)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    /// The names in a repository given by its familiar name, with their images, sorted.
    pub fn of_repository(&self, familiar: &str) -> Vec<(Reference, ImageId)> {
        self.select(|repository, _| repository == familiar)
    }

    /// All names with their images, sorted.
    pub fn list(&self) -> Vec<(Reference, ImageId)> {
        self.select(|_, _| true)
    }

    fn select(&self, wanted: impl Fn(&str, &ImageId) -> bool) -> Vec<(Reference, ImageId)> {
        let repositories = self.lock();
        let all = repositories
            .iter()
            .flat_map(|(repository, names)| names.iter().map(move |entry| (repository, entry)));
        all.filter(|(repository, (_, id))| wanted(repository, id))
            .filter_map(|(_, (name, id))| Some((Reference::parse(name).ok()?, id.clone())))
            .collect()
    }
}

fn unambiguous(reference: &Reference) -> Result<()> {
    match reference.repository().familiar() == "sha256" {
        true => Err(Error::Invalid(
            "refusing to create an ambiguous tag using digest algorithm as name".into(),
        )),
        false => Ok(()),
    }
}

/// Where a name is kept: a digest, where there is one, is the name, whatever tag stands beside it.
fn key(reference: &Reference) -> (String, String) {
    let name = match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.clone().or_latest(),
    };
    (reference.repository().familiar(), name.familiar())
}
