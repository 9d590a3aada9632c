//! `stop`: ends containers, first kindly.

use super::requests::{each, path, post};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};

pub const FLAGS: &[Flag] = &[
    Flag::text("signal", "Signal to send to the container").short('s'),
    Flag::int("timeout", "Seconds to wait before killing the container").short('t'),
    Flag::alias("time", "timeout", Kind::Int),
];

pub const COMMAND: Command = Command::new(
    &["container stop", "stop"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    Args::AtLeast(1),
    run,
)
.flags(&[FLAGS])
.examples(&["stop web", "stop --timeout 30 web db"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    all(cli, parsed, "stop")
}

/// Stops or restarts.
pub fn all(cli: &Cli, parsed: &Parsed, verb: &str) -> Result<(), Failure> {
    let timeout = parsed.int("timeout").map(|n| n.to_string()).unwrap_or_default();
    each(cli, &parsed.args, |name| {
        post(
            cli,
            path("containers", name, verb),
            &[("signal", parsed.text("signal")), ("t", &timeout)],
        )
    })
}
