//! Making and removing networks, and moving containers on and off them.

use crate::connect::{self, RunNetwork};
use crate::container::Record;
use crate::error::{Context, Error, Result};
use crate::table::Container;
use crate::{Engine, net_names};
use api::network::{CreateRequest, EndpointSettings};
use network::{Driver, NewNetwork, Sandbox, Subnet};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Makes a network; returns its ID and a warning, which is mostly empty.
pub fn create(engine: &Engine, request: &CreateRequest) -> Result<(String, String)> {
    let driver = match request.driver.as_str() {
        "overlay" => {
            return Err(Error::new(
                crate::error::Kind::Unavailable,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
            ));
        }
        "macvlan" | "ipvlan" => return Err(Error::not_supported(format!("network driver \"{}\"", request.driver))),
        name => Driver::parse(name).ok_or_else(|| Error::not_found(format!("plugin \"{name}\" not found")))?,
    };
    if !matches!(request.ipam.driver.as_str(), "" | "default") {
        return Err(Error::not_supported(format!("IPAM driver \"{}\"", request.ipam.driver)));
    }
    if request.config_only || !request.config_from.network.is_empty() {
        return Err(Error::not_supported("a network that is only a configuration"));
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(Error::new(
            crate::error::Kind::Forbidden,
            "cannot create a swarm scoped network when swarm is not active",
        ));
    }
    if request.ingress {
        return Err(Error::not_supported("a network for a swarm's ingress"));
    }
    let mut wanted = NewNetwork {
        driver,
        options: request.options.clone(),
        labels: request.labels.clone(),
        internal: request.internal,
        enable_ipv6: request.enable_ipv6.unwrap_or(false),
        attachable: request.attachable,
        ..NewNetwork::named(&request.name)
    };
    let mut warning = String::new();
    let configs = request.ipam.config.iter().flatten();
    let (v6, v4): (Vec<_>, Vec<_>) = configs.partition(|config| config.subnet.contains("::"));
    if wanted.enable_ipv6 || !v6.is_empty() {
        warning = "IPv6 is not supported by balena: the network has IPv4 only".into();
    }
    match v4[..] {
        [] => {}
        [config] => {
            let subnet = |text: &str| -> Result<Option<Subnet>> {
                let parsed = (!text.is_empty()).then(|| network::parse_with_host(text));
                let parsed = parsed
                    .transpose()
                    .map_err(|_| Error::invalid(format!("invalid subnet {text}: invalid CIDR address: {text}")))?;
                Ok(parsed.map(|(_, subnet)| subnet))
            };
            wanted.subnet = subnet(&config.subnet)?;
            wanted.range = subnet(&config.ip_range)?;
            wanted.gateway = match config.gateway.as_str() {
                "" => None,
                text => Some(address(text)?),
            };
            for (name, text) in config.aux_addresses.iter().flatten() {
                wanted.auxiliary.push((name.clone(), address(text)?));
            }
        }
        _ => return Err(Error::not_supported("a bridge network with more than one IPv4 subnet")),
    }
    let network = engine.networks.create(wanted)?;
    emit(engine, "create", &network, &[]);
    Ok((network.id, warning))
}

fn address(text: &str) -> Result<Ipv4Addr> {
    text.parse()
        .map_err(|_| Error::invalid(format!("invalid IPv4 address: {text}")))
}

/// Removes a network that no container is on.
pub fn remove(engine: &Engine, name: &str) -> Result<()> {
    let network = engine.networks.remove(name)?;
    emit(engine, "destroy", &network, &[]);
    Ok(())
}

/// Removes the networks that no container has in its record, and that pass `fits`. Returns their names.
pub fn prune(engine: &Engine, fits: impl Fn(&network::Network) -> bool) -> Vec<String> {
    let containers = engine.containers.all();
    let wanted = |network: &network::Network| {
        containers.iter().any(|container| {
            let record = container.record();
            record.disk.network_settings.networks.contains_key(&network.name)
        })
    };
    let mut removed = Vec::new();
    for network in engine.networks.list() {
        if network.driver != Driver::Bridge || network.name == "bridge" || wanted(&network) || !fits(&network) {
            continue;
        }
        match remove(engine, &network.id) {
            Ok(()) => removed.push(network.name),
            Err(e) => log::warn!("prune network {}: {e}", network.name),
        }
    }
    removed
}

/// Puts a container on a network: at once if it runs, else at its next start.
pub fn connect(engine: &Arc<Engine>, name: &str, container: &str, wanted: EndpointSettings) -> Result<()> {
    let container = engine.containers.find(container)?;
    let network = engine.networks.inspect(name)?;
    let _claim = container.claim()?;
    let (mut record, running) = {
        let inner = container.lock();
        (inner.record.clone(), inner.record.is_running())
    };
    shares(&record, &network)?;
    check_endpoint(&network, &wanted)?;
    let settings = &mut record.disk.network_settings.networks;
    if settings.contains_key(&network.name) && (running || network.name != "none") {
        return Err(Error::new(
            crate::error::Kind::Forbidden,
            format!(
                "endpoint with name {} already exists in network {}",
                record.name(),
                network.name
            ),
        ));
    }
    // "No network" is alone.
    let other = settings.keys().any(|there| *there != network.name);
    if other && (network.name == "none" || settings.contains_key("none")) {
        return Err(Error::new(
            crate::error::Kind::Forbidden,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    let endpoint = settings.entry(network.name.clone()).or_default().insert(wanted);
    endpoint.network_id = network.id.clone();
    if !running {
        engine.save(&record)?;
        container.lock().record.disk.network_settings = record.disk.network_settings;
        return Ok(());
    }
    let (sandbox, mut endpoints) = {
        let inner = container.lock();
        (
            inner.record.disk.network_settings.sandbox_key.clone(),
            inner.live.endpoints.clone(),
        )
    };
    let taken = |index: u32| endpoints.iter().any(|e| e.interface == format!("eth{index}"));
    let index = (0..).find(|index| !taken(*index)).unwrap_or(u32::MAX);
    let config = connect::endpoint_config(&record, &network.name, index, Vec::new())?;
    let made = engine
        .networks
        .connect(&Sandbox::at(&sandbox), &network.name, &config)?;
    endpoints.push(made.clone());
    container.lock().record.disk.network_settings.networks = record.disk.network_settings.networks;
    keep(engine, &container, sandbox, endpoints)?;
    if let Some(ip) = made.ip {
        connect::add_to_hosts(&container.record(), ip.into());
    }
    net_names::serve(engine, &container)?;
    emit(engine, "connect", &network, &[("container", container.id.as_str())]);
    Ok(())
}

/// Takes a container off a network.
pub fn disconnect(engine: &Engine, name: &str, container: &str, force: bool) -> Result<()> {
    let network = engine.networks.inspect(name)?;
    let container = match engine.containers.find(container) {
        Ok(container) => container,
        // A container that is gone is off every network.
        Err(_) if force => return Ok(()),
        Err(error) => return Err(error),
    };
    let _claim = container.claim()?;
    let mut record = container.record().clone();
    shares(&record, &network)?;
    if record.disk.network_settings.networks.remove(&network.name).is_none() {
        return Err(Error::new(
            crate::error::Kind::Forbidden,
            format!("container {} is not connected to network {}", record.id, network.name),
        ));
    }
    let (sandbox, mut endpoints) = {
        let inner = container.lock();
        (
            inner.record.disk.network_settings.sandbox_key.clone(),
            inner.live.endpoints.clone(),
        )
    };
    container.lock().record.disk.network_settings.networks = record.disk.network_settings.networks.clone();
    let at = endpoints.iter().position(|endpoint| endpoint.network_id == network.id);
    match at.map(|at| endpoints.remove(at)) {
        None => engine.save(&record)?,
        Some(endpoint) => {
            let gone = engine.networks.disconnect(&endpoint);
            // The way out may have been this network's; then it is the next one's that has one.
            let next = endpoints.iter().find_map(|endpoint| endpoint.gateway);
            if let (Some(gateway), true) = (next, endpoint.gateway.is_some())
                && let Err(e) = network::attach::set_default_route(&Sandbox::at(&sandbox), gateway)
            {
                log::warn!("container {}: {e}", container.id.short());
            }
            keep(engine, &container, sandbox, endpoints)?;
            gone?;
        }
    }
    emit(engine, "disconnect", &network, &[("container", container.id.as_str())]);
    Ok(())
}

/// Writes what a running container has of the network into its records.
fn keep(
    engine: &Engine,
    container: &Arc<Container>,
    sandbox: String,
    endpoints: Vec<network::EndpointState>,
) -> Result<()> {
    connect::fill_settings(container, &endpoints);
    let state = RunNetwork { sandbox, endpoints };
    state.write(&engine.run_directory(container))?;
    engine
        .save(&container.record())
        .context("write the container's networks")
}

/// Containers that have no network namespace of their own stay as they are.
fn shares(record: &Record, network: &network::Network) -> Result<()> {
    let mode = record.host.network_mode.as_str();
    if network.driver == Driver::Host {
        return Err(Error::new(
            crate::error::Kind::Forbidden,
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    if mode == "host" || mode.starts_with("container:") {
        return Err(Error::new(
            crate::error::Kind::Forbidden,
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    Ok(())
}

/// What may be asked for on which network.
pub(crate) fn check_endpoint(network: &network::Network, wanted: &EndpointSettings) -> Result<()> {
    let own = network.driver == Driver::Bridge && network.name != "bridge";
    if wanted.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) && !own {
        return Err(Error::invalid(
            "network-scoped alias is supported only for containers in user defined networks",
        ));
    }
    let Some(ipam) = wanted.ipam_config.as_ref() else {
        return Ok(());
    };
    if ipam.ipv4_address.is_empty() {
        return Ok(());
    }
    if !own {
        return Err(Error::invalid(
            "user specified IP address is supported on user defined networks only",
        ));
    }
    if !network.own_subnet {
        return Err(Error::invalid(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ));
    }
    address(&ipam.ipv4_address).map(drop)
}

fn emit(engine: &Engine, action: &str, network: &network::Network, more: &[(&str, &str)]) {
    let mut attributes = BTreeMap::from([
        ("name".to_string(), network.name.clone()),
        ("type".to_string(), network.driver.as_str().to_string()),
    ]);
    attributes.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    engine.events.emit("network", action, &network.id, attributes);
}
