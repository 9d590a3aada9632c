//! `rename`: gives a container another name.

use super::requests::{path, post};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;

pub const COMMAND: Command = Command::new(
    &["container rename", "rename"],
    "CONTAINER NEW_NAME",
    "Rename a container",
    Args::Exactly(2),
    run,
)
.examples(&["rename web web-old"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (old, new) = (parsed.args[0].trim(), parsed.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("Error: Neither old nor new names may be empty"));
    }
    post(cli, path("containers", old, "rename"), &[("name", new)]).map_err(|failure| {
        Failure::new(format!(
            "{}\nError: failed to rename container named {old}",
            failure.text
        ))
    })
}
