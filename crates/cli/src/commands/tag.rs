//! `tag`: gives an image one more name.

use super::requests::{path, reference};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use api::client::Request;

pub const COMMAND: Command = Command::new(
    &["image tag", "tag"],
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    Args::Exactly(2),
    run,
)
.examples(&["tag busybox registry.example/tools/busybox:1"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (source, target) = (&parsed.args[0], &parsed.args[1]);
    let named = reference(target).map_err(|why| {
        Failure::new(format!(
            "Error parsing reference: \"{target}\" is not a valid repository/tag: {why}"
        ))
    })?;
    if named.digest().is_some() {
        return Err(Failure::new("refusing to create a tag with a digest reference"));
    }
    let named = named.or_latest();
    let request = Request::post(path("images", source, "tag"))
        .query("repo", named.repository().familiar())
        .query("tag", named.tag().unwrap_or("latest"));
    cli.client.send(request)?;
    Ok(())
}
