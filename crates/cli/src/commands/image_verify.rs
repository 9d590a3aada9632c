//! `image verify`, ours: checks images on the disk against what was pulled, and repairs them.

use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::progress::{self, Shown};
use api::client::Request;

pub const COMMAND: Command = Command::new(
    &["image verify"],
    "[OPTIONS] [IMAGE...]",
    "Check images on the disk against what was pulled",
    Args::AtLeast(0),
    run,
)
.flags(&[&[
    Flag::bool("all", "Check all images").short('a'),
    Flag::bool(
        "deep",
        "Read every file, instead of looking at size, owner, mode and time",
    ),
    Flag::bool("repair", "Fetch what is damaged and swap it in"),
]])
.examples(&["image verify --all", "image verify --deep --repair busybox"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    match (parsed.args.is_empty(), parsed.bool("all")) {
        (true, false) => return Err(Failure::new("which images? name them, or say --all")),
        (false, true) => return Err(Failure::new("--all and names of images exclude each other")),
        _ => {}
    }
    let mut request = Request::post("/images/verify");
    for name in &parsed.args {
        request = request.query("name", name);
    }
    for flag in ["deep", "repair"] {
        if parsed.bool(flag) {
            request = request.query(flag, "1");
        }
    }
    let body = cli.client.send(request)?.body;
    progress::show(body, Shown::Output)
}
