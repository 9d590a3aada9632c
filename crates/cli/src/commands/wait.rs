//! `wait`: waits for containers to end and prints their exit codes.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure, Failures};
use crate::flags::Parsed;
use api::client::Request;
use api::container::WaitResponse;

pub const COMMAND: Command = Command::new(
    &["container wait", "wait"],
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    Args::AtLeast(1),
    run,
)
.examples(&["wait job"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for name in &parsed.args {
        let ended: Result<WaitResponse, _> = cli
            .client
            .send(Request::post(path("containers", name, "wait")))
            .and_then(|response| response.json());
        match ended {
            Ok(ended) => cli.say(ended.status_code)?,
            Err(e) => failures.add(e),
        }
    }
    failures.finish()
}
