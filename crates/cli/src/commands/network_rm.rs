//! `network rm`: removes networks.

use super::requests::{each, path};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::client::Request;

pub const COMMAND: Command = Command::new(
    &["network rm", "network remove"],
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    Args::AtLeast(1),
    run,
)
.flags(&[&[Flag::bool("force", "Do not error if the network does not exist").short('f')]])
.examples(&["network rm backend"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let result = each(cli, &parsed.args, |name| {
        match cli.client.send(Request::delete(path("networks", name, ""))) {
            Ok(_) => Ok(()),
            Err(error) if parsed.bool("force") && error.status() == Some(404) => Ok(()),
            Err(error) => Err(error.into()),
        }
    });
    // Docker's client says so behind the errors.
    result.map_err(|failure| Failure::new(format!("{}\nexit status 1", failure.text)))
}
