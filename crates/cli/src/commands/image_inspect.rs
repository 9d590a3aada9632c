//! `image inspect`: everything about images.

use super::{formats, inspect};
use crate::command::{Args, Command};
use crate::flags::Flag;

pub const COMMAND: Command = Command::new(
    &["image inspect"],
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    Args::AtLeast(1),
    |cli, parsed| inspect::of_noun(cli, parsed, "images", "image.InspectResponse"),
)
.flags(&[&[
    formats::INSPECT,
    Flag::text("platform", "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"),
]])
.examples(&["image inspect busybox"]);
