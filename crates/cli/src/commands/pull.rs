//! `pull`: gets an image from a registry.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};
use crate::progress::Shown;

pub const COMMAND: Command = Command::new(
    &["image pull", "pull"],
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("all-tags", "Download all tagged images in the repository").short('a'),
    Flag::text("delta", "Deltas: \"auto\" where they are smaller, \"off\", or \"only\", which fails rather than fetch in full what has one; the daemon's own setting unless given"),
    Flag::alias("disable-content-trust", "disable-content-trust", Kind::Bool),
    Flag::text("platform", "Set platform if server is multi-platform capable"),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
]])
.examples(&[
    "pull busybox",
    "pull -q alpine:3.20",
    "pull --delta=only registry.example/app:2",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let reference = requests::transferred(cli, parsed)?;
    let platform = requests::platform(parsed.text("platform"));
    let shown = if parsed.bool("quiet") {
        Shown::Nowhere
    } else {
        Shown::Output
    };
    requests::pull(cli, &reference, (&platform, parsed.text("delta")), shown)?;
    cli.say(reference.canonical())
}
