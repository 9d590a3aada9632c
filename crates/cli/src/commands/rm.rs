//! `rm`: removes containers.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure, Failures};
use crate::flags::{Flag, Parsed};
use api::client::Request;

pub const COMMAND: Command = Command::new(
    &["container rm", "container remove", "rm"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    Args::AtLeast(1),
    run,
)
.flags(&[&[
    Flag::bool("force", "Force the removal of a running container (uses SIGKILL)").short('f'),
    Flag::bool("link", "Remove the specified link").short('l'),
    Flag::bool("volumes", "Remove anonymous volumes associated with the container").short('v'),
]])
.examples(&["rm web", "rm -fv web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let force = parsed.bool("force");
    let mut failures = Failures::default();
    for name in &parsed.args {
        let bare = name.trim_matches('/');
        if bare.is_empty() {
            failures.add("container name cannot be empty");
            continue;
        }
        let request = Request::delete(path("containers", bare, ""))
            .flag("v", parsed.bool("volumes"))
            .flag("link", parsed.bool("link"))
            .flag("force", force);
        match cli.client.send(request) {
            Ok(_) => cli.say(name)?,
            // Who forces wants it gone, and it is.
            Err(e) if force && e.is_not_found() => cli.warn(e),
            Err(e) => failures.add(e),
        }
    }
    failures.finish()
}
