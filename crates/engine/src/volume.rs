//! Volumes: made for containers that ask for them, filled from the image at first, listed, removed.

use crate::container::{MountPoint, Record};
use crate::error::{Error, Kind, Result};
use crate::filter;
use crate::{Engine, id};
use api::volume::{CreateRequest, List, Volume};
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use store::volume_mounts::Sorted;

/// A volume as the API gives it.
fn wire(volume: &store::volumes::Volume) -> Volume {
    Volume {
        created_at: api::time::Time::of(volume.created).whole_seconds().to_rfc3339(),
        driver: "local".into(),
        labels: Some(volume.labels.clone()).filter(|l| !l.is_empty()),
        mountpoint: volume.data.to_string_lossy().into_owned(),
        name: volume.name.clone(),
        options: Some(volume.options.clone()).filter(|o| !o.is_empty()),
        scope: "local".into(),
        usage_data: None,
    }
}

fn no_such(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// Makes a volume, or returns the one of that name.
pub fn create(engine: &Engine, request: &CreateRequest) -> Result<Volume> {
    if !matches!(request.driver.as_str(), "" | "local") {
        return Err(Error::not_found(format!(
            "create {}: error looking up volume plugin {}: plugin \"{}\" not found",
            request.name, request.driver, request.driver
        )));
    }
    let name = if request.name.is_empty() {
        id::random_hex(32)?
    } else {
        request.name.clone()
    };
    crate::mounts::volume_name(&name)?;
    let labels = request.labels.clone().unwrap_or_default();
    let options = request.driver_opts.clone().unwrap_or_default();
    let made = engine.store.volumes.create(&name, &labels, &options);
    let (volume, existed) = made.map_err(|error| match error {
        store::Error::Invalid(why) => Error::invalid(format!("create {name}: {why}")),
        error => error.into(),
    })?;
    if !existed {
        let attributes = BTreeMap::from([("driver".to_string(), "local".to_string())]);
        engine.events.emit("volume", "create", &name, attributes);
    }
    Ok(wire(&volume))
}

/// One volume.
pub fn inspect(engine: &Engine, name: &str) -> Result<Volume> {
    Ok(wire(&engine.store.volumes.get(name)?.ok_or_else(|| no_such(name))?))
}

/// All volumes that pass the filters.
pub fn list(engine: &Engine, filters: &BTreeMap<String, Vec<String>>) -> Result<List> {
    let mut volumes = Vec::new();
    let dangling = filter::flag(filters, "dangling")?;
    for volume in engine.store.volumes.list()? {
        let any = |name: &str, test: &dyn Fn(&String) -> bool| filters.get(name).is_none_or(|v| v.iter().any(test));
        let used = !users(engine, &volume.name).is_empty();
        let fits = filter::any_name(filters, "name", &[&volume.name])
            && any("driver", &|d| d == "local")
            && dangling.is_none_or(|dangling| dangling != used)
            && filters
                .get("label")
                .is_none_or(|l| l.iter().all(|w| crate::image::matches_label(&volume.labels, w)));
        if fits {
            volumes.push(wire(&volume));
        }
    }
    Ok(List {
        volumes,
        warnings: None,
    })
}

/// Containers that have a volume mounted, running or not.
pub fn users(engine: &Engine, name: &str) -> Vec<String> {
    let mut users = Vec::new();
    for container in engine.containers.all() {
        let record = container.record();
        if record
            .disk
            .mount_points
            .values()
            .any(|p| p.kind == "volume" && p.name == name)
        {
            users.push(record.id.to_string());
        }
    }
    users
}

/// Removes a volume that no container has.
pub fn remove(engine: &Engine, name: &str, force: bool) -> Result<()> {
    if engine.store.volumes.get(name)?.is_none() {
        return if force { Ok(()) } else { Err(no_such(name)) };
    }
    let users = users(engine, name);
    if !users.is_empty() {
        return Err(Error::conflict(format!(
            "remove {name}: volume is in use - [{}]",
            users.join(", ")
        )));
    }
    engine.store.volumes.remove(name)?;
    engine.events.emit(
        "volume",
        "destroy",
        name,
        BTreeMap::from([("driver".into(), "local".into())]),
    );
    Ok(())
}

/// Makes the volumes that mount points name, and names for those that have none.
pub(crate) fn provide(engine: &Engine, points: &mut BTreeMap<String, MountPoint>) -> Result<()> {
    for point in points.values_mut().filter(|p| p.kind == "volume") {
        let options = point.spec.volume_options.clone().unwrap_or_default();
        let mut labels = options.labels.unwrap_or_default();
        if point.name.is_empty() {
            point.name = id::random_hex(32)?;
            // Docker 23 and later mark them, so that prune can tell.
            labels.insert("com.docker.volume.anonymous".into(), String::new());
        }
        let request = CreateRequest {
            name: point.name.clone(),
            driver: "local".into(),
            driver_opts: options.driver_config.and_then(|d| d.options),
            labels: Some(labels),
        };
        point.source = create(engine, &request)?.mountpoint;
    }
    Ok(())
}

/// Mounts what the options of a container's volumes say, for `user`: the container's ID, or one of a passing work.
pub(crate) fn hold(engine: &Engine, record: &Record, user: &str) -> Result<()> {
    for point in named(record) {
        if let Err(error) = engine.store.volumes.hold(&point.name, user, sorted) {
            let_go(engine, record, user);
            return Err(error.into());
        }
    }
    Ok(())
}

/// Takes [`hold`] back.
pub(crate) fn let_go(engine: &Engine, record: &Record, user: &str) {
    for point in named(record) {
        if let Err(e) = engine.store.volumes.let_go(&point.name, user) {
            log::warn!("unmount volume {} of container {}: {e}", point.name, record.id.short());
        }
    }
}

fn named(record: &Record) -> impl Iterator<Item = &MountPoint> {
    let points = record.disk.mount_points.values();
    points.filter(|point| point.kind == "volume" && !point.name.is_empty())
}

/// Sorts a volume's `o`. A name in `addr=` of a share is looked up, as mount.nfs and mount.cifs do for the kernel.
fn sorted(volume: &store::volumes::Volume) -> Sorted {
    let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
    let share = matches!(option("type"), "nfs" | "nfs4" | "cifs");
    let words = option("o").split(',').filter(|word| !word.is_empty());
    let words: Vec<String> = words
        .map(|word| match word.strip_prefix("addr=") {
            Some(host) if share && host.parse::<IpAddr>().is_err() => {
                let found = (host, 0).to_socket_addrs().ok().and_then(|mut list| list.next());
                found.map_or(word.to_string(), |found| format!("addr={}", found.ip()))
            }
            _ => word.to_string(),
        })
        .collect();
    let parsed = runtime::rootfs::options::parse(&words);
    Sorted {
        flags: parsed.flags,
        propagation: parsed.propagation,
        data: parsed.data,
    }
}

/// Fills empty volumes with what the image has in their place.
pub(crate) fn copy_up(engine: &Engine, record: &Record) -> Result<()> {
    let wanted: Vec<&MountPoint> = record
        .disk
        .mount_points
        .values()
        .filter(|p| p.kind == "volume" && p.copy_data)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let id = record.id.as_str();
    let root = engine.store.rw.mount(id)?;
    let user = format!("create-{id}");
    let mut result = Ok(());
    for point in wanted {
        let volume = engine
            .store
            .volumes
            .get(&point.name)?
            .ok_or_else(|| no_such(&point.name))?;
        let place = point.destination.trim_start_matches('/');
        // What is behind its options is not asked for where there is nothing to be copied.
        if !volume.options.is_empty() && std::fs::symlink_metadata(root.join(place)).is_err() {
            continue;
        }
        let held = engine.store.volumes.hold(&point.name, &user, sorted);
        let copied = held.and_then(|()| store::copy::into_empty(&root, place.as_ref(), &volume.data));
        if let Err(e) = engine.store.volumes.let_go(&point.name, &user) {
            log::warn!("unmount volume {}: {e}", point.name);
        }
        if let Err(e) = copied {
            result = Err(Error::new(
                Kind::Internal,
                format!("copy image content to volume {}: {e}", point.name),
            ));
            break;
        }
    }
    engine.store.rw.unmount(id)?;
    result
}

/// Removes a container's anonymous volumes.
pub(crate) fn remove_anonymous(engine: &Engine, record: &Record) {
    for point in record.disk.mount_points.values().filter(|p| p.kind == "volume") {
        // A name that the user chose stays, whatever it looks like.
        if point.spec.source.is_empty()
            && users(engine, &point.name).is_empty()
            && let Err(e) = remove(engine, &point.name, true)
        {
            log::warn!("remove volume {} of container {}: {e}", point.name, record.id.short());
        }
    }
}

/// Removes volumes that nobody has: anonymous ones, with `all` the named too. Returns names and bytes.
pub fn prune(engine: &Engine, all: bool, fits: impl Fn(&store::volumes::Volume) -> bool) -> Result<(Vec<String>, u64)> {
    let mut removed = Vec::new();
    let mut bytes = 0;
    for volume in engine.store.volumes.list()? {
        let anonymous = volume.labels.contains_key("com.docker.volume.anonymous");
        // What is behind options is not Docker's to count or to clear away, nor ours.
        if (all || anonymous) && volume.options.is_empty() && fits(&volume) && users(engine, &volume.name).is_empty() {
            bytes += engine.store.volumes.size(&volume.name).unwrap_or(0);
            remove(engine, &volume.name, true)?;
            removed.push(volume.name.clone());
        }
    }
    Ok((removed, bytes))
}
