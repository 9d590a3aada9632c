//! Removing a container: its record first, then what the record spoke of; what is interrupted is swept.

use crate::Engine;
use crate::container::State;
use crate::error::{Error, Kind, Result};
use crate::table::Container;
use crate::volume;
use std::sync::Arc;

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Kills it first if it runs.
    pub force: bool,
    /// Removes its anonymous volumes.
    pub volumes: bool,
}

/// Removes a container.
pub fn remove(engine: &Arc<Engine>, name: &str, options: Options) -> Result<()> {
    let container = engine.containers.find(name)?;
    {
        let mut inner = container.lock();
        match inner.record.state {
            State::Removing { dead: false } => {
                return Err(Error::conflict(format!(
                    "removal of container {} is already in progress",
                    container.id
                )));
            }
            State::Running { paused, .. } if !options.force => {
                let (state, hint) = if paused {
                    (
                        "paused",
                        "Unpause and then stop the container before attempting removal or force remove",
                    )
                } else {
                    ("running", "stop the container before removing or force remove")
                };
                return Err(Error::conflict(format!(
                    "cannot remove container \"{}\": container is {state}: {hint}",
                    inner.record.disk.name
                )));
            }
            State::Restarting if !options.force => {
                return Err(Error::conflict(format!(
                    "cannot remove container \"{}\": container is restarting: stop the container before removing or force remove",
                    inner.record.disk.name
                )));
            }
            _ => {}
        }
        if inner.record.state == State::Restarting {
            inner.record.state = State::Exited;
        }
    }
    if container.record().is_running() {
        match crate::stop::kill(engine, container.id.as_str(), "KILL") {
            Ok(()) => {}
            Err(e) if container.record().is_running() => return Err(e),
            Err(_) => {}
        }
    }
    let claim = match container.claim() {
        Ok(claim) => claim,
        // Another removal was quicker.
        Err(e) if e.kind == Kind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let removed = take_apart(engine, &container, options);
    drop(claim);
    removed
}

/// Does it, under a claim.
pub(crate) fn take_apart(engine: &Engine, container: &Arc<Container>, options: Options) -> Result<()> {
    let id = container.id.as_str();
    let before = {
        let mut inner = container.lock();
        let before = inner.record.state.clone();
        inner.record.state = State::Removing { dead: false };
        before
    };
    let record = container.record().clone();
    crate::start::release(engine, container);
    let failed = (|| -> Result<()> {
        // The record goes first: from then on the container does not exist, and the rest is swept if need be.
        engine.store.containers.remove(id)?;
        match engine.store.rw.remove(id) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    })();
    if let Err(error) = failed {
        let mut inner = container.lock();
        let gone = engine
            .store
            .containers
            .read(id, "config.v2.json")
            .is_ok_and(|r| r.is_none());
        inner.record.state = if gone { State::Removing { dead: true } } else { before };
        inner.record.error = error.to_string();
        return Err(error.context(format!("unable to remove container {id}")));
    }
    engine.containers.remove(&container.id);
    {
        let mut inner = container.lock();
        inner.live.removed = true;
        inner.live.waiting.clear();
    }
    engine.execs.forget(&container.id);
    if options.volumes {
        volume::remove_anonymous(engine, &record);
    }
    engine.container_event("destroy", &record, &[]);
    Ok(())
}

/// Removes all containers that do not run and pass `fits`; IDs and bytes of their writable layers.
pub fn prune(engine: &Arc<Engine>, fits: impl Fn(&crate::container::Record) -> bool) -> (Vec<String>, u64) {
    let mut removed = Vec::new();
    let mut bytes = 0;
    for container in engine.containers.all() {
        let candidate = {
            let record = container.record();
            matches!(
                record.state,
                State::Created | State::Exited | State::Removing { dead: true }
            ) && fits(&record)
        };
        if !candidate {
            continue;
        }
        let size = engine.store.rw.size(container.id.as_str()).unwrap_or(0);
        match remove(engine, container.id.as_str(), Options::default()) {
            Ok(()) => {
                removed.push(container.id.to_string());
                bytes += size;
            }
            Err(e) => log::warn!("prune container {}: {e}", container.id.short()),
        }
    }
    (removed, bytes)
}
