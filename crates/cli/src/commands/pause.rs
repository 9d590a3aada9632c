//! `pause`: freezes containers.

use super::requests::{each, path, post};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;

pub const COMMAND: Command = Command::new(
    &["container pause", "pause"],
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    Args::AtLeast(1),
    run,
)
.examples(&["pause web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    each(cli, &parsed.args, |name| {
        post(cli, path("containers", name, "pause"), &[])
    })
}
