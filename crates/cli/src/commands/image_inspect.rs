//! `image inspect`: everything about images.

use super::{formats, inspect};
use crate::command::{Args, Command};

pub const COMMAND: Command = Command::new(
    &["image inspect"],
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    Args::AtLeast(1),
    |cli, parsed| inspect::of_noun(cli, parsed, "images", "image.InspectResponse"),
)
.flags(&[&[formats::INSPECT]])
.examples(&["image inspect busybox"]);
