//! `export`: a container's files as a tar.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::output::Output;
use crate::terminal;
use api::client::Request;

pub const COMMAND: Command = Command::new(
    &["container export", "export"],
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    Args::Exactly(1),
    run,
)
.flags(&[&[Flag::text("output", "Write to a file, instead of STDOUT").short('o')]])
.examples(&["export -o web.tar web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let path = parsed.text("output");
    if path.is_empty() && terminal::is_output() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let output = Output::check(path).map_err(|why| Failure::new(format!("failed to export container: {why}")))?;
    let request = Request::get(requests::path("containers", parsed.first(), "export"));
    let mut answer = cli.client.send(request)?;
    output.fill(&mut answer.body)
}
