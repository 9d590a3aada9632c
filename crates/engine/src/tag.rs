//! Naming images, and taking names and images away.

use crate::error::{Error, Result};
use crate::{Engine, image};
use api::image::Deleted;
use oci::reference::Reference;
use std::collections::BTreeMap;
use store::ImageId;

/// Gives an image a further name.
pub fn tag(engine: &Engine, name: &str, repository: &str, tag: &str) -> Result<()> {
    let id = image::find(engine, name)?;
    let reference = Reference::parse(repository).map_err(|e| Error::invalid(e.to_string()))?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    let reference = match tag {
        "" => reference.or_latest(),
        tag => reference
            .with_tag(tag)
            .ok_or_else(|| Error::invalid("invalid tag format"))?,
    };
    engine.store.images.set_last_updated(&id, &api::time::now())?;
    engine.store.tags.set(&reference, &id)?;
    let attributes = BTreeMap::from([("name".to_string(), reference.familiar())]);
    engine.events.emit("image", "tag", id.0.as_str(), attributes);
    Ok(())
}

/// Removes a name, and the image with its last one; an ID removes all its names when forced.
pub fn remove(engine: &Engine, name: &str, force: bool, prune: bool) -> Result<Vec<Deleted>> {
    let id = image::find(engine, name)?;
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let by_id = id.0.hex().starts_with(hex)
        && Reference::parse(name)
            .ok()
            .is_none_or(|r| engine.store.tags.get(&r.or_latest()).is_none());
    let names = engine.store.tags.of_image(&id);
    let mut done = Vec::new();
    if !by_id {
        let given = Reference::parse(name)
            .map_err(|e| Error::invalid(e.to_string()))?
            .or_latest();
        let given = match given.digest() {
            Some(digest) => given.with_digest(digest),
            None => given,
        };
        let last_tag = names.iter().filter(|n| n.digest().is_none()).all(|n| *n == given);
        if last_tag && !force && given.digest().is_none() {
            refuse_used(engine, &id, name, true)?;
        }
        untag(engine, &given, &id, &mut done)?;
        // The digests of a repository go with its last tag.
        let repository = given.repository().familiar();
        let others = engine.store.tags.of_image(&id);
        let same = |n: &&Reference| n.repository().familiar() == repository;
        if !others.iter().filter(same).any(|n| n.digest().is_none()) {
            for reference in others.iter().filter(same) {
                untag(engine, reference, &id, &mut done)?;
            }
        }
        if !engine.store.tags.of_image(&id).is_empty() {
            return Ok(done);
        }
        // What a container needs stays, without a name; one that is stopped is overruled.
        match used_by(engine, &id) {
            Some((_, true)) => return Ok(done),
            Some((_, false)) if !force => return Ok(done),
            _ => {}
        }
        refuse_children(engine, &id)?;
        return delete(engine, &id, prune, done);
    }
    refuse_children(engine, &id)?;
    if let Some((container, true)) = used_by(engine, &id) {
        return Err(Error::conflict(format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container {container}",
            id.0.short()
        )));
    }
    let single = {
        let repository = names.first().map(|n| n.repository().familiar());
        let tags = names.iter().filter(|n| n.digest().is_none()).count();
        tags <= 1 && names.iter().all(|n| Some(n.repository().familiar()) == repository)
    };
    if !single && !force {
        return Err(Error::conflict(format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            id.0.short()
        )));
    }
    refuse_used(engine, &id, id.0.short(), force)?;
    for reference in names {
        untag(engine, &reference, &id, &mut done)?;
    }
    delete(engine, &id, prune, done)
}

/// The container that needs an image, and whether it runs.
fn used_by(engine: &Engine, id: &ImageId) -> Option<(String, bool)> {
    let mut found = None;
    for container in engine.containers.all() {
        let record = container.record();
        if record.disk.image == id.0.as_str() {
            let running = record.is_running();
            if running {
                return Some((record.id.short().to_string(), true));
            }
            found = Some((record.id.short().to_string(), false));
        }
    }
    found
}

/// Refuses to take away what a container needs; `force` overrules one that is stopped.
fn refuse_used(engine: &Engine, id: &ImageId, name: &str, force: bool) -> Result<()> {
    match used_by(engine, id) {
        Some((container, true)) if name == id.0.short() => Err(Error::conflict(format!(
            "conflict: unable to delete {name} (cannot be forced) - image is being used by running container {container}"
        ))),
        Some((container, false)) if !force && name == id.0.short() => Err(Error::conflict(format!(
            "conflict: unable to delete {name} (must be forced) - image is being used by stopped container {container}"
        ))),
        Some((container, _)) if name != id.0.short() => Err(Error::conflict(format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its referenced image {}",
            id.0.short()
        ))),
        _ => Ok(()),
    }
}

fn refuse_children(engine: &Engine, id: &ImageId) -> Result<()> {
    match engine.store.images.children(id)?.first() {
        None => Ok(()),
        Some(child) => {
            log::debug!("image {} has child {}", id.0.short(), child.0.short());
            Err(Error::conflict(format!(
                "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
                id.0.short()
            )))
        }
    }
}

fn untag(engine: &Engine, reference: &Reference, id: &ImageId, done: &mut Vec<Deleted>) -> Result<()> {
    if engine.store.tags.remove(reference)?.is_some() {
        let name = reference.familiar();
        let attributes = BTreeMap::from([("name".to_string(), name.clone())]);
        engine.events.emit("image", "untag", id.0.as_str(), attributes);
        done.push(Deleted {
            untagged: Some(name),
            deleted: None,
        });
    }
    Ok(())
}

/// Removes the image record, then the layers that nobody needs any more; then parents that have no name.
fn delete(engine: &Engine, id: &ImageId, prune: bool, mut done: Vec<Deleted>) -> Result<Vec<Deleted>> {
    let mut next = Some(id.clone());
    while let Some(id) = next.take() {
        let parent = engine.store.images.parent(&id)?;
        let layers = engine.store.images.remove(&id)?;
        engine.events.emit(
            "image",
            "delete",
            id.0.as_str(),
            BTreeMap::from([("name".into(), id.0.to_string())]),
        );
        done.push(Deleted {
            untagged: None,
            deleted: Some(id.0.to_string()),
        });
        done.extend(layers.iter().map(|chain| Deleted {
            untagged: None,
            deleted: Some(chain.digest().to_string()),
        }));
        if let Some(parent) = parent
            && prune
            && engine.store.tags.of_image(&parent).is_empty()
            && engine.store.images.children(&parent)?.is_empty()
            && used_by(engine, &parent).is_none()
        {
            next = Some(parent);
        }
    }
    Ok(done)
}

/// Removes images that no container has: those without a name, with `all` any. What was done, and bytes given back.
pub fn prune(
    engine: &Engine,
    all: bool,
    fits: impl Fn(&oci::config::ImageConfig) -> bool,
) -> Result<(Vec<Deleted>, u64)> {
    let before: u64 = engine.store.layers.list().iter().map(|(_, info)| info.size).sum();
    let mut done = Vec::new();
    for id in engine.store.images.list() {
        let named = engine.store.tags.of_image(&id).iter().any(|n| n.digest().is_none());
        // A damaged config fits nothing: it is not for a clean-up to decide.
        let fits = image::config_of(engine, &id).is_ok_and(|config| fits(&config));
        let children = engine.store.images.children(&id)?;
        if named && !all || !fits || !children.is_empty() || used_by(engine, &id).is_some() {
            continue;
        }
        for reference in engine.store.tags.of_image(&id) {
            untag(engine, &reference, &id, &mut done)?;
        }
        done = delete(engine, &id, true, done)?;
    }
    let chains = engine.store.layers.remove_all_unused()?;
    done.extend(chains.iter().map(|chain| Deleted {
        untagged: None,
        deleted: Some(chain.digest().to_string()),
    }));
    let after: u64 = engine.store.layers.list().iter().map(|(_, info)| info.size).sum();
    Ok((done, before.saturating_sub(after)))
}
