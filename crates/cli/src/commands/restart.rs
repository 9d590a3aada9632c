//! `restart`: stops containers and starts them again.

use super::stop;
use crate::command::{Args, Command};

pub const COMMAND: Command = Command::new(
    &["container restart", "restart"],
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    Args::AtLeast(1),
    |cli, parsed| stop::all(cli, parsed, "restart"),
)
.flags(&[stop::FLAGS])
.examples(&["restart web"]);
