//! `load`: takes images from an archive.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::input;
use crate::progress::{self, Shown};
use crate::terminal;
use api::client::{Payload, Request};

pub const COMMAND: Command = Command::new(
    &["image load", "load"],
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    Args::None,
    run,
)
.flags(&[&[
    Flag::text("input", "Read from tar archive file, instead of STDIN").short('i'),
    Flag::text(
        "platform",
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::bool("quiet", "Suppress the load output").short('q'),
]])
.examples(&["load -i images.tar", "load -q", "load -i app-1-2.delta"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let path = parsed.text("input");
    let mut source = match path {
        "" if terminal::is_input() => {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        "" => input::open(None)?,
        path => input::open(Some(path))?,
    };
    let platform = requests::platform_json(parsed.text("platform"))?;
    // Bars only make sense where they can be drawn over.
    let draw = terminal::is_output() && !parsed.bool("quiet");
    let request = Request::post("/images/load")
        .query("quiet", if draw { "0" } else { "1" })
        .query_unless_empty("platform", &platform)
        .payload(Payload::Stream(&mut *source, "application/x-tar"));
    let body = cli.client.send(request)?.body;
    progress::show(body, Shown::Output)
}
