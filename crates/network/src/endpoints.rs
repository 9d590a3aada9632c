//! Endpoints: a container's place on a network, with its address and its published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use json::{Deserialize, Serialize};

use crate::attach::{self, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::firewall::rules::{self, Rule};
use crate::netns::Sandbox;
use crate::networks::{Networks, State};
use crate::portmap::{Binding, Protocol, Publish};
use crate::publish;
use crate::record::{Driver, Network};
use crate::{mac, random};

/// What a container wants of a network.
#[derive(Clone, Debug, Default)]
pub struct EndpointConfig {
    /// Number of the interface: 0 is `eth0`, which has the default route.
    pub index: u32,
    /// `--ip`
    pub ip: Option<Ipv4Addr>,
    /// `--mac-address`
    pub mac: Option<[u8; 6]>,
    pub publish: Vec<Publish>,
}

/// What it got; kept in the container's record and given back to release it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// 64 hex digits.
    pub endpoint_id: String,
    pub network_id: String,
    pub network: String,
    /// `eth0`; empty on `host` and `none`.
    pub interface: String,
    /// The other end, on the bridge.
    pub veth: String,
    /// None on `host` and `none`.
    pub ip: Option<Ipv4Addr>,
    pub prefix: u8,
    /// None on an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// `02:42:ac:11:00:02`
    pub mac: String,
    #[serde(default)]
    pub ports: Vec<Binding>,
    /// Processes that forward ports, where the kernel does not.
    #[serde(default)]
    pub proxies: Vec<(u32, Binding)>,
}

impl Networks {
    /// Puts a sandbox on a network. All or nothing: on an error, nothing is left of it.
    pub fn connect(&self, sandbox: &Sandbox, network: &str, config: &EndpointConfig) -> Result<EndpointState> {
        let endpoint_id = random::id()?;
        let (network, mut endpoint, gateway) = {
            let mut state = self.state();
            if !state.filtered {
                self.filter(&mut state)?;
            }
            let network = state.find(network)?.clone();
            let endpoint = self.claim(&mut state, &network, endpoint_id, config)?;
            let gateway = self.gateway(&state, &network);
            (network, endpoint, gateway)
        };
        let result = self.bring_up(sandbox, &network, &mut endpoint, gateway, config);
        if let Err(error) = result {
            // The first error is the one to report.
            let _ = self.disconnect(&endpoint);
            return Err(error);
        }
        Ok(endpoint)
    }

    /// Reserves address and ports: everything that two callers could both want.
    fn claim(
        &self,
        state: &mut State,
        network: &Network,
        endpoint_id: String,
        config: &EndpointConfig,
    ) -> Result<EndpointState> {
        let mut endpoint = EndpointState {
            endpoint_id,
            network_id: network.id.clone(),
            network: network.name.clone(),
            interface: String::new(),
            veth: String::new(),
            ip: None,
            prefix: 0,
            gateway: None,
            mac: String::new(),
            ports: Vec::new(),
            proxies: Vec::new(),
        };
        if let Some(ipam) = network.ipam.as_ref().filter(|_| network.driver == Driver::Bridge) {
            let address = state
                .addresses
                .entry(network.id.clone())
                .or_default()
                .allocate(ipam, config.ip)?;
            endpoint.ip = Some(address);
            endpoint.prefix = ipam.subnet.prefix();
            endpoint.mac = mac::text(config.mac.unwrap_or(mac::of(address)));
            endpoint.interface = format!("eth{}", config.index);
            endpoint.gateway = (!network.internal).then_some(ipam.gateway);
            for publish in &config.publish {
                match self.claim_port(state, network, publish) {
                    Ok(binding) => {
                        endpoint.ports.push(binding);
                        endpoint.ports.extend(self.claim_ipv6(state, publish, binding));
                    }
                    Err(error) => {
                        self.give_back(state, &endpoint);
                        return Err(error);
                    }
                }
            }
        }
        state
            .endpoints
            .entry(network.id.clone())
            .or_default()
            .insert(endpoint.endpoint_id.clone());
        Ok(endpoint)
    }

    fn claim_port(&self, state: &mut State, network: &Network, publish: &Publish) -> Result<Binding> {
        let mut last = None;
        for binding in state.ports.candidates(publish, self.host_ip(network))? {
            // A proxy binds the port itself, in a moment; the record keeps other containers off until then.
            if self.by_kernel(&binding) {
                match publish::hold(&binding) {
                    Ok(holder) => state.holders.insert(binding, holder),
                    Err(error) => {
                        last = Some(error);
                        continue;
                    }
                }
            }
            state.ports.claim(binding, publish.host_ports.is_none());
            return Ok(binding);
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Forbidden, "all ports are allocated")))
    }

    /// The same port on IPv6, where that is wanted and there.
    fn claim_ipv6(&self, state: &mut State, publish: &Publish, binding: Binding) -> Option<Binding> {
        let any = publish.host_ip.is_none() && binding.host_ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let proxied = binding.protocol != Protocol::Sctp && !self.config.proxy_command.is_empty();
        if !self.config.ipv6_ports || !any || !proxied || !publish::host_has_ipv6() {
            return None;
        }
        let binding = Binding {
            host_ip: Ipv6Addr::UNSPECIFIED.into(),
            ..binding
        };
        state.ports.claim(binding, false);
        Some(binding)
    }

    /// The gateway of a network's containers.
    fn gateway(&self, state: &State, network: &Network) -> Option<Ipv4Addr> {
        let ipam = network.ipam.as_ref().filter(|_| !network.internal)?;
        let is_default = state.find("bridge").is_ok_and(|bridge| bridge.id == network.id);
        Some(
            self.config
                .default_gateway
                .filter(|_| is_default)
                .unwrap_or(ipam.gateway),
        )
    }

    fn bring_up(
        &self,
        sandbox: &Sandbox,
        network: &Network,
        endpoint: &mut EndpointState,
        gateway: Option<Ipv4Addr>,
        config: &EndpointConfig,
    ) -> Result<()> {
        let (Some(bridge), Some(address)) = (self.bridge_of(network), endpoint.ip) else {
            return Ok(());
        };
        endpoint.gateway = gateway;
        let plan = Plan {
            interface: endpoint.interface.clone(),
            address,
            subnet: bridge.subnet,
            mac: config.mac.unwrap_or(mac::of(address)),
            mtu: bridge.mtu,
            default_route: gateway.filter(|_| config.index == 0),
            hairpin: self.hairpin() && !endpoint.ports.is_empty(),
        };
        endpoint.veth = match attach::attach(sandbox, &bridge.name, &plan) {
            Ok(veth) => veth,
            // The bridge was removed under us, as a firewall's or network manager's restart does.
            Err(error) if error.message.starts_with("could not find bridge") => {
                bridge.ensure()?;
                attach::attach(sandbox, &bridge.name, &plan)?
            }
            Err(error) => return Err(error),
        };
        self.firewall.insert(&self.port_rules(network, endpoint))?;
        for binding in endpoint.ports.clone() {
            if !self.by_kernel(&binding) {
                self.spawn_proxy(endpoint, address, binding)?;
            }
        }
        Ok(())
    }

    fn spawn_proxy(&self, endpoint: &mut EndpointState, address: Ipv4Addr, binding: Binding) -> Result<()> {
        let holder = publish::start_proxy(&self.config.proxy_command, &binding, address)?;
        let mut state = self.state();
        state.holders.insert(binding, holder);
        endpoint
            .proxies
            .extend(state.holders.pid(&binding).map(|pid| (pid, binding)));
        Ok(())
    }

    /// The kernel alone publishes this port.
    fn by_kernel(&self, binding: &Binding) -> bool {
        self.hairpin() && publish::kernel_can(binding, self.firewall.is_available())
    }

    fn port_rules(&self, network: &Network, endpoint: &EndpointState) -> Vec<Rule> {
        let (Some(config), Some(address)) = (self.rules_of(network), endpoint.ip) else {
            return Vec::new();
        };
        endpoint
            .ports
            .iter()
            .flat_map(|binding| rules::published(&config, address, binding))
            .collect()
    }

    /// Takes a container off a network: its interface, its rules, its ports, its address.
    ///
    /// Does everything it can, and reports the first that failed.
    pub fn disconnect(&self, endpoint: &EndpointState) -> Result<()> {
        let detached = if endpoint.veth.is_empty() {
            Ok(())
        } else {
            attach::detach(&endpoint.veth)
        };
        let released = self.release(endpoint);
        detached.and(released)
    }

    /// The same, but for the interface, which ends with its sandbox: that is quicker than removing both.
    pub fn release(&self, endpoint: &EndpointState) -> Result<()> {
        let network = self.state().find(&endpoint.network_id).cloned();
        // Rules first: while the port's rule stands, nobody else must get the port or the address.
        let result = network.map_or(Ok(()), |network| {
            self.firewall.delete(&self.port_rules(&network, endpoint))
        });
        let mut state = self.state();
        self.give_back(&mut state, endpoint);
        result
    }

    fn give_back(&self, state: &mut State, endpoint: &EndpointState) {
        for binding in &endpoint.ports {
            state.holders.remove(binding);
            state.ports.release(binding);
        }
        if let (Some(address), Some(addresses)) = (endpoint.ip, state.addresses.get_mut(&endpoint.network_id)) {
            addresses.release(address);
        }
        if let Some(set) = state.endpoints.get_mut(&endpoint.network_id) {
            set.remove(&endpoint.endpoint_id);
        }
    }

    pub(crate) fn restore_one(
        &self,
        state: &mut State,
        endpoint: &mut EndpointState,
        wanted: &mut Vec<Rule>,
    ) -> Result<()> {
        let network = state.find(&endpoint.network_id)?.clone();
        state
            .endpoints
            .entry(network.id.clone())
            .or_default()
            .insert(endpoint.endpoint_id.clone());
        let Some(address) = endpoint.ip else { return Ok(()) };
        // Before anything that may fail: the container runs, whatever becomes of its record.
        wanted.extend(self.port_rules(&network, endpoint));
        if !state.addresses.entry(network.id.clone()).or_default().reserve(address) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("address {address} on {} is in use twice", network.name),
            ));
        }
        for (pid, binding) in endpoint.proxies.drain(..) {
            publish::end_stale_proxy(pid, &binding);
        }
        let mut first = None;
        for binding in endpoint.ports.clone() {
            state.ports.claim(binding, false);
            let holder = if self.by_kernel(&binding) {
                publish::hold(&binding)
            } else {
                publish::start_proxy(&self.config.proxy_command, &binding, address)
            };
            match holder {
                Ok(holder) => {
                    state.holders.insert(binding, holder);
                    endpoint
                        .proxies
                        .extend(state.holders.pid(&binding).map(|pid| (pid, binding)));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(()), Err)
    }
}

impl EndpointState {
    /// The published ports of one container port, as the API lists them.
    pub fn bindings(&self, container_port: u16, protocol: crate::portmap::Protocol) -> Vec<(IpAddr, u16)> {
        let matching = |b: &&Binding| b.container_port == container_port && b.protocol == protocol;
        self.ports
            .iter()
            .filter(matching)
            .map(|b| (b.host_ip, b.host_port))
            .collect()
    }
}
