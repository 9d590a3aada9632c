//! `manifest inspect`: what is in a list that is being made, or what a registry has under a name.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::manifests::{self, Image, Lists, check_registry, missing};
use crate::remote::{self, Found};
use crate::rows::indent_by;
use oci::reference::Reference;

pub const COMMAND: Command = Command::new(
    &["manifest inspect"],
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    Args::Between(1, 2),
    run,
)
.flags(&[&[
    Flag::bool("insecure", "Allow communication with an insecure registry"),
    Flag::bool("verbose", "Output additional info including layers and platform").short('v'),
]])
.examples(&[
    "manifest inspect busybox",
    "manifest inspect -v busybox:latest",
    "manifest inspect registry.example/app:1 registry.example/app:1-armv7",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let verbose = parsed.bool("verbose");
    let (list, name) = match &parsed.args[..] {
        [list, name] => (Some(list), name),
        _ => (None, &parsed.args[0]),
    };
    let name = reference_or_latest(name).map_err(Failure::new)?;
    let lists = Lists::of(cli);
    if let Some(list) = list {
        let list = reference_or_latest(list).map_err(Failure::new)?;
        let image = lists.image(&list, &name)?;
        return show(cli, &image.ok_or_else(|| missing(&name))?, verbose);
    }
    if let Some(images) = lists.images(&name)? {
        return show_list(cli, &name, &images, verbose);
    }
    match remote::find(cli, &name, parsed.bool("insecure"))? {
        Found::Image(image) => show(cli, &image, verbose),
        Found::List(images) => show_list(cli, &name, &images, verbose),
    }
}

fn show(cli: &Cli, image: &Image, verbose: bool) -> Result<(), Failure> {
    cli.say(match verbose {
        true => indent_by(&json::compact(&json::to_string(image)), "\t"),
        false => indent_by(image.document()?, "\t"),
    })
}

fn show_list(cli: &Cli, name: &Reference, images: &[Image], verbose: bool) -> Result<(), Failure> {
    if verbose {
        return cli.say(indent_by(&json::compact(&json::to_string(images)), "\t"));
    }
    for image in images {
        check_registry(name, image)
            .map_err(|e| Failure::new(format!("failed to assemble ManifestDescriptor: {}", e.text)))?;
    }
    cli.say(manifests::list(images).1)
}
