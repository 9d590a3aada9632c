//! The containers in memory: found by ID, by name, by the beginning of an ID.
//!
//! Each has one lock, held for moments only. Work that takes time is done under a claim: one claim at a time for each
//! container, taken in the order of a condition variable, given back by its drop.

use crate::container::Record;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use network::EndpointState;
use runtime::shim::Shim;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A container.
pub struct Container {
    pub id: ContainerId,
    /// `containers/<id>` under the data root.
    pub directory: PathBuf,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// What the lock protects.
pub struct Inner {
    pub record: Record,
    pub live: Live,
    claimed: bool,
}

/// What is true of a container only while this daemon or its shim runs.
#[derive(Default)]
pub struct Live {
    pub shim: Option<Arc<Shim>>,
    pub endpoints: Vec<EndpointState>,
    /// Its name server, if it is on a network of one's own.
    pub resolver: Option<network::resolver::Resolver>,
    /// How often a run has ended; waiters compare it.
    pub exits: u64,
    /// The container is gone; its record is only kept by those who still look at it.
    pub removed: bool,
    /// The user asked for the run to end.
    pub stopping: bool,
    /// Delay before the run that is on.
    pub restart_delay: Duration,
    /// Attached clients that came before the start.
    pub waiting: Vec<crate::attach::Waiting>,
    pub execs: Vec<String>,
}

/// A look at a record, under its lock.
pub struct RecordRef<'a>(MutexGuard<'a, Inner>);

impl Deref for RecordRef<'_> {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.0.record
    }
}

/// The right to change a container over time.
pub struct Claim<'a>(&'a Container);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.lock().claimed = false;
        self.0.changed.notify_all();
    }
}

/// The lock of a container; whoever waits for it is told when it is dropped after a change.
pub struct Guard<'a> {
    inner: MutexGuard<'a, Inner>,
    container: &'a Container,
    touched: bool,
}

impl Deref for Guard<'_> {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        self.touched = true;
        &mut self.inner
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.touched {
            self.container.changed.notify_all();
        }
    }
}

impl Container {
    /// A container with its record.
    pub fn new(record: Record, directory: PathBuf) -> Container {
        Container {
            id: record.id.clone(),
            directory,
            inner: Mutex::new(Inner {
                record,
                live: Live::default(),
                claimed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes the lock.
    pub fn lock(&self) -> Guard<'_> {
        Guard {
            inner: self.raw(),
            container: self,
            touched: false,
        }
    }

    fn raw(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Looks at the record.
    pub fn record(&self) -> RecordRef<'_> {
        RecordRef(self.raw())
    }

    /// Waits for the right to change it; an error if it was removed meanwhile.
    pub fn claim(&self) -> Result<Claim<'_>> {
        let mut inner = self.raw();
        while inner.claimed {
            inner = self.changed.wait(inner).unwrap_or_else(|e| e.into_inner());
        }
        if inner.live.removed {
            return Err(Error::no_such_container(self.id.as_str()));
        }
        inner.claimed = true;
        Ok(Claim(self))
    }

    /// Wakes those who wait, so that they look again.
    pub fn notify(&self) {
        // Under the lock: a waiter has either not looked yet, or is waiting already.
        let _inner = self.raw();
        self.changed.notify_all();
    }

    /// Waits until `ready` gives a value; `None` when the time is over first.
    pub fn wait_for<T>(&self, patience: Option<Duration>, mut ready: impl FnMut(&Inner) -> Option<T>) -> Option<T> {
        let deadline = patience.map(|time| Instant::now() + time);
        let mut inner = self.raw();
        loop {
            if let Some(value) = ready(&inner) {
                return Some(value);
            }
            inner = match deadline {
                None => self.changed.wait(inner).unwrap_or_else(|e| e.into_inner()),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed
                        .wait_timeout(inner, left)
                        .unwrap_or_else(|e| e.into_inner())
                        .0
                }
            };
        }
    }
}

/// All containers.
#[derive(Default)]
pub struct Table {
    inner: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Names are taken before a container is there and given back after it is gone.
    names: BTreeMap<String, ContainerId>,
}

impl Table {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// All of them, by ID.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.index().containers.values().cloned().collect()
    }

    /// Takes a name for a container.
    pub fn reserve(&self, name: &str, id: &ContainerId) -> Result<()> {
        let mut index = self.index();
        if let Some(owner) = index.names.get(name)
            && owner != id
        {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        index.names.insert(name.into(), id.clone());
        Ok(())
    }

    /// Gives a name back.
    pub fn release(&self, name: &str, id: &ContainerId) {
        let mut index = self.index();
        if index.names.get(name) == Some(id) {
            index.names.remove(name);
        }
    }

    /// Adds a container; its name was reserved.
    pub fn insert(&self, container: Arc<Container>) {
        self.index().containers.insert(container.id.clone(), container);
    }

    /// Takes a container out, with its name.
    pub fn remove(&self, id: &ContainerId) {
        let mut index = self.index();
        index.containers.remove(id);
        index.names.retain(|_, owner| owner != id);
    }

    /// Finds a container by what a user typed: its ID, then its name, then the beginning of its ID.
    pub fn find(&self, name: &str) -> Result<Arc<Container>> {
        let index = self.index();
        if let Some(container) = ContainerId::parse(name).and_then(|id| index.containers.get(&id)) {
            return Ok(container.clone());
        }
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(container) = index.names.get(bare).and_then(|id| index.containers.get(id)) {
            return Ok(container.clone());
        }
        if name.is_empty() {
            return Err(Error::invalid("No container name or ID supplied"));
        }
        let mut matching = index.containers.values().filter(|c| c.id.as_str().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {name}"
            ))),
            (None, _) => Err(Error::no_such_container(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Disk;
    use api::host_config::HostConfig;

    fn add(table: &Table, name: &str) -> Arc<Container> {
        let id = ContainerId::random().unwrap();
        table.reserve(name, &id).unwrap();
        let container = Arc::new(Container::new(
            Record::new(id, Disk::default(), HostConfig::default()),
            PathBuf::new(),
        ));
        table.insert(container.clone());
        container
    }

    #[test]
    fn found_by_what_people_type() {
        let table = Table::default();
        let web = add(&table, "web");
        for name in ["web", "/web", web.id.as_str(), web.id.short()] {
            assert_eq!(table.find(name).unwrap().id, web.id);
        }
        assert_eq!(table.find("nope").err().unwrap().to_string(), "No such container: nope");
        let clash = table
            .reserve("web", &ContainerId::random().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            clash.starts_with("Conflict. The container name \"/web\" is already in use by container \""),
            "{clash}"
        );
        table.remove(&web.id);
        assert!(table.find("web").is_err());
        table.reserve("web", &ContainerId::random().unwrap()).unwrap();
    }

    #[test]
    fn claims_exclude_each_other() {
        let table = Table::default();
        let web = add(&table, "web");
        let claim = web.claim().unwrap();
        let other = web.clone();
        let waiting = std::thread::spawn(move || other.claim().is_ok());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        drop(claim);
        assert!(waiting.join().unwrap());
        web.lock().live.removed = true;
        assert!(web.claim().is_err());
    }
}
