//! `network prune`: removes networks that no container is on.

use super::container_prune::{post, told};
use super::formats;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};

pub const COMMAND: Command = Command::new(
    &["network prune"],
    "[OPTIONS]",
    "Remove all unused networks",
    Args::None,
    run,
)
.flags(&[&[
    formats::PRUNE_FILTER,
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
]])
.examples(&["network prune -f"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !parsed.bool("force") && !cli.confirm(question)? {
        return Err(Failure::quiet(0));
    }
    let report = post(cli, "/networks/prune", &formats::filters(parsed))?;
    let (text, _) = told(&report, "NetworksDeleted", "Deleted Networks:");
    cli.print(&text)
}
