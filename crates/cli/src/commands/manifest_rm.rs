//! `manifest rm`: forgets lists that were being made.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure, Failures};
use crate::flags::Parsed;
use crate::manifests::{Lists, missing};

pub const COMMAND: Command = Command::new(
    &["manifest rm"],
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    Args::AtLeast(1),
    run,
)
.examples(&["manifest rm registry.example/app:1"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let lists = Lists::of(cli);
    let mut failures = Failures::default();
    for name in &parsed.args {
        let removed = reference_or_latest(name)
            .map_err(Failure::new)
            .and_then(|list| match lists.remove(&list)? {
                true => Ok(()),
                false => Err(missing(&list)),
            });
        if let Err(failure) = removed {
            failures.add(failure.text);
        }
    }
    failures.finish()
}
