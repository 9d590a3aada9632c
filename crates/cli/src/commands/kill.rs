//! `kill`: sends containers a signal.

use super::requests::{each, path, post};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};

pub const COMMAND: Command = Command::new(
    &["container kill", "kill"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    Args::AtLeast(1),
    run,
)
.flags(&[&[Flag::text("signal", "Signal to send to the container").short('s')]])
.examples(&["kill web", "kill --signal HUP web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    each(cli, &parsed.args, |name| {
        post(
            cli,
            path("containers", name, "kill"),
            &[("signal", parsed.text("signal"))],
        )
    })
}
