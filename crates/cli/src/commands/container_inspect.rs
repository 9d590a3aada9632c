//! `container inspect`: everything about containers.

use super::{formats, inspect};
use crate::command::{Args, Command};
use crate::flags::Flag;

pub const COMMAND: Command = Command::new(
    &["container inspect"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    Args::AtLeast(1),
    |cli, parsed| inspect::of_noun(cli, parsed, "containers", "container.InspectResponse"),
)
.flags(&[&[
    formats::INSPECT,
    Flag::bool("size", "Display total file sizes").short('s'),
]])
.examples(&["container inspect web"]);
