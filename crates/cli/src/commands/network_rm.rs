//! `network rm`: removes networks.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure, Failures};
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
    let mut failures = Failures::default();
    for name in &parsed.args {
        match cli.client.send(Request::delete(path("networks", name, ""))) {
            Ok(_) => cli.say(name)?,
            Err(error) if parsed.bool("force") && error.status() == Some(404) => {}
            Err(error) => failures.add(error),
        }
    }
    // Docker's client says so behind the errors.
    let told = |failure: Failure| Failure::new(format!("{}\nexit status 1", failure.text));
    failures.finish().map_err(told)
}
