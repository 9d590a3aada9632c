//! `diff`: what a container changed in its image's files.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use json::Deserialize;

pub const COMMAND: Command = Command::new(
    &["container diff", "diff"],
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    Args::Exactly(1),
    run,
)
.examples(&["diff web"]);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    path: String,
    kind: u8,
}

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    if parsed.first().is_empty() {
        return Err(Failure::new("Container name cannot be empty"));
    }
    let changes: Option<Vec<Change>> = cli.client.get(&path("containers", parsed.first(), "changes"))?;
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        cli.say(format!("{kind} {}", change.path))?;
    }
    Ok(())
}
