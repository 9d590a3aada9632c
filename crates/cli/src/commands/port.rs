//! `port`: where on the host a container's ports are published.

use super::formats::natural;
use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use api::container::Inspect;
use api::network::PortBinding;

pub const COMMAND: Command = Command::new(
    &["container port", "port"],
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    Args::Between(1, 2),
    run,
)
.examples(&["port web", "port web 80/tcp"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let name = parsed.first();
    let container: Inspect = cli.client.get(&path("containers", name, "json"))?;
    let ports = container.network_settings.ports;
    let mut lines = Vec::new();
    match parsed.args.get(1) {
        Some(wanted) => {
            let (number, kind) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            if number.parse::<u16>().is_err() {
                return Err(Failure::new(format!("Error: invalid port format: {wanted}")));
            }
            match ports.get(&format!("{number}/{kind}")) {
                Some(Some(list)) if !list.is_empty() => lines.extend(list.iter().map(address)),
                _ => {
                    return Err(Failure::new(format!(
                        "Error: No public port '{wanted}' published for {name}"
                    )));
                }
            }
        }
        None => {
            for (port, list) in &ports {
                lines.extend(
                    list.iter()
                        .flatten()
                        .map(|binding| format!("{port} -> {}", address(binding))),
                );
            }
        }
    }
    lines.sort_by(|a, b| natural(a, b));
    lines.into_iter().try_for_each(|line| cli.say(line))
}

fn address(binding: &PortBinding) -> String {
    match binding.host_ip.contains(':') {
        true => format!("[{}]:{}", binding.host_ip, binding.host_port),
        false => format!("{}:{}", binding.host_ip, binding.host_port),
    }
}
