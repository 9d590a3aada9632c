//! `image prune`: removes images that nothing uses.

use super::container_prune::post;
use super::formats::{self, filters_of};
use super::rmi::lines;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::image::Deleted;
use api::progress::human;
use std::collections::BTreeMap;

pub const COMMAND: Command = Command::new(&["image prune"], "[OPTIONS]", "Remove unused images", Args::None, run)
    .flags(&[&[
        Flag::bool("all", "Remove all unused images, not just dangling ones").short('a'),
        formats::PRUNE_FILTER,
        Flag::bool("force", "Do not prompt for confirmation").short('f'),
    ]])
    .examples(&["image prune -f", "image prune -a"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let all = parsed.bool("all");
    let question = match all {
        true => {
            "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?"
        }
        false => "WARNING! This will remove all dangling images.\nAre you sure you want to continue?",
    };
    if !parsed.bool("force") && !cli.confirm(question)? {
        return Err(Failure::quiet(0));
    }
    let (text, space) = prune(cli, all, &parsed.list("filter"))?;
    cli.print(&format!("{text}Total reclaimed space: {}\n", human(space)))
}

/// Removes; gives what to say and the bytes that came free.
pub fn prune(cli: &Cli, all: bool, filters: &[String]) -> Result<(String, i64), Failure> {
    let mut map: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    map.entry("dangling".into())
        .or_default()
        .insert((!all).to_string(), true);
    for filter in filters {
        if let Some((name, value)) = filter.split_once('=') {
            map.entry(name.into()).or_default().insert(value.into(), true);
        }
    }
    let report = post(cli, "/images/prune", &filters_of(&map))?;
    let space = report["SpaceReclaimed"].as_i64().unwrap_or(0);
    let deleted: Vec<Deleted> = json::from_value(&report["ImagesDeleted"]).unwrap_or_default();
    if deleted.is_empty() {
        return Ok((String::new(), space));
    }
    let text: String = lines(&deleted)
        .replace("Untagged", "untagged")
        .replace("Deleted", "deleted");
    Ok((format!("Deleted Images:\n{text}\n"), space))
}
