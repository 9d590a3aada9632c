//! `unpause`: lets frozen containers go on.

use super::requests::{each, path, post};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;

pub const COMMAND: Command = Command::new(
    &["container unpause", "unpause"],
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    Args::AtLeast(1),
    run,
)
.examples(&["unpause web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    each(cli, &parsed.args, |name| {
        post(cli, path("containers", name, "unpause"), &[])
    })
}
