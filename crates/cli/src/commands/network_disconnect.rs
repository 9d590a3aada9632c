//! `network disconnect`: takes a container off a network.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::client::Request;
use api::network::ConnectRequest;

pub const COMMAND: Command = Command::new(
    &["network disconnect"],
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    Args::Exactly(2),
    run,
)
.flags(&[&[Flag::bool("force", "Force the container to disconnect from a network").short('f')]])
.examples(&["network disconnect backend postgres"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = ConnectRequest {
        container: parsed.args[1].clone(),
        endpoint_config: None,
        force: parsed.bool("force"),
    };
    let path = path("networks", &parsed.args[0], "disconnect");
    cli.client.send(Request::post(path).json(&wanted)?)?.bytes()?;
    Ok(())
}
