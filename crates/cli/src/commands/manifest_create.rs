//! `manifest create`: begins a list of images, or adds to one.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::manifests::Lists;
use crate::remote;

pub const COMMAND: Command = Command::new(
    &["manifest create"],
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    Args::AtLeast(2),
    run,
)
.flags(&[&[
    Flag::bool("amend", "Amend an existing manifest list").short('a'),
    Flag::bool("insecure", "Allow communication with an insecure registry"),
]])
.examples(&[
    "manifest create registry.example/app:1 registry.example/app:1-amd64 registry.example/app:1-armv7",
    "manifest create --amend registry.example/app:1 registry.example/app:1-arm64",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let Some((first, others)) = parsed.args.split_first() else {
        return Err(Failure::new("a list is needed"));
    };
    let list = reference_or_latest(first)
        .map_err(|e| Failure::new(format!("error parsing name for manifest list {first}: {e}")))?;
    let lists = Lists::of(cli);
    if lists.images(&list)?.is_some() && !parsed.bool("amend") {
        return Err(Failure::new(
            "refusing to amend an existing manifest list with no --amend flag",
        ));
    }
    let names = others
        .iter()
        .map(|name| reference_or_latest(name).map_err(Failure::new));
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    let mut wanted = Vec::new();
    for name in &names {
        // What is there may have been annotated.
        let there = lists.image(&list, name)?.is_some_and(|kept| kept.is_exact());
        if !there && !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    if !wanted.is_empty() {
        let mut found = remote::images(cli, &wanted, parsed.bool("insecure"))?;
        for _ in &wanted {
            lists.save(&list, &found.image()?)?;
        }
    }
    cli.say(format_args!("Created manifest list {}", list.canonical()))
}
