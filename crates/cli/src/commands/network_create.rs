//! `network create`: makes a network.

use super::container_flags::check_label;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};
use api::client::Request;
use api::network::{CreateRequest, Created, Ipam, IpamConfig};
use std::collections::BTreeMap;
use std::net::IpAddr;

const STRINGS: Kind = Kind::List("strings");
const MAP: Kind = Kind::List("map");

pub const COMMAND: Command = Command::new(
    &["network create"],
    "[OPTIONS] NETWORK",
    "Create a network",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("attachable", "Enable manual container attachment"),
    Flag::new(
        "aux-address",
        MAP,
        "Auxiliary IPv4 or IPv6 addresses used by Network driver",
    )
    .default("map[]"),
    Flag::text("config-from", "The network from which to copy the configuration"),
    Flag::bool("config-only", "Create a configuration only network"),
    Flag::text("driver", "Driver to manage the Network")
        .short('d')
        .default("\"bridge\""),
    Flag::new("gateway", STRINGS, "IPv4 or IPv6 Gateway for the master subnet"),
    Flag::bool("ingress", "Create swarm routing-mesh network"),
    Flag::bool("internal", "Restrict external access to the network"),
    Flag::new("ip-range", STRINGS, "Allocate container ip from a sub-range"),
    Flag::text("ipam-driver", "IP Address Management Driver").default("\"default\""),
    Flag::new("ipam-opt", MAP, "Set IPAM driver specific options").default("map[]"),
    Flag::bool("ipv4", "Enable or disable IPv4 address assignment").default("true"),
    Flag::bool("ipv6", "Enable or disable IPv6 address assignment"),
    Flag::list("label", "Set metadata on a network").check(check_label),
    Flag::new("opt", MAP, "Set driver specific options")
        .short('o')
        .default("map[]"),
    Flag::text("scope", "Control the network's scope"),
    Flag::new(
        "subnet",
        STRINGS,
        "Subnet in CIDR format that represents a network segment",
    ),
]])
.examples(&[
    "network create backend",
    "network create --subnet 10.5.0.0/24 --gateway 10.5.0.254 -o com.docker.network.bridge.name=br-field field",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    if !parsed.bool_or("ipv4", true) {
        return Err(Failure::new("a network without IPv4 is not supported by balena"));
    }
    let wanted = CreateRequest {
        name: parsed.first().to_string(),
        driver: parsed.get("driver").unwrap_or("bridge").into(),
        internal: parsed.bool("internal"),
        attachable: parsed.bool("attachable"),
        ingress: parsed.bool("ingress"),
        scope: parsed.text("scope").to_string(),
        config_only: parsed.bool("config-only"),
        config_from: api::network::ConfigReference {
            network: parsed.get("config-from").unwrap_or_default().into(),
        },
        enable_ipv6: parsed.given("ipv6").then(|| parsed.bool("ipv6")),
        ipam: Ipam {
            driver: parsed.get("ipam-driver").unwrap_or("default").into(),
            options: Some(parsed.map("ipam-opt")).filter(|options| !options.is_empty()),
            config: Some(configs(parsed)?),
        },
        options: parsed.map("opt"),
        labels: parsed.map("label"),
    };
    let made: Created = cli
        .client
        .send(Request::post("/networks/create").json(&wanted)?)?
        .json()?;
    if !made.warning.is_empty() {
        eprintln!("WARNING: {}", made.warning);
    }
    cli.say(made.id)
}

/// One configuration a subnet; gateways, ranges and addresses go to the subnet that holds them.
fn configs(parsed: &Parsed) -> Result<Vec<IpamConfig>, Failure> {
    let list = |name: &str| -> Vec<String> {
        let values = parsed.list(name);
        values
            .iter()
            .flat_map(|value| value.split(','))
            .map(str::to_owned)
            .collect()
    };
    let (subnets, ranges, gateways) = (list("subnet"), list("ip-range"), list("gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Failure::new(
            "every ip-range or gateway must have a corresponding subnet",
        ));
    }
    let mut configs: Vec<IpamConfig> = Vec::new();
    for subnet in subnets {
        if configs
            .iter()
            .any(|config| holds(&config.subnet, &subnet) || holds(&subnet, &config.subnet))
        {
            return Err(Failure::new(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        configs.push(IpamConfig {
            subnet,
            ..IpamConfig::default()
        });
    }
    for range in ranges {
        let config = holder(&mut configs, &range)
            .ok_or_else(|| Failure::new(format!("no matching subnet for range {range}")))?;
        if !config.ip_range.is_empty() {
            return Err(Failure::new(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            )));
        }
        config.ip_range = range;
    }
    for gateway in gateways {
        let config = holder(&mut configs, &gateway)
            .ok_or_else(|| Failure::new(format!("no matching subnet for gateway {gateway}")))?;
        if !config.gateway.is_empty() {
            return Err(Failure::new(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            )));
        }
        config.gateway = gateway;
    }
    for (name, address) in parsed.map("aux-address") {
        let config = holder(&mut configs, &address)
            .ok_or_else(|| Failure::new(format!("no matching subnet for aux-address {address}")))?;
        config
            .aux_addresses
            .get_or_insert_with(BTreeMap::new)
            .insert(name, address);
    }
    Ok(configs)
}

/// The configuration whose subnet holds an address, or the first address of a range.
fn holder<'a>(configs: &'a mut [IpamConfig], text: &str) -> Option<&'a mut IpamConfig> {
    configs.iter_mut().find(|config| holds(&config.subnet, text))
}

/// Whether an address, or a subnet's first one, lies in a subnet.
fn holds(subnet: &str, text: &str) -> bool {
    let bits = |address: &str| match address.parse().ok()? {
        IpAddr::V4(address) => Some((u128::from(address.to_bits()), 32)),
        IpAddr::V6(address) => Some((address.to_bits(), 128)),
    };
    let parts = || {
        let (address, width) = bits(text.split('/').next()?)?;
        let (base, length) = subnet.split_once('/')?;
        let ((base, base_width), length) = (bits(base)?, length.parse::<u32>().ok()?);
        let drop = u32::saturating_sub(width, length);
        Some(base_width == width && (drop >= 128 || address >> drop == base >> drop))
    };
    parts().unwrap_or(false)
}
