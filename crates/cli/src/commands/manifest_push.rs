//! `manifest push`: puts a list on the registry of its images, which are mounted where they lie in other repositories.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::manifests::{self, Image, Lists, check_registry, missing};
use crate::remote;
use api::manifest::Elsewhere;
use oci::base64;

pub const COMMAND: Command = Command::new(
    &["manifest push"],
    "[OPTIONS] MANIFEST_LIST",
    "Push a manifest list to a repository",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    Flag::bool("insecure", "Allow push to an insecure registry"),
    Flag::bool("purge", "Remove the local manifest list after push").short('p'),
]])
.examples(&[
    "manifest push registry.example/app:1",
    "manifest push --purge registry.example/app:1",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let list = reference_or_latest(parsed.first()).map_err(Failure::new)?;
    let lists = Lists::of(cli);
    let images = lists.images(&list)?.ok_or_else(|| missing(&list))?;
    if images.is_empty() {
        return Err(Failure::new(format!("{} not found", list.canonical())));
    }
    for image in &images {
        let platform = image.descriptor.platform.as_ref();
        if platform.is_none_or(|platform| platform.os.is_empty() || platform.architecture.is_empty()) {
            return Err(Failure::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                image.name.0.canonical()
            )));
        }
        check_registry(&list, image)?;
    }
    let elsewhere = |image: &&Image| image.name.0.repository() != list.repository();
    let elsewhere: Vec<&Image> = images.iter().filter(elsewhere).collect();
    let moved = elsewhere.iter().map(|image| moved(image)).collect::<Result<_, _>>()?;
    let mut put = remote::push(cli, &list, manifests::list(&images), moved, parsed.bool("insecure"))?;
    for image in elsewhere {
        let name = list.with_digest(&image.descriptor.digest).canonical();
        cli.say(format_args!("Pushed ref {name} with digest: {}", put.text()?))?;
    }
    cli.say(put.text()?)?;
    if parsed.bool("purge") {
        lists.remove(&list)?;
    }
    Ok(())
}

fn moved(image: &Image) -> Result<Elsewhere, Failure> {
    let (media_type, bytes) = image.payload()?;
    let platform = image.descriptor.platform.as_ref();
    Ok(Elsewhere {
        name: image.name.0.canonical(),
        digest: image.descriptor.digest.to_string(),
        media_type: media_type.to_string(),
        manifest: base64::encode(&bytes),
        incomplete: platform.is_some_and(|platform| platform.os == "windows"),
    })
}
