//! `system prune`: removes ended containers, unused networks and images, and volumes if that is asked for.

use super::container_prune::{self, post, told};
use super::{formats, image_prune};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use api::progress::human;

pub const COMMAND: Command = Command::new(&["system prune"], "[OPTIONS]", "Remove unused data", Args::None, run)
    .flags(&[&[
        Flag::bool("all", "Remove all unused images not just dangling ones").short('a'),
        formats::PRUNE_FILTER,
        Flag::bool("force", "Do not prompt for confirmation").short('f'),
        Flag::bool("volumes", "Prune anonymous volumes"),
    ]])
    .examples(&["system prune -f", "system prune --all --volumes"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (all, volumes) = (parsed.bool("all"), parsed.bool("volumes"));
    if volumes && parsed.list("filter").iter().any(|filter| filter.starts_with("until=")) {
        return Err(Failure::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !parsed.bool("force") {
        let mut question = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_string();
        if volumes {
            question.push_str("  - all anonymous volumes not used by at least one container\n");
        }
        question.push_str(if all {
            "  - all images without at least one container associated to them\n"
        } else {
            "  - all dangling images\n"
        });
        question.push_str("\nAre you sure you want to continue?");
        if !cli.confirm(&question)? {
            return Err(Failure::quiet(0));
        }
    }
    let filters = formats::filters(parsed);
    let (mut text, mut space) = container_prune::prune(cli, &filters)?;
    let networks = post(cli, "/networks/prune", &filters)?;
    text.push_str(&told(&networks, "NetworksDeleted", "Deleted Networks:").0);
    if volumes {
        let (more, freed) = told(
            &post(cli, "/volumes/prune", &filters)?,
            "VolumesDeleted",
            "Deleted Volumes:",
        );
        text.push_str(&more);
        space += freed;
    }
    let (more, freed) = image_prune::prune(cli, all, &parsed.list("filter"))?;
    text.push_str(&more);
    cli.print(&format!("{text}Total reclaimed space: {}\n", human(space + freed)))
}
