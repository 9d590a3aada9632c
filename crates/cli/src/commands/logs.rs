//! `logs`: what a container wrote.

use super::requests::path;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::stream;
use crate::units::parse_moment;
use api::client::Request;
use api::container::Inspect;
use api::stdcopy;

pub const COMMAND: Command = Command::new(
    &["container logs", "logs"],
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("details", "Show extra details provided to logs"),
    Flag::bool("follow", "Follow log output").short('f'),
    Flag::text(
        "since",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    Flag::text("tail", "Number of lines to show from the end of the logs")
        .short('n')
        .default("\"all\""),
    Flag::bool("timestamps", "Show timestamps").short('t'),
    Flag::text(
        "until",
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
]])
.examples(&["logs -f --tail 100 web", "logs --since 10m web"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let container: Inspect = cli.client.get(&path("containers", parsed.first(), "json"))?;
    let moment = |name: &str| {
        parse_moment(parsed.text(name)).map_err(|why| Failure::new(format!("invalid value for \"{name}\": {why}")))
    };
    let request = Request::get(format!("/containers/{}/logs", container.id))
        .query("stdout", "1")
        .query("stderr", "1")
        .flag("details", parsed.bool("details"))
        .flag("follow", parsed.bool("follow"))
        .flag("timestamps", parsed.bool("timestamps"))
        .query_unless_empty("since", &moment("since")?)
        .query_unless_empty("until", &moment("until")?)
        .query("tail", parsed.get("tail").unwrap_or("all"));
    let body = cli.client.send(request)?.body;
    if container.config.tty {
        stream::copy(body, std::io::stdout())?;
    } else {
        stdcopy::demux(body, std::io::stdout(), std::io::stderr())?;
    }
    Ok(())
}
