//! Containers' directories: named records that the engine writes, and a place for logs and mounts.
//!
//! What a record says is the engine's business; that it is whole after power fails is this file's.

use crate::durable;
use crate::error::{Doing, Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The containers of a data root.
#[derive(Debug)]
pub struct Containers {
    root: PathBuf,
}

impl Containers {
    pub(crate) fn open(root: PathBuf) -> Containers {
        Containers { root }
    }

    /// A container's directory.
    pub fn path(&self, id: &str) -> Result<PathBuf> {
        Ok(self.root.join(component(id)?))
    }

    /// Makes a container's directory, durably, with mode 0710 as Docker's.
    pub fn create(&self, id: &str) -> Result<PathBuf> {
        let path = self.path(id)?;
        if !durable::mkdir(&path, 0o710)? {
            return Err(Error::Conflict(format!("create {}: it exists", path.display())));
        }
        durable::sync_directory(&self.root)?;
        Ok(path)
    }

    /// Replaces a record, durably. Docker gives `config.v2.json` the mode 0600, `hostconfig.json` 0644.
    pub fn write(&self, id: &str, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        durable::write_atomic(&self.path(id)?.join(component(name)?), bytes, mode)
    }

    /// Reads a record, or says that there is none.
    pub fn read(&self, id: &str, name: &str) -> Result<Option<Vec<u8>>> {
        durable::read(&self.path(id)?.join(component(name)?))
    }

    /// Moves a record that makes no sense out of the way, to `<name>.bad`.
    pub fn set_aside(&self, id: &str, name: &str, why: &dyn std::fmt::Display) -> Result<()> {
        durable::set_aside(&self.path(id)?.join(component(name)?), why);
        Ok(())
    }

    /// The IDs of all containers that have a directory, sorted.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root).doing("list", &self.root)? {
            let name = entry.doing("list", &self.root)?.file_name();
            ids.extend(name.to_str().filter(|name| crate::id::is_long(name)).map(str::to_owned));
        }
        ids.sort();
        Ok(ids)
    }

    /// Removes a container's directory with all in it; says false if it was not there.
    pub fn remove(&self, id: &str) -> Result<bool> {
        durable::remove_tree_durable(&self.path(id)?)
    }
}

/// Refuses what is not one name in a directory.
pub(crate) fn component(name: &str) -> Result<&Path> {
    let bad = name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 255;
    if bad {
        Err(Error::Invalid(format!("invalid name: {name:?}")))
    } else {
        Ok(Path::new(name))
    }
}
