//! `top`: the processes of a container.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use crate::table;
use api::client::Request;
use api::container::Top;

pub const COMMAND: Command = Command::new(
    &["container top", "top"],
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    Args::AtLeast(1),
    run,
)
.stop_at_args()
.examples(&["top web", "top web -o pid,comm"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let request = Request::get(path("containers", parsed.first(), "top"));
    let top: Top = cli
        .client
        .send(request.query_unless_empty("ps_args", &parsed.args[1..].join(" ")))?
        .json()?;
    let mut text = format!("{}\n", top.titles.join("\t"));
    for process in &top.processes {
        text.push_str(&format!("{}\n", process.join("\t")));
    }
    cli.print(&table::align(&text, 20, 3))
}
