//! Starting a container: root file system, network, spec, shim; and giving all of it back when it ends.
//!
//! Under the container's claim, in this order, each step undone by [`release`] if a later one fails.

use crate::attach::Waiting;
use crate::container::{Record, State};
use crate::error::{Context, Error, Kind, Result};
use crate::spec::{self, Host, HostDevice, SeccompChoice};
use crate::table::Container;
use crate::{Engine, user};
use api::host_config::LogConfig;
use network::{EndpointConfig, EndpointState, Sandbox};
use oci::runtime as rt;
use runtime::shim::Shim;
use runtime::shim::{LogConfig as ShimLog, RuntimeChoice, ShimConfig};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
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
    let rootfs = engine.store.rw.mount(id)?;
    let sandbox = connect(engine, container, &record)?;
    write_files(engine, container, &record)?;
    let run_directory = engine.run_directory(container);
    fs::create_dir_all(&run_directory).context(format!("make {}", run_directory.display()))?;

    let host = prepare(engine, &record, &rootfs, sandbox.as_ref())?;
    let spec = spec::build(&record, &host)?;
    let bundle = run_directory.join("config.json");
    let bytes = serde_json::to_vec(&spec).context("write the OCI spec")?;
    fs::write(&bundle, bytes).context(format!("write {}", bundle.display()))?;

    let shim_config = ShimConfig {
        id: id.into(),
        bundle: run_directory.clone(),
        runtime: runtime_of(engine, &record)?,
        tty: record.disk.config.tty,
        open_stdin: record.disk.config.open_stdin,
        stdin_once: record.disk.config.stdin_once,
        log: log_of(&record)?,
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
    saved
}

fn create_failed(message: &str) -> Error {
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
        "" | "runc" => {}
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

/// Checks a log driver's options.
pub(crate) fn log_options(log: &LogConfig) -> Result<(Option<u64>, u32)> {
    let bad = |text: String| Err(Error::invalid(text));
    let (mut max_size, mut max_file) = (None, 1);
    for (key, value) in &log.config {
        match (log.kind.as_str(), key.as_str()) {
            ("none", _) => {}
            (_, "max-size") => match parse_size(value) {
                Some(size) if size > 0 => max_size = Some(size),
                _ => return bad(format!("invalid value for max-size: {value}")),
            },
            (_, "max-file") => match value.parse() {
                Ok(count) if count >= 1 => max_file = count,
                _ => return bad("max-file cannot be less than 1".into()),
            },
            (_, "compress") if value == "true" => {
                return Err(Error::not_supported("compressing rotated logs (log-opt compress)"));
            }
            (_, "compress") => {}
            (_, "mode" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex" | "tag") => {}
            (driver, key) => return bad(format!("unknown log opt '{key}' for {driver} log driver")),
        }
    }
    if max_file > 1 && max_size.is_none() && log.kind == "json-file" {
        return bad("max-file is set to more than 1, but max-size is not set: no rotation would take place".into());
    }
    Ok((max_size, max_file))
}

/// A size with a unit of 1024: `10m`, `1.5g`, `512`.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let shift = match lower[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: f64 = lower[..digits].parse().ok()?;
    let bytes = number * (1u64 << shift) as f64;
    (bytes < 9e18).then_some(bytes as u64)
}

fn log_of(record: &Record) -> Result<ShimLog> {
    let log = &record.host.log_config;
    let (max_size, max_file) = log_options(log)?;
    Ok(match log.kind.as_str() {
        "none" => ShimLog::None,
        _ => ShimLog::JsonFile {
            path: PathBuf::from(&record.disk.log_path),
            max_size,
            max_file,
            attrs: log_attributes(record),
        },
    })
}

/// `--log-opt labels=…,env=…`: what of the container every line carries.
fn log_attributes(record: &Record) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let options = &record.host.log_config.config;
    for key in options.get("labels").into_iter().flat_map(|l| l.split(',')) {
        if let Some(value) = record.disk.config.labels.as_ref().and_then(|l| l.get(key)) {
            attributes.insert(key.to_string(), value.clone());
        }
    }
    for key in options.get("env").into_iter().flat_map(|l| l.split(',')) {
        let entry = record
            .disk
            .config
            .env
            .iter()
            .flatten()
            .find_map(|e| e.strip_prefix(key)?.strip_prefix('='));
        if let Some(value) = entry {
            attributes.insert(key.to_string(), value.to_string());
        }
    }
    attributes
}

/// Gives a container its network; `None` is the host's.
fn connect(engine: &Engine, container: &Arc<Container>, record: &Record) -> Result<Option<Sandbox>> {
    let mode = record.host.network_mode.as_str();
    if mode == "host" {
        return Ok(None);
    }
    if let Some(target) = mode.strip_prefix("container:") {
        let other = engine.containers.find(target)?;
        let pid = other.record().pid().ok_or_else(|| {
            Error::conflict(format!(
                "cannot join network namespace of a non running container: {}",
                other.id
            ))
        })?;
        return Ok(Some(Sandbox::at(format!("/proc/{pid}/ns/net"))));
    }
    let sandbox_id = crate::id::random_hex(32)?;
    let sandbox = Sandbox::create(&engine.config.exec_root, &sandbox_id)?;
    {
        let mut inner = container.lock();
        inner.record.disk.network_settings.sandbox_id = sandbox_id;
        inner.record.disk.network_settings.sandbox_key = sandbox.path().to_string_lossy().into_owned();
    }
    let mut endpoints = Vec::new();
    for (index, (name, wanted)) in record.disk.network_settings.networks.iter().enumerate() {
        let wanted = wanted.clone().unwrap_or_default();
        let config = EndpointConfig {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            ip: wanted.ipam_config.as_ref().and_then(|c| c.ipv4_address.parse().ok()),
            mac: match wanted.mac_address.as_str() {
                "" => network::mac::parse(&record.disk.config.mac_address),
                text => Some(
                    network::mac::parse(text).ok_or_else(|| Error::invalid(format!("invalid MAC address: {text}")))?,
                ),
            },
            publish: if index == 0 { published(record)? } else { Vec::new() },
        };
        let endpoint = engine.networks.connect(&sandbox, name, &config).map_err(|e| {
            let error = Error::from(e);
            match error.to_string().starts_with("Bind for") {
                true => error.context(format!(
                    "failed to set up container networking: driver failed programming external connectivity on endpoint {}",
                    record.name()
                )),
                false => error.context("failed to set up container networking"),
            }
        })?;
        endpoints.push(endpoint);
        // Kept as they come, so that what was connected is released if the next one fails.
        container.lock().live.endpoints.clone_from(&endpoints);
    }
    fill_settings(container, &endpoints);
    let mut run_network = RunNetwork {
        sandbox: sandbox.path().to_string_lossy().into_owned(),
        endpoints,
    };
    run_network.write(&engine.run_directory(container))?;
    let endpoints = std::mem::take(&mut run_network.endpoints);
    for endpoint in &endpoints {
        let attributes = BTreeMap::from([
            ("container".to_string(), record.id.to_string()),
            ("name".to_string(), endpoint.network.clone()),
            (
                "type".to_string(),
                if endpoint.veth.is_empty() { "null" } else { "bridge" }.to_string(),
            ),
        ]);
        engine
            .events
            .emit("network", "connect", &endpoint.network_id, attributes);
    }
    Ok(Some(sandbox))
}

/// What a run has of the network, kept where the next daemon finds it.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct RunNetwork {
    /// The network namespace, empty for the host's.
    pub sandbox: String,
    pub endpoints: Vec<EndpointState>,
}

impl RunNetwork {
    const FILE: &str = "network.json";

    /// Reads it; nothing is what a run without a network has.
    pub(crate) fn read(run_directory: &Path) -> RunNetwork {
        let bytes = fs::read(run_directory.join(Self::FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Writes it.
    pub(crate) fn write(&self, run_directory: &Path) -> Result<()> {
        fs::create_dir_all(run_directory).context(format!("make {}", run_directory.display()))?;
        let path = run_directory.join(Self::FILE);
        let bytes = serde_json::to_vec(self).context("write the network's state")?;
        fs::write(&path, bytes).context(format!("write {}", path.display()))
    }
}

/// The ports that a container publishes.
fn published(record: &Record) -> Result<Vec<network::portmap::Publish>> {
    let mut list = Vec::new();
    let parse =
        |port: &str, ip: &str, host: &str| network::portmap::Publish::parse(port, ip, host).map_err(Error::from);
    for (port, bindings) in &record.host.port_bindings {
        let bindings = bindings.clone().unwrap_or_default();
        if bindings.is_empty() {
            list.push(parse(port, "", "")?);
        }
        for binding in bindings {
            list.push(parse(port, &binding.host_ip, &binding.host_port)?);
        }
    }
    if record.host.publish_all_ports {
        for (port, _) in record.disk.config.exposed_ports.iter().flatten() {
            if !record.host.port_bindings.contains_key(port) {
                list.push(parse(port, "", "")?);
            }
        }
    }
    Ok(list)
}

/// Shows in the record what the network gave.
pub(crate) fn fill_settings(container: &Container, endpoints: &[EndpointState]) {
    let mut inner = container.lock();
    let exposed: Vec<String> = inner
        .record
        .disk
        .config
        .exposed_ports
        .iter()
        .flatten()
        .map(|(p, _)| p.clone())
        .collect();
    let settings = &mut inner.record.disk.network_settings;
    let mut ports: api::network::PortBindings = exposed.into_iter().map(|port| (port, None)).collect();
    for endpoint in endpoints {
        let entry = settings
            .networks
            .entry(endpoint.network.clone())
            .or_default()
            .get_or_insert_default();
        entry.network_id = endpoint.network_id.clone();
        entry.endpoint_id = endpoint.endpoint_id.clone();
        entry.gateway = endpoint.gateway.map(|g| g.to_string()).unwrap_or_default();
        entry.ip_address = endpoint.ip.map(|ip| ip.to_string()).unwrap_or_default();
        entry.ip_prefix_len = endpoint.prefix;
        entry.mac_address = endpoint.mac.clone();
        for binding in &endpoint.ports {
            let key = format!("{}/{}", binding.container_port, binding.protocol);
            let list = ports.entry(key).or_default().get_or_insert_default();
            list.push(api::network::PortBinding {
                host_ip: binding.host_ip.to_string(),
                host_port: binding.host_port.to_string(),
            });
        }
        if endpoint.network == "bridge" {
            settings.endpoint_id = endpoint.endpoint_id.clone();
            settings.gateway = endpoint.gateway.map(|g| g.to_string()).unwrap_or_default();
            settings.ip_address = endpoint.ip.map(|ip| ip.to_string()).unwrap_or_default();
            settings.ip_prefix_len = endpoint.prefix;
            settings.mac_address = endpoint.mac.clone();
        }
    }
    settings.ports = ports;
    inner.live.endpoints = endpoints.to_vec();
}

/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, in the container's directory.
fn write_files(engine: &Engine, container: &Container, record: &Record) -> Result<()> {
    if record.host.network_mode.starts_with("container:") {
        return Ok(());
    }
    let config = &record.disk.config;
    let addresses: Vec<IpAddr> = container
        .lock()
        .live
        .endpoints
        .iter()
        .filter_map(|e| e.ip)
        .map(IpAddr::V4)
        .collect();
    let gateway = engine
        .networks
        .default_bridge()
        .and_then(|n| n.ipam)
        .map(|i| i.gateway.to_string());
    let mut extra = Vec::new();
    for entry in record.host.extra_hosts.iter().flatten() {
        let (name, ip) = entry
            .split_once(':')
            .ok_or_else(|| Error::invalid(format!("invalid IP address in add-host: \"{entry}\"")))?;
        let ip = match (ip, &gateway) {
            ("host-gateway", Some(gateway)) => gateway.clone(),
            _ => ip.trim_matches(['[', ']']).to_string(),
        };
        extra.push((name.to_string(), ip));
    }
    let host_resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (hosts, resolv) = if record.host.network_mode == "host" {
        let mut hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, ip) in &extra {
            hosts.push_str(&format!("{ip}\t{name}\n"));
        }
        (hosts, host_resolv)
    } else {
        let or = |own: &Option<Vec<String>>, daemon: &[String]| match own {
            Some(own) if !own.is_empty() => own.clone(),
            _ => daemon.to_vec(),
        };
        let dns = network::resolv::Dns {
            servers: or(&record.host.dns, &engine.config.dns),
            search: or(&record.host.dns_search, &engine.config.dns_search),
            options: or(&record.host.dns_options, &engine.config.dns_options),
        };
        let source = match network::resolv::is_resolved_stub(&host_resolv) {
            true => fs::read_to_string(network::resolv::RESOLVED).unwrap_or(host_resolv),
            false => host_resolv,
        };
        (
            network::hosts::hosts(&config.hostname, &config.domainname, &addresses, &extra),
            network::resolv::resolv_conf(&source, &dns),
        )
    };
    let write = |path: &str, text: &str| match path {
        "" => Ok(()),
        path => fs::write(path, text).context(format!("write {path}")),
    };
    write(&record.disk.hosts_path, &hosts)?;
    write(&record.disk.resolv_conf_path, &resolv)?;
    write(
        &record.disk.hostname_path,
        &network::hosts::hostname(&config.hostname, &config.domainname),
    )
}

/// Everything that the spec needs to know.
fn prepare(engine: &Engine, record: &Record, rootfs: &Path, sandbox: Option<&Sandbox>) -> Result<Host> {
    let config = &record.disk.config;
    let read = |name: &str| crate::info::read_in(rootfs, name);
    let user = user::resolve(
        &config.user,
        &read("etc/passwd"),
        &read("etc/group"),
        record.host.group_add.as_deref().unwrap_or_default(),
    )?;
    let mut joined: BTreeMap<&'static str, Option<String>> = BTreeMap::new();
    if record.host.uts_mode == "host" {
        joined.insert("uts", None);
    }
    for (kind, mode) in [
        ("pid", record.host.pid_mode.as_str()),
        ("ipc", record.host.ipc_mode.as_str()),
    ] {
        match mode {
            "host" => drop(joined.insert(kind, None)),
            "" | "private" | "shareable" | "none" => {}
            other => match other.strip_prefix("container:") {
                Some(target) => {
                    let target = engine.containers.find(target)?;
                    let pid = target.record().pid().ok_or_else(|| {
                        Error::conflict(format!(
                            "cannot join {kind} namespace of a non running container: {}",
                            target.id
                        ))
                    })?;
                    joined.insert(kind, Some(format!("/proc/{pid}/ns/{kind}")));
                }
                None => return Err(Error::invalid(format!("invalid {} mode: {other}", kind.to_uppercase()))),
            },
        }
    }
    let shm = match record.host.ipc_mode.as_str() {
        "host" => Some("/dev/shm".to_string()),
        _ => None,
    };
    let mut files = Vec::new();
    let paths = match record.host.network_mode.strip_prefix("container:") {
        Some(target) => {
            let other = engine.containers.find(target)?;
            let other = other.record();
            [
                other.disk.resolv_conf_path.clone(),
                other.disk.hostname_path.clone(),
                other.disk.hosts_path.clone(),
            ]
        }
        None => [
            record.disk.resolv_conf_path.clone(),
            record.disk.hostname_path.clone(),
            record.disk.hosts_path.clone(),
        ],
    };
    for (source, place) in paths
        .into_iter()
        .zip(["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"])
    {
        if !source.is_empty() {
            files.push((source, place.to_string()));
        }
    }
    let init = record.host.init.unwrap_or(engine.config.init);
    let mut seccomp = SeccompChoice::Default;
    let mut no_new_privileges = engine.config.no_new_privileges;
    for option in record.host.security_opt.iter().flatten() {
        match security_option(option)? {
            SecurityOption::Seccomp(choice) => seccomp = choice,
            SecurityOption::NoNewPrivileges(on) => no_new_privileges = on,
            SecurityOption::Ignored => {}
        }
    }
    let devices = if record.host.privileged {
        all_devices()
    } else {
        asked_devices(record)?
    };
    Ok(Host {
        rootfs: rootfs.to_string_lossy().into_owned(),
        user,
        netns: sandbox.map(|s| s.path().to_string_lossy().into_owned()),
        joined,
        files,
        mounts: mounts_of(record)?,
        devices,
        bounding: crate::info::bounding(),
        cgroup_parent: engine.config.cgroup_parent.clone(),
        systemd_cgroup: engine.config.systemd_cgroup,
        cgroup_v2: crate::info::cgroup_v2(),
        init_path: if init { Some(init_binary(engine)?) } else { None },
        seccomp,
        no_new_privileges,
        shm,
        default_ulimits: engine.config.default_ulimits.clone(),
        oom_score_adj_floor: -1000,
    })
}

/// A copy of this binary for containers with `--init`: what they see must not be the file that the host runs.
fn init_binary(engine: &Engine) -> Result<String> {
    let path = engine.config.exec_root.join("init");
    if !path.exists() {
        let tmp = engine
            .config
            .exec_root
            .join(format!("init-{}", crate::id::random_hex(4)?));
        fs::copy("/proc/self/exe", &tmp).context("copy this binary for --init")?;
        fs::rename(&tmp, &path).context(format!("rename to {}", path.display()))?;
    }
    Ok(path.to_string_lossy().into_owned())
}

/// What a `--security-opt` says.
pub(crate) enum SecurityOption {
    Seccomp(SeccompChoice),
    NoNewPrivileges(bool),
    Ignored,
}

/// Reads one `--security-opt`.
pub(crate) fn security_option(option: &str) -> Result<SecurityOption> {
    let bad = || Error::invalid(format!("invalid --security-opt 2: \"{option}\""));
    let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some(pair) => pair,
        None => (option, ""),
    };
    match (key, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", "unconfined") => Ok(SecurityOption::Seccomp(SeccompChoice::Unconfined)),
        ("seccomp", "builtin") => Ok(SecurityOption::Seccomp(SeccompChoice::Default)),
        ("seccomp", json) => {
            let profile: rt::Seccomp = serde_json::from_str(json)
                .map_err(|e| Error::invalid(format!("Decoding seccomp profile failed: {e}")))?;
            Ok(SecurityOption::Seccomp(SeccompChoice::Profile(Box::new(profile))))
        }
        ("apparmor", "unconfined") | ("label", "disable") | ("apparmor", "docker-default") => {
            Ok(SecurityOption::Ignored)
        }
        ("apparmor" | "label", _) => Err(Error::not_supported(format!("security option \"{key}\""))),
        ("systempaths", "unconfined") => Ok(SecurityOption::Ignored),
        _ => Err(bad()),
    }
}

/// The user's mounts with their sources, parents before children.
fn mounts_of(record: &Record) -> Result<Vec<rt::Mount>> {
    let mut list = Vec::new();
    for point in record.disk.mount_points.values() {
        let source = Path::new(&point.source);
        if point.kind == "bind" && !source.exists() {
            if point.skip_mountpoint_creation {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    point.source
                )));
            }
            fs::create_dir_all(source).context(format!("error while creating mount source path '{}'", point.source))?;
        }
        let recursive = !point.spec.bind_options.as_ref().is_some_and(|o| o.non_recursive);
        let mut options = vec![if recursive { "rbind" } else { "bind" }.to_string()];
        options.push(if point.rw { "rw" } else { "ro" }.into());
        options.push(if point.propagation.is_empty() {
            "rprivate".into()
        } else {
            point.propagation.clone()
        });
        list.push(rt::Mount {
            destination: point.destination.clone(),
            kind: "bind".into(),
            source: point.source.clone(),
            options,
        });
    }
    let mounted = record.host.mounts.iter().flatten().filter(|m| m.kind == "tmpfs");
    let from_mounts = mounted.filter_map(|m| {
        let only = api::host_config::HostConfig {
            mounts: Some(vec![m.clone()]),
            ..Default::default()
        };
        crate::mounts::parse(&only, std::iter::empty()).ok().map(|p| p.tmpfs)
    });
    let flags = record.host.tmpfs.clone().unwrap_or_default();
    for (target, options) in flags.into_iter().chain(from_mounts.flatten()) {
        let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].iter().map(|w| w.to_string()).collect();
        for word in options.split(',').filter(|w| !w.is_empty()) {
            let opposite = match word {
                "exec" => "noexec",
                "suid" => "nosuid",
                "dev" => "nodev",
                _ => "",
            };
            words.retain(|w| w != opposite && w != word);
            words.push(word.into());
        }
        list.push(rt::Mount {
            destination: crate::mounts::clean(&target),
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            options: words,
        });
    }
    list.sort_by_key(|m| m.destination.matches('/').count());
    Ok(list)
}

fn device_at(path: &Path, place: String, access: &str) -> Option<HostDevice> {
    let metadata = fs::metadata(path).ok()?;
    let kind = match metadata.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return None,
    };
    let (major, minor) = crate::info::device_numbers(metadata.rdev());
    Some(HostDevice {
        path: place,
        kind,
        major,
        minor,
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.into(),
    })
}

fn asked_devices(record: &Record) -> Result<Vec<HostDevice>> {
    let mut list = Vec::new();
    for mapping in record.host.devices.iter().flatten() {
        let place = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let access = if mapping.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &mapping.cgroup_permissions
        };
        let path = Path::new(&mapping.path_on_host);
        if path.is_dir() {
            walk(path, 4, &mut |found| {
                let below = found.strip_prefix(path).unwrap_or(found);
                list.extend(device_at(
                    found,
                    Path::new(place).join(below).to_string_lossy().into_owned(),
                    access,
                ));
            });
            continue;
        }
        let device = device_at(path, place.clone(), access).ok_or_else(|| {
            Error::internal(format!(
                "error gathering device information while adding custom device \"{}\": {}",
                mapping.path_on_host,
                if path.exists() {
                    "not a device node"
                } else {
                    "no such file or directory"
                }
            ))
        })?;
        list.push(device);
    }
    Ok(list)
}

/// The host's devices for a privileged container, without terminals and what a container has of its own.
fn all_devices() -> Vec<HostDevice> {
    let mut list = Vec::new();
    walk(Path::new("/dev"), 8, &mut |path| {
        let own = ["/dev/console", "/dev/ptmx"].iter().any(|own| path == Path::new(own));
        if !own {
            list.extend(device_at(path, path.to_string_lossy().into_owned(), "rwm"));
        }
    });
    list
}

fn walk(directory: &Path, depth: u32, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let skip = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
        if kind.is_dir() && depth > 0 && !skip.iter().any(|s| entry.file_name() == *s) {
            walk(&path, depth - 1, found);
        } else if kind.is_char_device() || kind.is_block_device() {
            found(&path);
        }
    }
}

/// Gives back what a run had: network, root file system, run directory. Does all of it and logs what failed.
pub(crate) fn release(engine: &Engine, container: &Container) {
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
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => break report("remove the run directory", &e),
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("10k", 10 << 10),
            ("1.5m", 3 << 19),
            ("1gb", 1 << 30),
            ("2 MiB", 2 << 20),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "1q", "-1", "1e9", "99999999999t"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn exit_codes() {
        assert_eq!(exit_code_of("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(exit_code_of("exec: \"/x\": permission denied"), 126);
        assert_eq!(exit_code_of("mount: what"), 128);
    }
}
