//! `rmi`: takes tags from images and removes those that have none left.

use super::requests::{path, platform_json};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::client::Request;
use api::image::Deleted;

pub const COMMAND: Command = Command::new(
    &["image rm", "image remove", "rmi"],
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    Args::AtLeast(1),
    run,
)
.flags(&[&[
    Flag::bool("force", "Force removal of the image").short('f'),
    Flag::bool("no-prune", "Do not delete untagged parents"),
    Flag::list(
        "platform",
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
]])
.examples(&["rmi busybox:1.36"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let force = parsed.bool("force");
    let platforms: Vec<String> = parsed
        .list("platform")
        .iter()
        .map(|text| platform_json(text))
        .collect::<Result<_, _>>()?;
    let mut errors = Vec::new();
    let mut fatal = false;
    for name in &parsed.args {
        let request = Request::delete(path("images", name, ""))
            .flag("force", force)
            .flag("noprune", parsed.bool("no-prune"));
        let request = platforms.iter().fold(request, |request, platform| {
            request.query("platforms", platform.as_str())
        });
        let done: Result<Vec<Deleted>, _> = cli.client.send(request).and_then(|response| response.json());
        match done {
            Ok(deleted) => cli.print(&lines(&deleted))?,
            Err(e) => {
                fatal |= !e.is_not_found();
                errors.push(e.to_string());
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let text = errors.join("\n");
    if force && !fatal {
        // Who forces wants them gone, and they are.
        cli.warn(text);
        return Ok(());
    }
    Err(Failure::new(text))
}

/// What was done, one step per line.
pub fn lines(deleted: &[Deleted]) -> String {
    let line = |step: &Deleted| match (&step.deleted, &step.untagged) {
        (Some(id), _) => format!("Deleted: {id}\n"),
        (None, Some(name)) => format!("Untagged: {name}\n"),
        (None, None) => String::new(),
    };
    deleted.iter().map(line).collect()
}
