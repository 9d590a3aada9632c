//! `push`: gives an image to a registry.

use super::requests::{self, path};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::delta;
use crate::flags::{Flag, Kind, Parsed};
use crate::progress::{self, Shown};
use api::client::Request;
use api::delta::Outcome;

pub const COMMAND: Command = Command::new(
    &["image push", "push"],
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("all-tags", "Push all tags of an image to the repository").short('a'),
    Flag::alias("disable-content-trust", "disable-content-trust", Kind::Bool),
    Flag::text(
        "platform",
        "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
    Flag::list(
        "delta-from",
        "Push the delta from that image as well, which pulls of this one will find",
    ),
]])
.examples(&[
    "push registry.example/tools/busybox:1",
    "push -a registry.example/tools/busybox",
    "push --delta-from registry.example/app:1 registry.example/app:2",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let quiet = parsed.bool("quiet");
    let reference = requests::transferred(cli, parsed)?;
    if reference.digest().is_some() {
        return Err(Failure::new("cannot push a digest reference"));
    }
    let bases = parsed.list("delta-from");
    if parsed.bool("all-tags") && !bases.is_empty() {
        return Err(Failure::new("--delta-from is for one tag, not for --all-tags/-a"));
    }
    let platform = requests::platform_json(&requests::platform(parsed.text("platform")))?;
    let host = reference.repository().domain();
    let request = Request::post(path("images", &reference.repository().familiar(), "push"))
        .query_unless_empty("tag", reference.tag().unwrap_or_default())
        .query_unless_empty("platform", &platform)
        .header("X-Registry-Auth", cli.config.borrow().auth_header(host));
    let body = cli.client.send(request)?.body;
    progress::show(body, if quiet { Shown::Nowhere } else { Shown::Output })?;
    if quiet {
        cli.say(reference.canonical())?;
    }
    if bases.is_empty() {
        return Ok(());
    }
    let answer = delta::by_daemon(cli, (&bases, false), &reference.familiar(), Outcome::Push, "")?;
    delta::show(answer, None)
}
