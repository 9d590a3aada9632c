//! What a run has of the network: its namespace, its endpoints, the files that name things in it.

use crate::Engine;
use crate::container::Record;
use crate::error::{Context, Error, Result};
use crate::net_names;
use crate::table::Container;
use network::{EndpointConfig, EndpointState, Sandbox};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// Gives a container its network; `None` is the host's.
pub(crate) fn connect(engine: &Arc<Engine>, container: &Arc<Container>, record: &Record) -> Result<Option<Sandbox>> {
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
    // The network that the container was made with comes first: it has eth0 and the ports.
    let mut names: Vec<&String> = record.disk.network_settings.networks.keys().collect();
    let first = if mode == "default" { "bridge" } else { mode };
    names.sort_by_key(|name| *name != first);
    for (index, name) in names.into_iter().enumerate() {
        let publish = if index == 0 { published(record)? } else { Vec::new() };
        let config = endpoint_config(record, name, u32::try_from(index).unwrap_or(u32::MAX), publish)?;
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
    net_names::serve(engine, container)?;
    Ok(Some(sandbox))
}

/// What a container's record wants of a network.
pub(crate) fn endpoint_config(
    record: &Record,
    network: &str,
    index: u32,
    publish: Vec<network::portmap::Publish>,
) -> Result<EndpointConfig> {
    let wanted = record
        .disk
        .network_settings
        .networks
        .get(network)
        .cloned()
        .flatten()
        .unwrap_or_default();
    let mac = match wanted.mac_address.as_str() {
        // The container's own is for its first interface.
        "" if index == 0 => network::mac::parse(&record.disk.config.mac_address),
        "" => None,
        text => Some(network::mac::parse(text).ok_or_else(|| Error::invalid(format!("invalid MAC address: {text}")))?),
    };
    Ok(EndpointConfig {
        index,
        ip: wanted.ipam_config.as_ref().and_then(|c| c.ipv4_address.parse().ok()),
        mac,
        publish,
    })
}

/// What a run has of the network, kept where the next daemon finds it.
#[derive(Default, json::Serialize, json::Deserialize)]
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
        json::from_slice(&bytes).unwrap_or_default()
    }

    /// Writes it.
    pub(crate) fn write(&self, run_directory: &Path) -> Result<()> {
        fs::create_dir_all(run_directory).context(format!("make {}", run_directory.display()))?;
        let path = run_directory.join(Self::FILE);
        let bytes = json::to_vec(self);
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
    let named = endpoints
        .iter()
        .filter(|endpoint| net_names::has_names(&endpoint.network));
    let mut names: BTreeMap<String, Vec<String>> = named
        .map(|endpoint| {
            (
                endpoint.network.clone(),
                net_names::names_of(&inner.record, &endpoint.network),
            )
        })
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
        entry.dns_names = names.remove(&endpoint.network);
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

/// The host's `resolv.conf` to start from, and what the container and the daemon say instead.
fn dns_of(engine: &Engine, record: &Record, host_resolv: String) -> (String, network::resolv::Dns) {
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
    (source, dns)
}

/// The name servers that a container asks for what no container is called. The host's may be on its loopback.
pub(crate) fn name_servers(engine: &Engine, record: &Record) -> Vec<String> {
    let host_resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (source, dns) = dns_of(engine, record, host_resolv);
    match dns.servers.is_empty() {
        true => network::resolv::servers(&source),
        false => dns.servers,
    }
}

/// Adds an address of a running container to its own `/etc/hosts`.
pub(crate) fn add_to_hosts(record: &Record, address: IpAddr) {
    use std::io::Write;
    let line = format!("{address}\t{}\n", record.disk.config.hostname);
    let open = fs::OpenOptions::new().append(true).open(&record.disk.hosts_path);
    if let Err(e) = open.and_then(|mut file| file.write_all(line.as_bytes())) {
        log::warn!("add an address to {}: {e}", record.disk.hosts_path);
    }
}

/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, in the container's directory.
pub(crate) fn write_files(engine: &Engine, container: &Container, record: &Record) -> Result<()> {
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
    let of_bridge = || Some(IpAddr::V4(engine.networks.default_bridge()?.ipam?.gateway));
    let gateway = engine.config.host_gateway.or_else(of_bridge).map(|ip| ip.to_string());
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
    let named = container
        .lock()
        .live
        .endpoints
        .iter()
        .any(|e| net_names::has_names(&e.network));
    let host_resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (hosts, resolv) = if record.host.network_mode == "host" {
        let mut hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, ip) in &extra {
            hosts.push_str(&format!("{ip}\t{name}\n"));
        }
        (hosts, host_resolv)
    } else {
        let (source, mut dns) = dns_of(engine, record, host_resolv);
        if named {
            // Its own name server, which asks those it would have asked.
            dns.servers = vec![network::resolver::ADDRESS.to_string()];
            let ours = "ndots:0".to_owned();
            let options = network::resolv::options(&source, &dns);
            if !options.iter().any(|option| option.starts_with("ndots:")) {
                dns.options = options.into_iter().chain([ours]).collect();
            }
        }
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
        &network::hosts::hostname(&config.hostname, ""),
    )
}
