//! `container prune`: removes containers that have ended.

use super::formats;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::client::Request;
use api::progress::human;
use serde_json::Value;

const FORCE: Flag = Flag::bool("force", "Do not prompt for confirmation").short('f');

pub const COMMAND: Command = Command::new(
    &["container prune"],
    "[OPTIONS]",
    "Remove all stopped containers",
    Args::None,
    run,
)
.flags(&[&[formats::PRUNE_FILTER, FORCE]])
.examples(&["container prune -f"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    if !parsed.bool("force")
        && !cli.confirm("WARNING! This will remove all stopped containers.\nAre you sure you want to continue?")?
    {
        return Err(Failure::quiet(0));
    }
    let (text, space) = prune(cli, &formats::filters(parsed))?;
    cli.print(&format!("{text}Total reclaimed space: {}\n", human(space)))
}

/// Removes; gives what to say and the bytes that came free.
pub fn prune(cli: &Cli, filters: &str) -> Result<(String, i64), Failure> {
    let report = post(cli, "/containers/prune", filters)?;
    Ok(told(&report, "ContainersDeleted", "Deleted Containers:"))
}

/// Asks for a removal of a kind of things.
pub fn post(cli: &Cli, path: &str, filters: &str) -> Result<Value, Failure> {
    Ok(cli
        .client
        .send(Request::post(path).query_unless_empty("filters", filters))?
        .json()?)
}

/// A list of what was removed, with its title.
pub fn told(report: &Value, key: &str, title: &str) -> (String, i64) {
    let space = report["SpaceReclaimed"].as_i64().unwrap_or(0);
    let names: Vec<&str> = report[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if names.is_empty() {
        return (String::new(), space);
    }
    (format!("{title}\n{}\n\n", names.join("\n")), space)
}
