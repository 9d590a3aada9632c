//! Starting a container: root file system, network, spec, shim; and giving all of it back when it ends.
//!
//! Under the container's claim, in this order, each step undone by [`release`] if a later one fails.

use crate::attach::Waiting;
use crate::container::{Record, State};
use crate::error::{Context, Error, Kind, Result};
use crate::table::Container;
use crate::{Engine, connect, create, health, log_driver, prepare, spec, volume};
use network::Sandbox;
use oci::runtime as rt;
use runtime::shim::{RuntimeChoice, Shim, ShimConfig};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

/// Starts a container that does not run.
pub fn start(engine: &Arc<Engine>, name: &str) -> Result<()> {
    let container = engine.containers.find(name)?;
    let claim = container.claim()?;
    {
        let mut inner = container.lock();
        match inner.record.state {
            State::Running { paused: true, .. } => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            State::Running { .. } => return Err(Error::new(Kind::NotModified, "container already started")),
            State::Removing { .. } => {
                return Err(Error::conflict("container is marked for removal and cannot be started"));
            }
            State::Created | State::Exited | State::Restarting => {}
        }
        if inner.record.host.runtime == crate::create::BARE {
            return Err(Error::invalid(
                "a container of the runtime \"bare\" is a file system only and cannot be started",
            ));
        }
        inner.record.disk.has_been_manually_stopped = false;
        inner.record.disk.restart_count = 0;
        inner.live.stopping = false;
        inner.live.restart_delay = std::time::Duration::ZERO;
    }
    let started = run(engine, &container);
    let auto_remove = container.record().host.auto_remove;
    if started.is_err() && auto_remove {
        // Docker removes what could not be started and was to be removed.
        let options = crate::remove::Options {
            force: true,
            volumes: true,
        };
        if let Err(e) = crate::remove::take_apart(engine, &container, options) {
            log::warn!(
                "remove container {} after it could not be started: {e}",
                container.id.short()
            );
        }
    }
    drop(claim);
    started
}

/// The start itself, under a claim.
pub(crate) fn run(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let result = launch(engine, container);
    if let Err(error) = &result {
        release(engine, container);
        let text = error.to_string();
        let record = {
            let mut inner = container.lock();
            inner.live.waiting.clear();
            inner.record.exit_code = exit_code_of(&text);
            inner.record.error = text;
            if inner.record.disk.has_been_started_before {
                inner.record.state = State::Exited;
            } else {
                inner.record.state = State::Created;
            }
            inner.record.clone()
        };
        if let Err(e) = engine.save(&record) {
            log::error!("record why container {} did not start: {e}", container.id.short());
        }
    }
    result
}

/// 127 for a command that is not there, 126 for one that cannot be run, 128 for all else.
fn exit_code_of(text: &str) -> i64 {
    match () {
        () if text.contains("executable file not found") || text.contains("no such file or directory") => 127,
        () if text.contains("permission denied") || text.contains("is a directory") => 126,
        () => 128,
    }
}

fn launch(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let record = container.record().clone();
    let id = record.id.as_str();
    let log = log_driver::log_of(&record, &container.directory)?;
    let rootfs = engine.store.rw.mount(id)?;
    volume::hold(engine, &record, id)?;
    let sandbox = connect::connect(engine, container, &record)?;
    connect::write_files(engine, container, &record)?;
    let run_directory = engine.run_directory(container);
    fs::create_dir_all(&run_directory).context(format!("make {}", run_directory.display()))?;

    let host = prepare::prepare(engine, &record, &rootfs, sandbox.as_ref())?;
    let spec = spec::build(&record, &host)?;
    let bundle = run_directory.join("config.json");
    let bytes = json::to_vec(&spec);
    fs::write(&bundle, bytes).context(format!("write {}", bundle.display()))?;

    let shim_config = ShimConfig {
        id: id.into(),
        bundle: run_directory.clone(),
        runtime: runtime_of(engine, &record)?,
        tty: record.disk.config.tty,
        open_stdin: record.disk.config.open_stdin,
        stdin_once: record.disk.config.stdin_once,
        log,
        console_size: (record.host.console_size != [0, 0]).then(|| {
            let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
            rt::ConsoleSize {
                height: side(record.host.console_size[0]),
                width: side(record.host.console_size[1]),
            }
        }),
    };
    let shim = Arc::new(Shim::spawn(&run_directory, &shim_config).map_err(|e| create_failed(&e.to_string()))?);
    // Clients that attached before the start miss nothing: they are connected while init still waits.
    let waiting: Vec<Waiting> = std::mem::take(&mut container.lock().live.waiting);
    for client in waiting {
        client.connect(&shim);
    }
    if let Err(error) = shim.start() {
        // A shim whose container never started ends it and goes; that it could not is in its own log.
        let _ = shim.delete();
        return Err(create_failed(&error.to_string()));
    }
    let record = {
        let mut inner = container.lock();
        inner.live.shim = Some(shim.clone());
        inner.record.set_running(shim.pid());
        inner.record.clone()
    };
    let saved = engine.save(&record);
    engine.container_event("start", &record, &[]);
    engine.watch.add(engine, container, &shim)?;
    health::begin(engine, container, &shim);
    saved
}

fn create_failed(message: &str) -> Error {
    if message.starts_with(runtime::shim::LOG_FAILED) {
        return Error::internal(format!("failed to create task for container: {message}"));
    }
    let text = format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: {}: unknown",
        message.trim()
    );
    let users = exit_code_of(message) != 128;
    Error::new(if users { Kind::Invalid } else { Kind::Internal }, text)
}

fn runtime_of(engine: &Engine, record: &Record) -> Result<RuntimeChoice> {
    let root = engine.config.exec_root.join("runtime-runc").join("moby");
    let mut choice = RuntimeChoice {
        path: None,
        root,
        args: if engine.config.systemd_cgroup {
            vec!["--systemd-cgroup".into()]
        } else {
            Vec::new()
        },
    };
    match record.host.runtime.as_str() {
        name if create::is_built_in(name) => {}
        name => {
            let chosen = engine.config.runtimes.get(name);
            let chosen = chosen.ok_or_else(|| Error::invalid(format!("unknown or invalid runtime name: {name}")))?;
            choice.path = Some(chosen.path.clone());
            choice.args = chosen.args.clone();
            choice.root = engine.config.exec_root.join(format!("runtime-{name}")).join("moby");
        }
    }
    Ok(choice)
}

/// Gives back what a run had: network, root file system, run directory. Does all of it and logs what failed.
pub(crate) fn release(engine: &Engine, container: &Container) {
    // Before its namespace goes; outside of the lock, which a query may be waiting for.
    let resolver = container.lock().live.resolver.take();
    drop(resolver);
    let (endpoints, sandbox) = {
        let mut inner = container.lock();
        inner.live.shim = None;
        let settings = &mut inner.record.disk.network_settings;
        let sandbox = std::mem::take(&mut settings.sandbox_key);
        settings.sandbox_id.clear();
        settings.ports.clear();
        settings.endpoint_id.clear();
        settings.gateway.clear();
        settings.ip_address.clear();
        settings.ip_prefix_len = 0;
        settings.mac_address.clear();
        for endpoint in settings.networks.values_mut().flatten() {
            endpoint.endpoint_id.clear();
            endpoint.dns_names = None;
            endpoint.gateway.clear();
            endpoint.ip_address.clear();
            endpoint.ip_prefix_len = 0;
            // An address that the user asked for stays asked for.
            if endpoint.mac_address.starts_with("02:42:") {
                endpoint.mac_address.clear();
            }
        }
        (std::mem::take(&mut inner.live.endpoints), sandbox)
    };
    let id = container.id.short();
    let report = |what: &str, e: &dyn std::fmt::Display| log::warn!("{what} of container {id}: {e}");
    for endpoint in &endpoints {
        // The interface goes with its namespace.
        if let Err(e) = engine.networks.release(endpoint) {
            report("release the network", &e);
        }
        let attributes = BTreeMap::from([
            ("container".to_string(), container.id.to_string()),
            ("name".to_string(), endpoint.network.clone()),
            (
                "type".to_string(),
                if endpoint.veth.is_empty() { "null" } else { "bridge" }.to_string(),
            ),
        ]);
        engine
            .events
            .emit("network", "disconnect", &endpoint.network_id, attributes);
    }
    if !sandbox.is_empty()
        && let Err(e) = Sandbox::at(sandbox).remove()
    {
        report("remove the network namespace", &e);
    }
    let record = container.record().clone();
    volume::let_go(engine, &record, container.id.as_str());
    if let Err(e) = engine.store.rw.unmount(container.id.as_str()) {
        report("unmount the root file system", &e);
    }
    let run_directory = engine.run_directory(container);
    // A shim that is just ending may still write its last word there.
    for attempt in 0.. {
        match fs::remove_dir_all(&run_directory) {
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty && attempt < 20 => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                report("remove the run directory", &e);
                break;
            }
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        assert_eq!(exit_code_of("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(exit_code_of("exec: \"/x\": permission denied"), 126);
        assert_eq!(exit_code_of("mount: what"), 128);
    }
}
