//! `pull`: gets an image from a registry.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};
use crate::terminal;

pub const COMMAND: Command = Command::new(
    &["image pull", "pull"],
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("all-tags", "Download all tagged images in the repository").short('a'),
    Flag::text("delta", "Whether to use deltas: auto, off or only"),
    Flag::alias("disable-content-trust", "disable-content-trust", Kind::Bool),
    Flag::text("platform", "Set platform if server is multi-platform capable"),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
]])
.examples(&["pull busybox", "pull -q alpine:3.20"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (all, quiet) = (parsed.bool("all-tags"), parsed.bool("quiet"));
    let mut reference = requests::reference(parsed.first()).map_err(Failure::new)?;
    if all && (reference.tag().is_some() || reference.digest().is_some()) {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && reference.tag().is_none() && reference.digest().is_none() {
        reference = reference.or_latest();
        if !quiet {
            cli.say("Using default tag: latest")?;
        }
    }
    let platform = requests::platform(parsed.text("platform"));
    requests::pull(
        cli,
        &reference,
        all,
        (&platform, parsed.text("delta")),
        &mut std::io::stdout(),
        terminal::is_output(),
        quiet,
    )?;
    cli.say(reference.canonical())
}
