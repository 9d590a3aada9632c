//! `volume prune`: removes volumes that nothing uses.

use super::container_prune::{post, told};
use super::formats::{self, filters_of};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::progress::human;
use std::collections::BTreeMap;

pub const COMMAND: Command = Command::new(
    &["volume prune"],
    "[OPTIONS]",
    "Remove unused local volumes",
    Args::None,
    run,
)
.flags(&[&[
    Flag::bool("all", "Remove all unused volumes, not just anonymous ones").short('a'),
    formats::PRUNE_FILTER,
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
]])
.examples(&["volume prune -f"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let all = parsed.bool("all");
    let which = if all { "all" } else { "anonymous" };
    let question = format!(
        "WARNING! This will remove {which} local volumes not used by at least one container.\nAre you sure you want to continue?"
    );
    if !parsed.bool("force") && !cli.confirm(&question)? {
        return Err(Failure::quiet(0));
    }
    let mut map: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for filter in parsed.list("filter") {
        if let Some((name, value)) = filter.split_once('=') {
            map.entry(name.into()).or_default().insert(value.into(), true);
        }
    }
    // Before API 1.42 all volumes were meant, and the filter was not known.
    if all && cli.client.speaks(42)? {
        map.entry("all".into()).or_default().insert("true".into(), true);
    }
    let report = post(cli, "/volumes/prune", &filters_of(&map))?;
    let (text, space) = told(&report, "VolumesDeleted", "Deleted Volumes:");
    cli.print(&format!("{text}Total reclaimed space: {}\n", human(space)))
}
