//! The networks of a daemon: opened at its start, made and removed by its users.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::bridge::{self, Bridge};
use crate::error::{Error, ErrorKind, Result};
use crate::firewall::rules::{self, BridgeRules, Rule};
use crate::firewall::{Firewall, Scope};
use crate::ipam::{self, Addresses, Ipam, Pool};
use crate::portmap::HostPorts;
use crate::publish::Holders;
use crate::record::{self, Driver, Network};
use crate::subnet::Subnet;
use crate::{EndpointState, random, takeover};

const OPTION: &str = "com.docker.network.bridge.";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
/// Longest name of an interface, bytes (`IFNAMSIZ` less its zero).
const LONGEST_NAME: usize = 15;

/// The daemon's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the default bridge; `none` for no default network (`--bridge`).
    pub bridge: String,
    /// Address and network of the default bridge (`--bip`).
    pub bip: Option<(Ipv4Addr, Subnet)>,
    /// Where the default bridge's containers get their addresses from (`--fixed-cidr`).
    pub fixed_cidr: Option<Subnet>,
    /// The default bridge's containers' gateway, if not the bridge (`--default-gateway`).
    pub default_gateway: Option<Ipv4Addr>,
    pub pools: Vec<Pool>,
    /// Change the packet filter at all (`--iptables`).
    pub iptables: bool,
    /// Use nf_tables even where iptables is.
    pub nf_tables: bool,
    /// Make the host a router (`--ip-forward`).
    pub ip_forward: bool,
    /// `--ip-masq`, of the default bridge.
    pub masquerade: bool,
    /// `--icc`, of the default bridge.
    pub icc: bool,
    /// Bytes; 0 is 1500.
    pub mtu: u32,
    /// Where ports are published by default (`--ip`).
    pub default_ip: Ipv4Addr,
    /// Publish through processes even where the kernel can (`--userland-proxy=true`).
    pub userland_proxy: bool,
    /// Publish a port that is asked for without an address on IPv6 too, as Docker does. Containers have IPv4 only, so a
    /// process carries it over.
    pub ipv6_ports: bool,
    /// Program and first arguments of the userland proxy; empty for none.
    pub proxy_command: Vec<OsString>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bridge: "balena0".to_owned(),
            bip: None,
            fixed_cidr: None,
            default_gateway: None,
            pools: ipam::default_pools(),
            iptables: true,
            nf_tables: false,
            ip_forward: true,
            masquerade: true,
            icc: true,
            mtu: 0,
            default_ip: Ipv4Addr::UNSPECIFIED,
            userland_proxy: false,
            ipv6_ports: false,
            proxy_command: Vec::new(),
        }
    }
}

/// A network as a user asks for it.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    pub name: String,
    pub driver: Driver,
    /// `None`: the next free one of the pools.
    pub subnet: Option<Subnet>,
    pub gateway: Option<Ipv4Addr>,
    pub range: Option<Subnet>,
    pub auxiliary: Vec<(String, Ipv4Addr)>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub internal: bool,
    pub enable_ipv6: bool,
    pub attachable: bool,
}

impl NewNetwork {
    /// A bridge network with nothing but a name.
    pub fn named(name: &str) -> NewNetwork {
        NewNetwork {
            name: name.to_owned(),
            driver: Driver::Bridge,
            subnet: None,
            gateway: None,
            range: None,
            auxiliary: Vec::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            internal: false,
            enable_ipv6: false,
            attachable: false,
        }
    }
}

/// The networks of a daemon. Shared by its threads.
pub struct Networks {
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) firewall: Firewall,
    pub(crate) state: Mutex<State>,
    /// The state of Docker's database when its networks were last taken over.
    taken_over: String,
}

#[derive(Default)]
pub(crate) struct State {
    pub networks: Vec<Network>,
    /// By network ID.
    pub addresses: HashMap<String, Addresses>,
    /// Endpoints by network ID.
    pub endpoints: HashMap<String, HashSet<String>>,
    pub ports: HostPorts,
    pub holders: Holders,
    /// The bridges' packet filter rules are in place.
    pub filtered: bool,
}

impl State {
    /// Finds a network by name, by ID, or by the beginning of an ID that no other has.
    pub fn find(&self, key: &str) -> Result<&Network> {
        let not_found = || Error::new(ErrorKind::NotFound, format!("network {key} not found"));
        // `default` is what clients send for "no network named".
        let name = if key == "default" { "bridge" } else { key };
        if let Some(network) = self.networks.iter().find(|n| n.id == key || n.name == name) {
            return Ok(network);
        }
        let mut matching = self
            .networks
            .iter()
            .filter(|n| !key.is_empty() && n.id.starts_with(key));
        match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => {
                let text = format!(
                    "network {key} is ambiguous ({} matches found on ID prefix)",
                    2 + matching.count()
                );
                Err(Error::invalid(text))
            }
            _ => Err(not_found()),
        }
    }
}

impl Networks {
    /// Opens the networks kept in `dir` and brings their bridges up.
    ///
    /// Call [`restore`](Networks::restore) with the endpoints of running containers before the first
    /// [`connect`](Networks::connect). A user's network whose bridge cannot be brought up is reported in the
    /// log; the daemon starts without it.
    pub fn open(dir: &Path, config: Config) -> Result<Networks> {
        let firewall = match config.nf_tables {
            true if config.iptables => Firewall::nf_tables(&config.bridge),
            _ => Firewall::new(config.iptables, &config.bridge),
        };
        let (networks, mut taken_over) = record::load(dir)?;
        let mut all = networks.clone();
        let dockers = takeover::state(dir);
        let changed = dockers != taken_over;
        if changed {
            for network in takeover::networks(dir) {
                if !all
                    .iter()
                    .any(|known| known.id == network.id || known.name == network.name)
                {
                    log::info!("took over network {} of Docker's", network.name);
                    all.push(network);
                }
            }
            taken_over = dockers;
        }
        let state = State {
            networks: all,
            ..State::default()
        };
        let this = Networks {
            dir: dir.to_owned(),
            config,
            firewall,
            state: Mutex::new(state),
            taken_over,
        };
        this.predefine()?;
        if this.config.ip_forward && bridge::enable_forwarding()? {
            // The host was no router: it becomes one for containers only.
            this.firewall.drop_forwarded()?;
        }
        let state = this.state();
        for network in &state.networks {
            let Some(bridge) = this.bridge_of(network) else {
                continue;
            };
            match bridge.ensure() {
                Ok(_) => {}
                Err(error) if network.name == "bridge" => return Err(error),
                Err(error) => log::error!("network {}: {error}", network.name),
            }
        }
        if changed || state.networks != networks {
            record::save(dir, &state.networks, &this.taken_over)?;
        }
        drop(state);
        Ok(this)
    }

    /// Makes the records of `bridge`, `host` and `none`, and brings that of `bridge` up to date.
    fn predefine(&self) -> Result<()> {
        let mut state = self.state();
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            if !state.networks.iter().any(|n| n.name == name) {
                let network = new_record(
                    NewNetwork {
                        driver,
                        ..NewNetwork::named(name)
                    },
                    None,
                )?;
                state.networks.push(network);
            }
        }
        if self.config.bridge == "none" {
            state.networks.retain(|n| n.name != "bridge");
            return Ok(());
        }
        let kept = state.networks.iter().position(|n| n.name == "bridge");
        let ipam = self.default_ipam(&state, kept.and_then(|at| state.networks[at].ipam.as_ref()))?;
        let flag = |value: bool| value.to_string();
        let options = [
            ("default_bridge", "true".to_owned()),
            ("enable_icc", flag(self.config.icc)),
            ("enable_ip_masquerade", flag(self.config.masquerade)),
            ("host_binding_ipv4", self.config.default_ip.to_string()),
            ("name", self.config.bridge.clone()),
        ];
        let mut options: BTreeMap<String, String> = options
            .into_iter()
            .map(|(name, value)| (format!("{OPTION}{name}"), value))
            .collect();
        options.insert(OPTION_MTU.to_owned(), self.mtu(None).to_string());
        match kept {
            Some(at) => {
                state.networks[at].ipam = Some(ipam);
                state.networks[at].options = options;
            }
            None => {
                let network = new_record(
                    NewNetwork {
                        options,
                        ..NewNetwork::named("bridge")
                    },
                    Some(ipam),
                )?;
                state.networks.insert(0, network);
            }
        }
        Ok(())
    }

    /// The default bridge's addresses: `--bip`, else what the bridge has, else what it had, else a free pool.
    fn default_ipam(&self, state: &State, kept: Option<&Ipam>) -> Result<Ipam> {
        let name = self.config.bridge.as_str();
        let others = || {
            state
                .networks
                .iter()
                .filter(|n| n.name != "bridge")
                .filter_map(|n| n.ipam.as_ref())
        };
        let taken = || -> Result<Vec<Subnet>> {
            let mut taken = bridge::routes(Some(name))?;
            taken.extend(others().map(|ipam| ipam.subnet));
            Ok(taken)
        };
        let (address, subnet) = match (self.config.bip, bridge::address_of(name)?, kept) {
            (Some(bip), ..) => bip,
            (None, Some(has), _) => has,
            (None, None, Some(kept)) if !taken()?.iter().any(|other| other.overlaps(kept.subnet)) => {
                (kept.gateway, kept.subnet)
            }
            _ => {
                let subnet = ipam::pick(&self.config.pools, &taken()?)?;
                (Ipv4Addr::from_bits(subnet.hosts().0), subnet)
            }
        };
        let auxiliary = self
            .config
            .default_gateway
            .map(|gateway| ("DefaultGatewayIPv4".to_owned(), gateway));
        Ipam::new(
            subnet,
            Some(address),
            self.config.fixed_cidr,
            auxiliary.into_iter().collect(),
        )
    }

    /// The networks, predefined ones first.
    pub fn list(&self) -> Vec<Network> {
        self.state().networks.clone()
    }

    /// Finds a network by name, by ID, or by the beginning of an ID.
    pub fn inspect(&self, key: &str) -> Result<Network> {
        self.state().find(key).cloned()
    }

    /// The network of containers that name none. Absent with `--bridge=none`.
    pub fn default_bridge(&self) -> Option<Network> {
        self.state().find("bridge").ok().cloned()
    }

    /// The IDs of a network's endpoints.
    pub fn endpoints(&self, network_id: &str) -> Vec<String> {
        self.state()
            .endpoints
            .get(network_id)
            .map(|set| set.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Makes a network.
    pub fn create(&self, request: NewNetwork) -> Result<Network> {
        let mut state = self.state();
        check(&request, &state)?;
        let mut taken: Vec<Subnet> = state
            .networks
            .iter()
            .filter_map(|n| n.ipam.as_ref())
            .map(|i| i.subnet)
            .collect();
        let subnet = match request.subnet {
            Some(subnet) if taken.iter().any(|other| other.overlaps(subnet)) => {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    "Pool overlaps with other one on this address space",
                ));
            }
            Some(subnet) => subnet,
            None => {
                taken.extend(bridge::routes(None)?);
                ipam::pick(&self.config.pools, &taken)?
            }
        };
        let ipam = Ipam::new(subnet, request.gateway, request.range, request.auxiliary.clone())?;
        let own_subnet = request.subnet.is_some();
        let network = Network {
            own_subnet,
            ..new_record(request, Some(ipam))?
        };
        let Some(bridge) = self.bridge_of(&network) else {
            return Err(Error::invalid(format!("network {} has no bridge", network.name)));
        };
        let clash = state
            .networks
            .iter()
            .filter_map(|n| self.bridge_of(n))
            .any(|b| b.name == bridge.name);
        if clash {
            let text = format!("network {} uses bridge {} already", network.name, bridge.name);
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        let existed = bridge::address_of(&bridge.name)?.is_some();
        state.networks.push(network.clone());
        let result = bridge
            .ensure()
            .and_then(|_| self.filter(&mut state))
            .and_then(|()| record::save(&self.dir, &state.networks, &self.taken_over));
        if let Err(error) = result {
            state.networks.pop();
            // What was made for it goes again; the first error is the one to report.
            let _ = self.firewall.sync(&self.bridge_rules(&state), &self.scope(&[&network]));
            if !existed {
                let _ = bridge.remove();
            }
            return Err(error);
        }
        Ok(network)
    }

    /// Removes a network that nobody is on.
    pub fn remove(&self, key: &str) -> Result<Network> {
        let mut state = self.state();
        let network = state.find(key)?.clone();
        if is_predefined(&network.name) {
            let text = format!("{} is a pre-defined network and cannot be removed", network.name);
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        if state.endpoints.get(&network.id).is_some_and(|set| !set.is_empty()) {
            let text = format!(
                "error while removing network: network {} id {} has active endpoints",
                network.name, network.id
            );
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        // The record first: a bridge without one is swept by nobody, but harms nobody.
        state.networks.retain(|n| n.id != network.id);
        record::save(&self.dir, &state.networks, &self.taken_over)?;
        state.addresses.remove(&network.id);
        state.endpoints.remove(&network.id);
        let filtered = self.firewall.sync(&[], &self.scope(&[&network]));
        let removed = self.bridge_of(&network).map_or(Ok(()), |bridge| bridge.remove());
        filtered.and(removed)?;
        Ok(network)
    }

    /// Takes up what containers have that ran on without a daemon: addresses and ports are reserved, the packet
    /// filter is brought to what they need, nothing else is touched. What could not be restored.
    pub fn restore(&self, endpoints: &mut [EndpointState]) -> Vec<Error> {
        let mut state = self.state();
        let mut errors = Vec::new();
        let mut wanted = self.bridge_rules(&state);
        for endpoint in endpoints {
            if let Err(error) = self.restore_one(&mut state, endpoint, &mut wanted) {
                errors.push(error);
            }
        }
        let networks: Vec<&Network> = state.networks.iter().collect();
        match self.firewall.sync(&wanted, &self.scope(&networks)) {
            Ok(()) => state.filtered = true,
            Err(error) => errors.push(error),
        }
        errors
    }

    /// Puts the bridges' rules in place where that was not done yet; never removes any.
    pub(crate) fn filter(&self, state: &mut State) -> Result<()> {
        self.firewall.sync(&self.bridge_rules(state), &Scope::default())?;
        state.filtered = true;
        Ok(())
    }

    fn bridge_rules(&self, state: &State) -> Vec<Rule> {
        state
            .networks
            .iter()
            .filter_map(|n| self.rules_of(n))
            .flat_map(|config| rules::bridge(&config))
            .collect()
    }

    fn scope(&self, networks: &[&Network]) -> Scope {
        let bridges = networks
            .iter()
            .filter_map(|n| self.bridge_of(n))
            .map(|b| b.name)
            .collect();
        let subnets = networks
            .iter()
            .filter_map(|n| n.ipam.as_ref())
            .map(|i| i.subnet)
            .collect();
        Scope { bridges, subnets }
    }

    /// The bridge of a network of the bridge driver.
    pub(crate) fn bridge_of(&self, network: &Network) -> Option<Bridge> {
        let ipam = network.ipam.as_ref().filter(|_| network.driver == Driver::Bridge)?;
        let name = option(network, "name").filter(|name| !name.is_empty());
        let name = name.map_or_else(
            || format!("br-{}", &network.id[..network.id.len().min(12)]),
            str::to_owned,
        );
        Some(Bridge {
            name,
            address: Some(ipam.gateway),
            subnet: ipam.subnet,
            mtu: self.mtu(Some(network)),
            route_localnet: self.hairpin() && !network.internal,
        })
    }

    pub(crate) fn rules_of(&self, network: &Network) -> Option<BridgeRules> {
        let bridge = self.bridge_of(network)?;
        let yes = |name: &str| option(network, name).is_none_or(|value| !matches!(value, "false" | "0"));
        Some(BridgeRules {
            bridge: bridge.name,
            subnet: bridge.subnet,
            icc: yes("enable_icc"),
            masquerade: yes("enable_ip_masquerade"),
            internal: network.internal,
            hairpin: self.hairpin(),
        })
    }

    /// Loopback and containers reach published ports by the kernel.
    pub(crate) fn hairpin(&self) -> bool {
        self.firewall.is_available() && !self.config.userland_proxy
    }

    pub(crate) fn mtu(&self, network: Option<&Network>) -> u32 {
        let own = network
            .and_then(|n| n.options.get(OPTION_MTU))
            .and_then(|text| text.parse().ok());
        own.filter(|mtu| *mtu != 0)
            .unwrap_or(if self.config.mtu == 0 { 1500 } else { self.config.mtu })
    }

    /// Where a network's ports are published by default.
    pub(crate) fn host_ip(&self, network: &Network) -> Ipv4Addr {
        let own = option(network, "host_binding_ipv4").and_then(|text| text.parse().ok());
        own.unwrap_or(self.config.default_ip)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn option<'a>(network: &'a Network, name: &str) -> Option<&'a str> {
    network.options.get(&format!("{OPTION}{name}")).map(String::as_str)
}

fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

fn new_record(request: NewNetwork, ipam: Option<Ipam>) -> Result<Network> {
    Ok(Network {
        id: random::id()?,
        name: request.name,
        driver: request.driver,
        ipam,
        options: request.options,
        labels: request.labels,
        internal: request.internal,
        enable_ipv6: request.enable_ipv6,
        attachable: request.attachable,
        own_subnet: false,
        created: SystemTime::now(),
    })
}

fn check(request: &NewNetwork, state: &State) -> Result<()> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        let text = format!("invalid network name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        return Err(Error::invalid(text));
    }
    if is_predefined(name) {
        let text = format!("operation is not permitted on predefined {name} network ");
        return Err(Error::new(ErrorKind::Forbidden, text));
    }
    if state.networks.iter().any(|n| n.name == name) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("network with name {name} already exists"),
        ));
    }
    match request.driver {
        Driver::Bridge => {}
        other => {
            let text = format!("only one instance of \"{}\" network is allowed", other.as_str());
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
    }
    let bridge = request.options.get(&format!("{OPTION}name"));
    let fits =
        |b: &String| b.len() <= LONGEST_NAME && b.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    match bridge {
        Some(bridge) if !fits(bridge) => Err(Error::invalid(format!("invalid bridge name {bridge:?}"))),
        _ => Ok(()),
    }
}
