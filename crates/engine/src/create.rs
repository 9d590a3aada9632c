//! Making a container: its config merged with its image's, its writable layer, its volumes, its record. In that order,
//! so that what is interrupted is swept and what is acknowledged is there after power fails.

use crate::container::{Disk, Record};
use crate::error::{Error, Kind, Result};
use crate::id::ContainerId;
use crate::table::Container;
use crate::{Engine, image, mounts, names, spec, volume};
use api::container::{ContainerConfig, CreateRequest, CreateResponse, Healthcheck};
use api::host_config::{HostConfig, RestartPolicy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use store::ImageId;

/// The runtime that makes a mountable root file system and is never started.
pub const BARE: &str = "bare";

/// Whether our own runtime is meant: Docker's name for the one it comes with, or the shims of containerd that run it
/// (`io.containerd.runtime.v1.linux` until Docker 20.10).
pub(crate) fn is_built_in(runtime: &str) -> bool {
    matches!(
        runtime,
        "" | "runc" | "io.containerd.runc.v2" | "io.containerd.runc.v1" | "io.containerd.runtime.v1.linux"
    )
}

/// Makes a container and returns its ID.
pub fn create(engine: &Arc<Engine>, name: &str, request: CreateRequest) -> Result<CreateResponse> {
    let CreateRequest {
        mut config,
        mut host_config,
        networking,
    } = request;
    if config.image.is_empty() {
        return Err(Error::invalid("Config cannot be empty in order to create a container").context("invalid config"));
    }
    let chosen = if name.is_empty() {
        None
    } else {
        Some(names::check(name)?)
    };
    // What the user asked for, before the image adds its own.
    check_network_mode(&config, &host_config)?;
    let image = image::find(engine, &config.image)?;
    let image_config = image::config_of(engine, &image)?;
    merge(&mut config, &image::run_config(&image_config));
    let bare = host_config.runtime == BARE;
    let (path, args) = command(&config, bare)?;
    let mut warnings = Vec::new();
    defaults(engine, &mut config, &mut host_config)?;
    validate(engine, &config, &host_config, &mut warnings)?;
    let id = ContainerId::random()?;
    let name = reserve(engine, chosen, &id)?;
    let made = make(
        engine,
        &id,
        &name,
        (path, args),
        config,
        host_config,
        networking,
        &image,
    );
    let container = match made {
        Ok(container) => container,
        Err(error) => {
            undo(engine, &id);
            engine.containers.release(&name, &id);
            return Err(error);
        }
    };
    engine.containers.insert(container.clone());
    engine.container_event("create", &container.record(), &[]);
    Ok(CreateResponse {
        id: id.to_string(),
        warnings,
    })
}

fn reserve(engine: &Engine, chosen: Option<&str>, id: &ContainerId) -> Result<String> {
    if let Some(name) = chosen {
        engine.containers.reserve(name, id)?;
        return Ok(name.into());
    }
    for attempt in 0..6 {
        let name = names::random(attempt)?;
        if engine.containers.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
    engine.containers.reserve(id.short(), id)?;
    Ok(id.short().into())
}

#[allow(clippy::too_many_arguments, reason = "the parts of one record, each of its own type")]
fn make(
    engine: &Arc<Engine>,
    id: &ContainerId,
    name: &str,
    (path, args): (String, Vec<String>),
    mut config: ContainerConfig,
    host: HostConfig,
    networking: api::container::NetworkingConfig,
    image: &ImageId,
) -> Result<Arc<Container>> {
    if config.hostname.is_empty() && !host.network_mode.starts_with("container:") && host.uts_mode != "host" {
        config.hostname = match host.network_mode.as_str() {
            "host" => crate::info::hostname(),
            _ => id.short().into(),
        };
    }
    let bare = host.runtime == BARE;
    let image_volumes = config.volumes.iter().flatten().map(|(target, _)| target.clone());
    let mut plan = mounts::parse(&host, image_volumes)?;
    inherit_volumes(engine, &host, &mut plan.points)?;
    let top = match engine.store.images.top_layer(image)? {
        Some(chain) => Some(engine.store.layers.get(&chain).ok_or_else(|| {
            Error::not_found(format!(
                "layer {} of image {} is missing or damaged; pull it again",
                chain.digest(),
                image.0.short()
            ))
        })?),
        None => None,
    };
    let mut fill = |root: &Path| init_layer(root);
    engine
        .store
        .rw
        .create(id.as_str(), top.as_ref(), if bare { None } else { Some(&mut fill) })?;
    let directory = engine.store.containers.create(id.as_str())?;
    volume::provide(engine, &mut plan.points)?;
    let text = |name: &str| {
        if bare {
            String::new()
        } else {
            directory.join(name).to_string_lossy().into_owned()
        }
    };
    let mut disk = Disk {
        created: api::time::now(),
        path,
        args,
        image: image.0.to_string(),
        name: format!("/{name}"),
        driver: "overlay2".into(),
        os: "linux".into(),
        hostname_path: text("hostname"),
        hosts_path: text("hosts"),
        resolv_conf_path: text("resolv.conf"),
        log_path: log_path(&host.log_config.kind, id, &directory),
        mount_points: plan.points,
        config,
        ..Disk::default()
    };
    disk.network_settings.networks = networks_of(engine, &host, networking, &disk.config)?;
    let record = Record::new(id.clone(), disk, host);
    volume::copy_up(engine, &record)?;
    let work = &record.disk.config.working_dir;
    if !bare && !work.is_empty() {
        let made = engine.store.rw.make_directory(id.as_str(), work);
        made.map_err(|e| match e {
            store::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotADirectory => {
                Error::invalid(format!("Cannot mkdir: {work} is not a directory"))
            }
            e => Error::from(e).context("create the working directory"),
        })?;
    }
    // The record is last: a container without one does not exist, and is swept.
    engine.save_host(&record)?;
    engine.save(&record)?;
    Ok(Arc::new(Container::new(record, directory)))
}

/// Where a container's log is; empty for a driver that keeps none as a file.
pub(crate) fn log_path(driver: &str, id: &ContainerId, directory: &Path) -> String {
    match driver {
        "json-file" => directory.join(format!("{id}-json.log")).to_string_lossy().into_owned(),
        _ => String::new(),
    }
}

fn undo(engine: &Engine, id: &ContainerId) {
    for error in [
        engine.store.containers.remove(id.as_str()).err(),
        engine.store.rw.remove(id.as_str()).err().filter(|e| !e.is_not_found()),
    ]
    .into_iter()
    .flatten()
    {
        log::warn!("undo the creation of container {}: {error}", id.short());
    }
}

/// The mount points that every container needs, in Docker's init layer.
fn init_layer(root: &Path) -> store::Result<()> {
    store::mount_points::make(
        root,
        &["dev/pts", "dev/shm", "proc", "sys", "etc"],
        &[
            "etc/resolv.conf",
            "etc/hosts",
            "etc/hostname",
            "dev/console",
            ".dockerenv",
        ],
        &[("etc/mtab", "/proc/mounts")],
    )
}

/// What the image says where the user said nothing.
pub(crate) fn merge(config: &mut ContainerConfig, image: &ContainerConfig) {
    if config.user.is_empty() {
        config.user = image.user.clone();
    }
    if let Some(ports) = &image.exposed_ports {
        let own = config.exposed_ports.get_or_insert_default();
        for port in ports.keys() {
            own.entry(port.clone()).or_default();
        }
    }
    if let Some(env) = &image.env {
        let own = config.env.get_or_insert_default();
        let name = |entry: &str| entry.split('=').next().unwrap_or(entry).to_string();
        let known: Vec<String> = own.iter().map(|e| name(e)).collect();
        let mut merged: Vec<String> = own.clone();
        merged.extend(env.iter().filter(|e| !known.contains(&name(e))).cloned());
        *own = merged;
    }
    if let Some(labels) = &image.labels {
        let own = config.labels.get_or_insert_default();
        for (key, value) in labels {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if empty(&config.entrypoint) && config.entrypoint.is_none() {
        if empty(&config.cmd) {
            config.cmd = image.cmd.clone();
            config.args_escaped = image.args_escaped;
        }
        config.entrypoint = image.entrypoint.clone();
    } else if config
        .entrypoint
        .as_ref()
        .is_some_and(|e| e.len() == 1 && e[0].is_empty())
    {
        // `--entrypoint ""` takes the image's away.
        config.entrypoint = None;
    }
    match (&mut config.healthcheck, &image.healthcheck) {
        (None, check) => config.healthcheck = check.clone(),
        (Some(own), Some(check)) => {
            if own.test.as_ref().is_none_or(Vec::is_empty) {
                own.test = check.test.clone();
            }
            for (mine, theirs) in [
                (&mut own.interval, check.interval),
                (&mut own.timeout, check.timeout),
                (&mut own.start_period, check.start_period),
                (&mut own.start_interval, check.start_interval),
                (&mut own.retries, check.retries),
            ] {
                if *mine == 0 {
                    *mine = theirs;
                }
            }
        }
        _ => {}
    }
    if config.working_dir.is_empty() {
        config.working_dir = image.working_dir.clone();
    }
    match &image.volumes {
        Some(volumes) => {
            let own = config.volumes.get_or_insert_default();
            for target in volumes.keys() {
                own.entry(target.clone()).or_default();
            }
        }
        None if config.volumes.as_ref().is_some_and(BTreeMap::is_empty) => config.volumes = None,
        None => {}
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = image.stop_signal.clone();
    }
}

/// Entrypoint and command as one line; the first word is what is run.
fn command(config: &ContainerConfig, bare: bool) -> Result<(String, Vec<String>)> {
    let mut words = config.entrypoint.clone().unwrap_or_default();
    words.extend(config.cmd.clone().unwrap_or_default());
    if words.is_empty() || words[0].is_empty() {
        if bare {
            return Ok((String::new(), Vec::new()));
        }
        return Err(Error::invalid("no command specified"));
    }
    let path = words.remove(0);
    Ok((path, words))
}

/// Fills in what Docker writes into a record where the request was silent.
fn defaults(engine: &Engine, config: &mut ContainerConfig, host: &mut HostConfig) -> Result<()> {
    if host.network_mode.is_empty() {
        host.network_mode = "default".into();
    }
    if config.network_disabled {
        host.network_mode = "none".into();
    }
    if host.log_config.kind.is_empty() {
        host.log_config.kind = engine.config.log_driver.clone();
    }
    // Options of the daemon's driver hold for a container that names the same driver, too.
    if host.log_config.kind == engine.config.log_driver {
        for (key, value) in &engine.config.log_opts {
            host.log_config
                .config
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    if host.shm_size == 0 {
        host.shm_size = engine.config.default_shm_size;
    }
    if host.runtime.is_empty() {
        host.runtime = engine.config.default_runtime.clone();
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = match engine.config.default_ipc.as_str() {
            "" => "private".into(),
            mode => mode.into(),
        };
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = match (host.privileged, crate::info::cgroup_v2()) {
            _ if !engine.config.default_cgroupns.is_empty() => engine.config.default_cgroupns.clone(),
            (false, true) => "private".into(),
            _ => "host".into(),
        };
    }
    let list = |paths: &[&str]| Some(paths.iter().map(|p| p.to_string()).collect());
    let unconfined = host
        .security_opt
        .iter()
        .flatten()
        .any(|o| o == "systempaths=unconfined");
    if host.privileged || unconfined {
        host.masked_paths = None;
        host.readonly_paths = None;
        if let Some(options) = &mut host.security_opt {
            options.retain(|o| o != "systempaths=unconfined");
        }
    } else {
        host.masked_paths = host.masked_paths.take().or_else(|| list(spec::MASKED_PATHS));
        host.readonly_paths = host.readonly_paths.take().or_else(|| list(spec::READONLY_PATHS));
    }
    for slot in [&mut host.dns, &mut host.dns_options, &mut host.dns_search] {
        slot.get_or_insert_default();
    }
    config.labels.get_or_insert_default();
    if host.oom_kill_disable.is_none() && !crate::info::cgroup_v2() {
        host.oom_kill_disable = Some(false);
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    // -1 asks for the kernel's own.
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if let Some(limit) = host.pids_limit
        && limit <= 0
    {
        host.pids_limit = None;
    }
    Ok(())
}

/// Refuses what has no meaning in another's network.
fn check_network_mode(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let others = host.network_mode.starts_with("container:");
    let hosts = host.network_mode == "host";
    let undefined = "can't be used with links. This would result in undefined behavior";
    let conflicts = [
        (
            host.uts_mode == "host" && !config.hostname.is_empty(),
            "hostname and the UTS mode",
        ),
        (others && !config.hostname.is_empty(), "hostname and the network mode"),
        (
            others && some(&host.links),
            &format!("container type network {undefined}"),
        ),
        (hosts && some(&host.links), &format!("host type networking {undefined}")),
        (others && some(&host.dns), "dns and the network mode"),
        (
            others && some(&host.extra_hosts),
            "custom host-to-IP mapping and the network mode",
        ),
        (
            (others || hosts) && !config.mac_address.is_empty(),
            "mac-address and the network mode",
        ),
        (
            others && (!host.port_bindings.is_empty() || host.publish_all_ports),
            "port publishing and the container type network mode",
        ),
        (
            others && config.exposed_ports.iter().flatten().next().is_some(),
            "port exposing and the container type network mode",
        ),
    ];
    match conflicts.iter().find(|(conflict, _)| *conflict) {
        Some((_, what)) => Err(Error::invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// Checks a restart policy that was named.
pub(crate) fn check_restart_policy(policy: &RestartPolicy) -> Result<()> {
    match policy.name.as_str() {
        "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        )),
        "on-failure" if policy.maximum_retry_count < 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        )),
        "no" | "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

/// Checks a health check's times and retries: zero is the default, what is below a millisecond no time.
fn check_health(health: &Healthcheck) -> Result<()> {
    const LEAST: i64 = 1_000_000;
    for (name, nanoseconds) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if nanoseconds != 0 && nanoseconds < LEAST {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    match health.retries < 0 {
        true => Err(Error::invalid("Retries in Healthcheck cannot be negative")),
        false => Ok(()),
    }
}

fn validate(engine: &Engine, config: &ContainerConfig, host: &HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    spec::check_resources(host, crate::info::cpus())?;
    spec::capabilities_of(host, &[])?;
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    if !config.stop_signal.is_empty() {
        crate::stop::parse_signal(&config.stop_signal)?;
    }
    check_restart_policy(&host.restart_policy)?;
    if let Some(health) = &config.healthcheck {
        check_health(health)?;
    }
    if host.auto_remove && host.restart_policy.name != "no" {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    if host.runtime != BARE && !is_built_in(&host.runtime) && !engine.config.runtimes.contains_key(&host.runtime) {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    crate::log_driver::check(&host.log_config)?;
    match host.userns_mode.as_str() {
        "" | "host" => {}
        other => return Err(Error::not_supported(format!("user namespace mode \"{other}\""))),
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    match host.volume_driver.as_str() {
        "" | "local" => {}
        other => return Err(Error::not_supported(format!("volume driver \"{other}\""))),
    }
    match host.isolation.as_str() {
        "" | "default" => {}
        other => {
            return Err(Error::invalid(format!(
                "invalid isolation: \"{other}\" - linux only supports 'default'"
            )));
        }
    }
    // On networks of one's own Docker reads those of the endpoint, and passes over these.
    let own = crate::net_names::has_names(&host.network_mode) && host.network_mode != "default";
    if !own && host.links.as_ref().is_some_and(|links| !links.is_empty()) {
        return Err(Error::new(
            Kind::NotImplemented,
            "a link (--link) on the default bridge is not supported by balena: on a network of one's own containers find each other by name",
        ));
    }
    if host.device_requests.as_ref().is_some_and(|d| !d.is_empty()) {
        return Err(Error::not_supported("a device request (--gpus)"));
    }
    if !host.container_id_env.is_empty() {
        let taken = |e: &String| e.split('=').next() == Some(host.container_id_env.as_str());
        if config.env.iter().flatten().any(taken) {
            return Err(Error::conflict(format!(
                "Conflict. The environment variable \"{}\" is already set",
                host.container_id_env
            )));
        }
    }
    for option in host.security_opt.iter().flatten() {
        crate::prepare::security_option(option)?;
    }
    for key in host.port_bindings.keys() {
        let port = key.split('/').next().unwrap_or("");
        if port.parse::<u16>().is_err() {
            return Err(Error::invalid(format!("invalid port specification: \"{key}\"")));
        }
    }
    let shared_network = host.network_mode.starts_with("container:") || host.network_mode == "host";
    if shared_network && !host.port_bindings.is_empty() && host.network_mode == "host" {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .into(),
        );
    }
    Ok(())
}

/// The endpoints that the record starts with.
fn networks_of(
    engine: &Engine,
    host: &HostConfig,
    networking: api::container::NetworkingConfig,
    config: &ContainerConfig,
) -> Result<BTreeMap<String, Option<api::network::EndpointSettings>>> {
    let mode = match host.network_mode.as_str() {
        // A daemon without a default bridge (`--bridge=none`) gives no network, as Docker's does.
        "default" if engine.networks.default_bridge().is_none() => "none",
        "default" => "bridge",
        other => other,
    };
    if mode.starts_with("container:") {
        return Ok(BTreeMap::new());
    }
    // A network that is not there is the start's business, as with Docker: it may come to be until then.
    let called = |name: &str| {
        engine
            .networks
            .inspect(name)
            .map_or_else(|_| name.to_owned(), |network| network.name)
    };
    let first = called(mode);
    let mut networks = BTreeMap::new();
    let count = networking.endpoints_config.len();
    for (name, wanted) in networking.endpoints_config {
        // Clients that know one network only may call it by another name than the mode's.
        let name = if count == 1 || name == "default" {
            first.clone()
        } else {
            called(&name)
        };
        networks.insert(name, wanted);
    }
    networks.entry(first.clone()).or_default();
    for (name, endpoint) in &mut networks {
        let endpoint = endpoint.get_or_insert_default();
        endpoint.network_id = String::new();
        if *name == first && endpoint.mac_address.is_empty() {
            endpoint.mac_address = config.mac_address.clone();
        }
        if let Ok(network) = engine.networks.inspect(name) {
            crate::net_change::check_endpoint(&network, endpoint)?;
        }
    }
    Ok(networks)
}

/// `--volumes-from`: the other containers' mounts that this one has not got yet.
fn inherit_volumes(
    engine: &Engine,
    host: &HostConfig,
    points: &mut BTreeMap<String, crate::container::MountPoint>,
) -> Result<()> {
    for spec in host.volumes_from.iter().flatten() {
        let (name, mode) = spec.split_once(':').unwrap_or((spec, "rw"));
        if !matches!(mode, "rw" | "ro" | "z" | "Z" | "ro,z" | "rw,z") {
            return Err(Error::invalid(format!("invalid mode: {mode}")));
        }
        // Not as something that was not found: a client would take the image for it, and pull.
        let other = engine.containers.find(name);
        let other = other.map_err(|e| Error::invalid(e.to_string()))?;
        for (target, point) in &other.record().disk.mount_points {
            let mut point = point.clone();
            point.rw = point.rw && !mode.starts_with("ro");
            point.copy_data = false;
            points.entry(target.clone()).or_insert(point);
        }
    }
    Ok(())
}

/// Renames a container.
pub fn rename(engine: &Engine, name: &str, new: &str) -> Result<()> {
    if new.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    let container = engine.containers.find(name)?;
    let refuse = |e: Error| e.context("Error when allocating new name");
    let given = format!("/{}", new.strip_prefix('/').unwrap_or(new));
    let new = names::check(&given).map_err(refuse)?;
    let _claim = container.claim()?;
    let old = container.record().name().to_string();
    if old == new {
        return Err(Error::invalid(
            "Renaming a container with the same name as its current name",
        ));
    }
    engine.containers.reserve(new, &container.id).map_err(refuse)?;
    let record = {
        let mut inner = container.lock();
        inner.record.disk.name = format!("/{new}");
        inner.record.clone()
    };
    if let Err(error) = engine.save(&record) {
        container.lock().record.disk.name = format!("/{old}");
        engine.containers.release(new, &container.id);
        return Err(error.context(format!("rename container {old} to {new}")));
    }
    engine.containers.release(&old, &container.id);
    engine.container_event("rename", &record, &[("oldName", format!("/{old}"))]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> ContainerConfig {
        let list = |words: &[&str]| words.iter().map(|w| w.to_string()).collect();
        ContainerConfig {
            entrypoint: entrypoint.map(list),
            cmd: cmd.map(list),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn entrypoint_and_command() {
        let image = config(Some(&["/e"]), Some(&["a", "b"]));
        for (own, line) in [
            (config(None, None), "/e a b"),
            (config(None, Some(&["x"])), "/e x"),
            (config(Some(&["/y"]), None), "/y"),
            (config(Some(&["/y"]), Some(&["x"])), "/y x"),
            (config(Some(&[""]), Some(&["x"])), "x"),
        ] {
            let mut own = own;
            merge(&mut own, &image);
            let (path, args) = command(&own, false).unwrap();
            assert_eq!([vec![path], args].concat().join(" "), line);
        }
        let mut none = config(Some(&[""]), None);
        merge(&mut none, &image);
        assert_eq!(command(&none, false).unwrap_err().to_string(), "no command specified");
    }

    #[test]
    fn environment_and_labels() {
        let mut own = ContainerConfig {
            env: Some(vec!["A=2".into()]),
            ..ContainerConfig::default()
        };
        let image = ContainerConfig {
            env: Some(vec!["PATH=/x".into(), "A=1".into()]),
            labels: Some(BTreeMap::from([("l".into(), "1".into())])),
            ..ContainerConfig::default()
        };
        merge(&mut own, &image);
        assert_eq!(own.env.unwrap(), ["A=2", "PATH=/x"]);
        assert_eq!(own.labels.unwrap()["l"], "1");
    }
}
