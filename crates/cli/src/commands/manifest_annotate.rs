//! `manifest annotate`: says of an image of a list what it is for, where its config does not.

use super::requests::reference_or_latest;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};
use crate::manifests::Lists;
use oci::reference::Reference;

pub const COMMAND: Command = Command::new(
    &["manifest annotate"],
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    Args::Exactly(2),
    run,
)
.flags(&[&[
    Flag::text("arch", "Set architecture"),
    Flag::text("os", "Set operating system"),
    Flag::new("os-features", Kind::List("strings"), "Set operating system feature"),
    Flag::text("os-version", "Set operating system version"),
    Flag::text("variant", "Set architecture variant"),
]])
.examples(&["manifest annotate --arch arm --variant v6 registry.example/app:1 registry.example/app:1-armv6"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let [list_name, image_name] = &parsed.args[..] else {
        return Err(Failure::new("a list and an image are needed"));
    };
    let named = |what: &str, text: &str| -> Result<Reference, Failure> {
        let parsed = reference_or_latest(text);
        parsed.map_err(|e| Failure::new(format!("annotate: error parsing name for {what} {text}: {e}")))
    };
    let list = named("manifest list", list_name)?;
    let name = named("manifest", image_name)?;
    let lists = Lists::of(cli);
    let mut image = lists
        .image(&list, &name)?
        .ok_or_else(|| Failure::new(format!("manifest for image {image_name} does not exist in {list_name}")))?;
    let platform = image.descriptor.platform.get_or_insert_default();
    for (flag, field) in [
        ("os", &mut platform.os),
        ("arch", &mut platform.architecture),
        ("variant", &mut platform.variant),
        ("os-version", &mut platform.os_version),
    ] {
        if let Some(text) = parsed.get(flag).filter(|text| !text.is_empty()) {
            *field = text.to_string();
        }
    }
    let given = parsed.list("os-features");
    for feature in given
        .iter()
        .filter(|text| !text.is_empty())
        .flat_map(|text| text.split(','))
    {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_string());
        }
    }
    if !is_known(&platform.os, &platform.architecture) {
        return Err(Failure::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            parsed.text("os"),
            parsed.text("arch")
        )));
    }
    lists.save(&list, &image)
}

/// The pairs that docker's client takes.
fn is_known(os: &str, architecture: &str) -> bool {
    let known: &[&str] = match os {
        "linux" => &[
            "386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x",
        ],
        "darwin" => &["386", "amd64", "arm", "arm64"],
        "freebsd" | "netbsd" | "openbsd" => &["386", "amd64", "arm"],
        "plan9" | "windows" => &["386", "amd64"],
        "dragonfly" | "solaris" => &["amd64"],
        _ => &[],
    };
    known.contains(&architecture)
}
