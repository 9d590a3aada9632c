//! Copying files into and out of a container, running or not: the archive routes behind `docker cp`.

use crate::container::Record;
use crate::error::{Error, Kind, Result};
use crate::table::Container;
use crate::{Engine, user, volume};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::unpack::Rules;
use store::view::{self, Bind, PathStat, View};

/// Largest `passwd` or `group` of a container that is read.
const SMALL: u64 = 1 << 20;

/// What there is at a path.
pub fn stat(engine: &Engine, name: &str, path: &str) -> Result<PathStat> {
    let container = engine.containers.find(name)?;
    let path = absolute(path)?;
    look(engine, &container, |view| view.stat(path.as_bytes())).map_err(|e| not_there(e, &path, name))
}

/// Writes what is at a path as a tar.
pub fn archive(engine: &Engine, name: &str, path: &str, out: &mut (dyn Write + Send)) -> Result<()> {
    let container = engine.containers.find(name)?;
    let path = absolute(path)?;
    look(engine, &container, |view| view.tar(path.as_bytes(), out)).map_err(|e| not_there(e, &path, name))?;
    engine.container_event("archive-path", &container.record(), &[]);
    Ok(())
}

/// How an archive is unpacked into a container.
pub struct Extract<'a> {
    pub path: &'a str,
    /// A directory and what is none do not take each other's place.
    pub keep_kinds: bool,
    /// All that is unpacked belongs to the container's user.
    pub own: bool,
}

/// Unpacks a tar, compressed or not, into a directory of a container.
pub fn extract(engine: &Engine, name: &str, request: &Extract<'_>, tar: &mut (dyn Read + Send)) -> Result<()> {
    let container = engine.containers.find(name)?;
    let path = absolute(request.path)?;
    let (read_only_root, user, points) = {
        let record = container.record();
        let points: BTreeMap<String, bool> = record
            .disk
            .mount_points
            .iter()
            .map(|(target, point)| (target.clone(), point.rw))
            .collect();
        (record.host.readonly_rootfs, record.disk.config.user.clone(), points)
    };
    let refused = std::sync::Mutex::new(None);
    let refuse = |error: Error| {
        let told = store::Error::Invalid(error.to_string());
        *refused.lock().unwrap_or_else(|e| e.into_inner()) = Some(error);
        told
    };
    let done = look(engine, &container, |view| {
        let there = view.resolved(path.as_bytes())?;
        let point = points
            .iter()
            .filter(|(target, _)| there.starts_with(target))
            .max_by_key(|(target, _)| target.len());
        match point {
            Some((_, true)) => {}
            Some((_, false)) => {
                return Err(refuse(Error::new(
                    Kind::Forbidden,
                    "mounted volume is marked read-only",
                )));
            }
            None if read_only_root => {
                return Err(refuse(Error::new(
                    Kind::Forbidden,
                    "container rootfs is marked read-only",
                )));
            }
            None => {}
        }
        let owner = match request.own && !user.is_empty() {
            false => None,
            true => {
                let read = |path| view.small_file(Path::new(path), SMALL);
                let found = user::resolve(&user, &read("etc/passwd"), &read("etc/group"), &[]).map_err(refuse)?;
                Some((found.uid, found.gid))
            }
        };
        let rules = Rules {
            replace_directories: !request.keep_kinds,
            owner,
            ..Rules::copy()
        };
        let mut tar = store::Decompressed::open(tar as &mut dyn Read)?;
        view.extract(path.as_bytes(), &mut tar, rules)
    });
    if let Some(error) = refused.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(error);
    }
    done.map_err(|e| not_there(e, &path, name))?;
    engine.container_event("extract-to-dir", &container.record(), &[]);
    Ok(())
}

/// Looks at a container's files with all that is mounted over them.
fn look<T: Send>(
    engine: &Engine,
    container: &Arc<Container>,
    work: impl FnOnce(&View) -> store::Result<T> + Send,
) -> store::Result<T> {
    let record = container.record().clone();
    let (id, binds) = (record.id.as_str(), binds(&record));
    let foreign = |error: Error| store::Error::Invalid(error.to_string());
    let user = format!("copy-{}", crate::id::random_hex(8).map_err(foreign)?);
    volume::hold(engine, &record, &user).map_err(foreign)?;
    let done = engine.store.rw.mount(id).and_then(|root| {
        let done = view::within(&root, &binds, work);
        let unmounted = engine.store.rw.unmount(id);
        done.and_then(|done| unmounted.map(|()| done))
    });
    volume::let_go(engine, &record, &user);
    done
}

fn binds(record: &Record) -> Vec<Bind> {
    let mut binds: Vec<Bind> = record
        .disk
        .mount_points
        .values()
        .filter(|point| !point.source.is_empty())
        .map(|point| Bind {
            source: PathBuf::from(&point.source),
            target: PathBuf::from(&point.destination),
        })
        .collect();
    for (source, target) in [
        (&record.disk.hosts_path, "/etc/hosts"),
        (&record.disk.hostname_path, "/etc/hostname"),
        (&record.disk.resolv_conf_path, "/etc/resolv.conf"),
    ] {
        if !source.is_empty() && !record.disk.mount_points.contains_key(target) {
            binds.push(Bind {
                source: PathBuf::from(source),
                target: PathBuf::from(target),
            });
        }
    }
    binds
}

/// A path from the container's root, its trailing slash or dot kept.
fn absolute(path: &str) -> Result<String> {
    if path.contains('\0') {
        return Err(Error::invalid("a path has a NUL in it"));
    }
    Ok(match path.starts_with('/') {
        true => path.to_string(),
        false => format!("/{path}"),
    })
}

fn not_there(error: store::Error, path: &str, name: &str) -> Error {
    match error {
        store::Error::NotFound(_) => Error::not_found(format!("Could not find the file {path} in container {name}")),
        store::Error::Conflict(text) | store::Error::Invalid(text) => Error::invalid(text),
        other => other.into(),
    }
}
