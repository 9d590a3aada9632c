//! `commit`: an image from what a container changed.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::client::Request;
use serde_json::Value;

pub const COMMAND: Command = Command::new(
    &["container commit", "commit"],
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    Args::Between(1, 2),
    run,
)
.flags(&[&[
    Flag::text("author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
    Flag::list("change", "Apply Dockerfile instruction to the created image").short('c'),
    Flag::text("message", "Commit message").short('m'),
    Flag::bool("pause", "Pause container during commit")
        .short('p')
        .default("true"),
]])
.examples(&["commit -c 'CMD[\"httpd\"]' web site:1", "commit -m update web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let name = parsed.args.get(1).map_or("", String::as_str);
    let mut request = Request::post("/commit")
        .query("container", parsed.first())
        .query_unless_empty("comment", parsed.text("message"))
        .query_unless_empty("author", parsed.text("author"));
    if !name.is_empty() {
        let reference = requests::reference(name).map_err(Failure::new)?;
        if reference.digest().is_some() {
            return Err(Failure::new("refusing to create a tag with a digest reference"));
        }
        let reference = reference.or_latest();
        request = request
            .query("repo", reference.repository().familiar())
            .query("tag", reference.tag().unwrap_or("latest"));
    }
    for change in parsed.list("change") {
        request = request.query("changes", change);
    }
    if !parsed.bool_or("pause", true) {
        request = request.query("pause", "0");
    }
    let answer: Value = cli.client.send(request)?.json()?;
    cli.say(answer["Id"].as_str().unwrap_or_default())
}
