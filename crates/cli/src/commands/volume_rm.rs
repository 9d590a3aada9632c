//! `volume rm`: removes volumes.

use super::requests::{each, path};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::client::Request;

pub const COMMAND: Command = Command::new(
    &["volume rm", "volume remove"],
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    Args::AtLeast(1),
    run,
)
.flags(&[&[Flag::bool("force", "Force the removal of one or more volumes").short('f')]])
.examples(&["volume rm data"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    each(cli, &parsed.args, |name| {
        cli.client
            .send(Request::delete(path("volumes", name, "")).flag("force", parsed.bool("force")))?;
        Ok(())
    })
}
