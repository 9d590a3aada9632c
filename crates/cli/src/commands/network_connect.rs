//! `network connect`: puts a container on a network.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};
use api::client::Request;
use api::network::{ConnectRequest, EndpointIpam, EndpointSettings};

const STRINGS: Kind = Kind::List("strings");

pub const COMMAND: Command = Command::new(
    &["network connect"],
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    Args::Exactly(2),
    run,
)
.flags(&[&[
    Flag::new("alias", STRINGS, "Add network-scoped alias for the container"),
    Flag::new("driver-opt", STRINGS, "driver options for the network"),
    Flag::int(
        "gw-priority",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    Flag::text("ip", "IPv4 address (e.g., \"172.30.100.104\")"),
    Flag::text("ip6", "IPv6 address (e.g., \"2001:db8::33\")"),
    Flag::list("link", "Add link to another container"),
    Flag::new("link-local-ip", STRINGS, "Add a link-local address for the container"),
]])
.examples(&["network connect --alias db backend postgres"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let strings = |name: &str| -> Option<Vec<String>> {
        let values = parsed.list(name);
        let values: Vec<String> = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(str::to_owned)
            .collect();
        (!values.is_empty()).then_some(values)
    };
    let (ip, ip6) = (
        parsed.get("ip").unwrap_or_default(),
        parsed.get("ip6").unwrap_or_default(),
    );
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpam {
            ipv4_address: ip.into(),
            ipv6_address: ip6.into(),
            link_local_ips: strings("link-local-ip"),
        }),
        links: strings("link"),
        aliases: strings("alias"),
        driver_opts: Some(parsed.map("driver-opt")).filter(|options| !options.is_empty()),
        gw_priority: parsed.int("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    };
    let wanted = ConnectRequest {
        container: parsed.args[1].clone(),
        endpoint_config: Some(endpoint),
        force: false,
    };
    let path = path("networks", &parsed.args[0], "connect");
    cli.client.send(Request::post(path).json(&wanted)?)?.bytes()?;
    Ok(())
}
