//! `logout`: forgets a registry's credentials.

use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;

pub const COMMAND: Command = Command::new(
    &["logout"],
    "[SERVER]",
    "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    Args::AtMost(1),
    run,
)
.examples(&["logout registry.example"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let server = parsed
        .first()
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let shown = if server.is_empty() { crate::config::HUB } else { server };
    cli.say(format!("Removing login credentials for {shown}"))?;
    cli.config.borrow_mut().erase(server)?;
    Ok(())
}
