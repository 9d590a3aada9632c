//! Taking up containers when the daemon starts: those that run are adopted, those that ended meanwhile are recorded,
//! those that must be are started. A record that cannot be read is set aside and reported; the rest is served.

use crate::connect::RunNetwork;
use crate::container::{Record, State};
use crate::error::Result;
use crate::id::ContainerId;
use crate::table::Container;
use crate::{Engine, create, restart, start, watch};
use network::EndpointState;
use runtime::shim::{ExitStatus, Shim, read_exit};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Takes up all containers of the data root.
pub fn all(engine: &Arc<Engine>) -> Result<()> {
    let mut known = HashSet::new();
    for name in engine.store.containers.list()? {
        match read(engine, &name) {
            Ok(Some(record)) => {
                known.insert(name.clone());
                insert(engine, record)?;
            }
            // Without a record it was never acknowledged, or its removal had begun.
            Ok(None) => {
                log::info!("container {:.12} has no record; what is left of it is removed", name);
                discard(engine, &name);
            }
            Err(why) => {
                log::error!("container {:.12} is set aside: {why}", name);
                // Its layer stays: a record may be mended by hand.
                known.insert(name);
            }
        }
    }
    for name in engine.store.rw.list() {
        if !known.contains(&name) {
            log::info!("the layer of container {:.12} has no container; it is removed", name);
            discard(engine, &name);
        }
    }
    let containers = engine.containers.all();
    let mut adopted = Vec::new();
    let mut endpoints: Vec<EndpointState> = Vec::new();
    for container in &containers {
        if let Some(shim) = connect(engine, container) {
            endpoints.extend(container.lock().live.endpoints.clone());
            adopted.push((container.clone(), shim));
        }
    }
    let restored = engine.networks.restore(&mut endpoints);
    for (container, _) in &adopted {
        // Proxies were started anew; the run directory remembers them for the next daemon.
        let directory = engine.run_directory(container);
        let mut run_network = RunNetwork::read(&directory);
        let mut inner = container.lock();
        for endpoint in &mut inner.live.endpoints {
            if let Some(now) = endpoints.iter().find(|e| e.endpoint_id == endpoint.endpoint_id) {
                endpoint.clone_from(now);
            }
        }
        run_network.endpoints = inner.live.endpoints.clone();
        drop(inner);
        if let Err(e) = run_network.write(&directory) {
            log::warn!("{e}");
        }
    }
    let running: HashSet<String> = adopted.iter().map(|(c, _)| c.id.to_string()).collect();
    for error in restored {
        log::warn!("restore the network of running containers: {error}");
    }
    for error in engine.store.rw.unmount_stale(&running) {
        log::warn!("unmount what no container uses: {error}");
    }
    for (container, shim) in adopted {
        log::info!("adopted running container {}", container.id.short());
        if let Err(e) = engine.store.rw.mount(container.id.as_str()) {
            log::warn!("adopt the root file system of container {}: {e}", container.id.short());
        }
        let record = container.record().clone();
        if let Err(e) = crate::volume::hold(engine, &record, container.id.as_str()) {
            log::warn!("volumes of container {}: {e}", container.id.short());
        }
        if let Err(e) = crate::net_names::serve(engine, &container) {
            log::warn!("names for container {}: {e}", container.id.short());
        }
        engine.watch.add(engine, &container, &shim)?;
        crate::health::begin(engine, &container, &shim);
    }
    for error in engine.store.volumes.unmount_stale() {
        log::warn!("unmount a volume that no container uses: {error}");
    }
    for container in &containers {
        settle(engine, container, running.contains(container.id.as_str()));
    }
    sweep_namespaces(engine);
    Ok(())
}

fn read(engine: &Engine, name: &str) -> Result<Option<Record>, String> {
    let Some(id) = ContainerId::parse(name) else {
        return Ok(None);
    };
    let file = |file: &str| engine.store.containers.read(name, file).map_err(|e| e.to_string());
    let Some(config) = file("config.v2.json")? else {
        return Ok(None);
    };
    let host = file("hostconfig.json")?.unwrap_or_else(|| b"{}".to_vec());
    Record::from_json(&id, &config, &host).map(Some)
}

fn insert(engine: &Engine, record: Record) -> Result<()> {
    let directory = engine.store.containers.path(record.id.as_str())?;
    let (id, mut name) = (record.id.clone(), record.name().to_string());
    if engine.containers.reserve(&name, &id).is_err() || name.is_empty() {
        // Two records with one name: the second gets its ID for a name.
        name = id.short().to_string();
        engine.containers.reserve(&name, &id)?;
    }
    let mut record = record;
    record.disk.name = format!("/{name}");
    if record.host.log_config.kind.is_empty() {
        // Of an engine that wrote no defaults into its records, or a record that is lost.
        record.host.log_config.kind = engine.config.log_driver.clone();
    }
    place(engine, &mut record, &directory);
    engine.containers.insert(Arc::new(Container::new(record, directory)));
    Ok(())
}

/// Sets the paths of a record to where its files are: Docker writes them at the first start only, and the data root may
/// have had another name then.
fn place(engine: &Engine, record: &mut Record, directory: &Path) {
    if record.host.runtime == create::BARE {
        return;
    }
    let text = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let disk = &mut record.disk;
    disk.hostname_path = text("hostname");
    disk.hosts_path = text("hosts");
    disk.resolv_conf_path = text("resolv.conf");
    disk.log_path = create::log_path(&record.host.log_config.kind, &record.id, directory);
    for point in disk.mount_points.values_mut().filter(|point| point.kind == "volume") {
        if let Ok(Some(volume)) = engine.store.volumes.get(&point.name) {
            point.source = volume.data.to_string_lossy().into_owned();
        }
    }
}

fn discard(engine: &Engine, name: &str) {
    if let Err(e) = engine.store.containers.remove(name) {
        log::warn!("remove the directory of container {name:.12}: {e}");
    }
    match engine.store.rw.remove(name) {
        Err(e) if !e.is_not_found() => log::warn!("remove the layer of container {name:.12}: {e}"),
        _ => {}
    }
}

/// Finds the shim of a container. One whose container was created but not started is ended: the start that it belongs
/// to was never acknowledged.
fn connect(engine: &Engine, container: &Arc<Container>) -> Option<Arc<Shim>> {
    let directory = engine.run_directory(container);
    if !directory.exists() {
        return None;
    }
    let run_network = RunNetwork::read(&directory);
    {
        let mut inner = container.lock();
        inner.live.endpoints = run_network.endpoints;
        inner.record.disk.network_settings.sandbox_key = run_network.sandbox;
    }
    let id = container.id.short();
    let recorded = container.record().is_running();
    let shim = match Shim::connect(&directory) {
        Ok(shim) => Arc::new(shim),
        Err(e) => {
            log::info!("container {id} does not run any more: {e}");
            if !recorded {
                start::release(engine, container);
            }
            return None;
        }
    };
    let started = shim.info().is_ok_and(|(_, started)| started);
    if !started {
        log::info!("container {id} was about to be started when the last daemon ended; that is undone");
        if let Err(e) = shim.delete() {
            log::warn!("undo the start of container {id}: {e}");
        }
        start::release(engine, container);
        return None;
    }
    let (record, news) = {
        let mut inner = container.lock();
        inner.live.shim = Some(shim.clone());
        match &mut inner.record.state {
            State::Running { pid, .. } => *pid = shim.pid(),
            // It was started, and the daemon ended before it could say so.
            _ => inner.record.set_running(shim.pid()),
        }
        (inner.record.clone(), !recorded)
    };
    if news && let Err(e) = engine.save(&record) {
        log::error!("record that container {id} runs: {e}");
    }
    Some(shim)
}

/// Brings a container that does not run to the state that it should be in.
fn settle(engine: &Arc<Engine>, container: &Arc<Container>, running: bool) {
    if running {
        return;
    }
    let (state, policy, stopped) = {
        let inner = container.lock();
        (
            inner.record.state.clone(),
            inner.record.host.restart_policy.clone(),
            inner.record.disk.has_been_manually_stopped,
        )
    };
    let was_running = matches!(state, State::Running { .. } | State::Restarting);
    match state {
        State::Removing { .. } => {
            let options = crate::remove::Options {
                force: true,
                volumes: false,
            };
            if let Err(e) = crate::remove::take_apart(engine, container, options) {
                log::warn!("finish the removal of container {}: {e}", container.id.short());
            }
            return;
        }
        State::Running { .. } => {
            // Its end was not seen: the shim's word counts, else the machine went down with it.
            let directory = engine.run_directory(container);
            let status = read_exit(&directory).unwrap_or_else(|| ExitStatus {
                code: 255,
                exited_at: api::time::now(),
                oom_killed: false,
            });
            container.lock().live.stopping = true;
            watch::finish(engine, container, &status);
            container.lock().live.stopping = false;
        }
        State::Restarting => {
            container.lock().record.state = State::Exited;
        }
        _ => {}
    }
    if container.lock().live.removed {
        return;
    }
    let never_started = matches!(state, State::Created) && !container.record().disk.has_been_started_before;
    if !never_started && restart::at_boot(&policy, stopped, was_running) {
        log::info!("starting container {} by its restart policy", container.id.short());
        if let Err(e) = start_again(engine, container) {
            log::error!("start container {} by its restart policy: {e}", container.id.short());
        }
    }
}

fn start_again(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let _claim = container.claim()?;
    start::run(engine, container)
}

/// Removes network namespaces that no container has: of runs that a daemon did not live to record.
fn sweep_namespaces(engine: &Engine) {
    let used: HashSet<String> = engine
        .containers
        .all()
        .iter()
        .map(|c| c.record().disk.network_settings.sandbox_key.clone())
        .collect();
    let directory = network::netns::directory(&engine.config.exec_root);
    for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !used.contains(&*path.to_string_lossy())
            && let Err(e) = network::Sandbox::at(&path).remove()
        {
            log::warn!(
                "remove the network namespace {}, which no container has: {e}",
                path.display()
            );
        }
    }
}
