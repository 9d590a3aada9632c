//! What is known of a container, as `inspect` gives it.

use crate::Engine;
use crate::container::{MountPoint, Record};
use crate::error::Result;
use api::container::{GraphDriver, Inspect, MountPoint as WireMount, Top};

/// The answer to `inspect`.
pub fn inspect(engine: &Engine, name: &str, size: bool) -> Result<Inspect> {
    let container = engine.containers.find(name)?;
    let record = container.record().clone();
    let id = record.id.as_str();
    let data = engine.store.rw.graph_driver_data(id).unwrap_or_default();
    let execs = engine.execs.running(&record.id);
    let (size_rw, size_root_fs) = if size { sizes(engine, &record) } else { (None, None) };
    Ok(Inspect {
        id: id.into(),
        created: record.disk.created.clone(),
        path: record.disk.path.clone(),
        args: record.disk.args.clone(),
        state: record.wire_state(),
        image: record.disk.image.clone(),
        resolv_conf_path: record.disk.resolv_conf_path.clone(),
        hostname_path: record.disk.hostname_path.clone(),
        hosts_path: record.disk.hosts_path.clone(),
        log_path: record.disk.log_path.clone(),
        name: record.disk.name.clone(),
        restart_count: record.disk.restart_count,
        driver: "overlay2".into(),
        platform: "linux".into(),
        exec_ids: Some(execs).filter(|e| !e.is_empty()),
        host_config: record.host.clone(),
        graph_driver: GraphDriver {
            data,
            name: "overlay2".into(),
        },
        size_rw,
        size_root_fs,
        mounts: mounts_of(&record),
        config: record.disk.config.clone(),
        network_settings: record.disk.network_settings.clone(),
        ..Inspect::default()
    })
}

/// Bytes of the writable layer, and of all layers.
pub(crate) fn sizes(engine: &Engine, record: &Record) -> (Option<i64>, Option<i64>) {
    let rw = engine.store.rw.size(record.id.as_str()).unwrap_or(0);
    let image = engine.store.rw.get(record.id.as_str()).and_then(|l| l.parent);
    let below = image.map_or(0, |top| engine.store.layers.chain_size(&top));
    let fit = |bytes: u64| Some(i64::try_from(bytes).unwrap_or(i64::MAX));
    (fit(rw), fit(rw.saturating_add(below)))
}

/// The mounts of a container.
pub(crate) fn mounts_of(record: &Record) -> Vec<WireMount> {
    let wire = |point: &MountPoint| WireMount {
        kind: point.kind.clone(),
        name: point.name.clone(),
        source: point.source.clone(),
        destination: point.destination.clone(),
        driver: point.driver.clone(),
        mode: point.mode.clone(),
        rw: point.rw,
        propagation: point.propagation.clone(),
    };
    record.disk.mount_points.values().map(wire).collect()
}

/// The processes of a running container, as `ps` on the host shows them.
pub fn top(engine: &Engine, name: &str, arguments: &str) -> Result<Top> {
    let container = engine.containers.find(name)?;
    let shim = {
        let inner = container.lock();
        if !inner.record.is_running() {
            return Err(crate::error::Error::conflict(format!(
                "container {} is not running",
                container.id
            )));
        }
        inner.live.shim.clone()
    };
    let conflict = || crate::error::Error::conflict(format!("container {} is not running", container.id));
    let pids = shim.ok_or_else(conflict)?.pids().map_err(|e| {
        crate::error::Error::internal(format!("list the processes of container {}: {e}", container.id.short()))
    })?;
    crate::info::processes(&pids, arguments)
}
