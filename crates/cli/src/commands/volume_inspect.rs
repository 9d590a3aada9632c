//! `volume inspect`: everything about volumes.

use super::{formats, inspect};
use crate::command::{Args, Command};

pub const COMMAND: Command = Command::new(
    &["volume inspect"],
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    Args::AtLeast(1),
    |cli, parsed| inspect::of_noun(cli, parsed, "volumes", "volume.Volume"),
)
.flags(&[&[formats::INSPECT]])
.examples(&["volume inspect data"]);
