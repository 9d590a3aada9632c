//! `network inspect`: everything about networks.

use super::{formats, inspect};
use crate::command::{Args, Command};
use crate::flags::Flag;

pub const COMMAND: Command = Command::new(
    &["network inspect"],
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    Args::AtLeast(1),
    |cli, parsed| inspect::of_noun(cli, parsed, "networks", "network.Inspect"),
)
.flags(&[&[
    formats::INSPECT,
    Flag::bool("verbose", "Verbose output for diagnostics").short('v'),
]])
.examples(&["network inspect bridge"]);
