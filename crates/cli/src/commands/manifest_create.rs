//! `manifest create`: begins a list of images, or adds to one.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::manifests::Lists;
use crate::remote::Remote;

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
    let remote = Remote::reading(cli, &names.iter().collect::<Vec<_>>(), parsed.bool("insecure"));
    for name in &names {
        // What is there may have been annotated.
        let image = match lists.image(&list, name)?.filter(|kept| kept.is_exact()) {
            Some(kept) => kept,
            None => remote.image(name)?,
        };
        lists.save(&list, &image)?;
    }
    cli.say(format_args!("Created manifest list {}", list.canonical()))
}
