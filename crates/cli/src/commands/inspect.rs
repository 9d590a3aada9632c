//! `inspect`: everything about things of any type.

use super::formats;
use super::requests::{path, platform_json};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure, Failures};
use crate::flags::{Flag, Parsed};
use crate::rows::Inspector;
use api::client::{Error, Request};

pub const COMMAND: Command = Command::new(
    &["inspect"],
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    Args::AtLeast(1),
    run,
)
.flags(&[&[
    formats::INSPECT,
    Flag::bool("size", "Display total file sizes if the type is container").short('s'),
    Flag::text("type", "Only inspect objects of the given type"),
]])
.examples(&["inspect web", "inspect -f {{.State.Status}} web"]);

/// Type, noun of the path, Go's type.
const TYPES: &[(&str, &str, &str)] = &[
    ("container", "containers", "container.InspectResponse"),
    ("image", "images", "image.InspectResponse"),
    ("network", "networks", "network.Inspect"),
    ("volume", "volumes", "volume.Volume"),
];

/// Types of docker's that this engine has not.
const OTHERS: &[&str] = &["config", "node", "plugin", "secret", "service", "task"];

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let wanted = parsed.text("type");
    if parsed.given("type") && !TYPES.iter().any(|(name, ..)| *name == wanted) {
        if OTHERS.contains(&wanted) {
            return Err(Failure::new(format!(
                "balena: objects of type '{wanted}' are not supported by balena"
            )));
        }
        if wanted.is_empty() {
            return Err(Failure::new(
                "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
            ));
        }
        return Err(Failure::new(format!(
            "unknown type: \"{wanted}\": must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
        )));
    }
    let mut inspector = Inspector::new(parsed.text("format"), "container.InspectResponse")?;
    let mut failures = Failures::default();
    for name in &parsed.args {
        let result = fetch_any(cli, name, wanted, parsed.bool("size"));
        match result {
            Ok((raw, kind)) => {
                if let Err(failure) = inspector.add(&raw, Some(kind)) {
                    failures.add(failure.text);
                }
            }
            Err(failure) => failures.add(failure.text),
        }
    }
    cli.print(&inspector.finish())?;
    failures.finish()
}

fn fetch_any(cli: &Cli, name: &str, wanted: &str, size: bool) -> Result<(Vec<u8>, &'static str), Failure> {
    for (kind, noun, go) in TYPES {
        if !wanted.is_empty() && wanted != *kind {
            continue;
        }
        match fetch(cli, noun, name, size && *kind == "container", "") {
            Ok(raw) => return Ok((raw, go)),
            Err(e) if !wanted.is_empty() => return Err(e.into()),
            Err(e) if e.is_not_found() || e.to_string().contains("invalid reference format") => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

/// The document of one thing.
pub fn fetch(cli: &Cli, noun: &str, name: &str, size: bool, platform: &str) -> Result<Vec<u8>, Error> {
    if name.is_empty() {
        return Err(Error::Status {
            code: 404,
            message: format!("No such {}: ", noun.trim_end_matches('s')),
        });
    }
    let verb = if matches!(noun, "containers" | "images") {
        "json"
    } else {
        ""
    };
    cli.client
        .send(
            Request::get(path(noun, name, verb))
                .flag("size", size)
                .query_unless_empty("platform", platform),
        )?
        .bytes()
}

/// `inspect` of a noun.
pub fn of_noun(cli: &Cli, parsed: &Parsed, noun: &str, kind: &str) -> Result<(), Failure> {
    let mut inspector = Inspector::new(parsed.text("format"), kind)?;
    let platform = match noun {
        "images" => platform_json(parsed.text("platform"))?,
        _ => String::new(),
    };
    let mut failures = Failures::default();
    for name in &parsed.args {
        match fetch(cli, noun, name, parsed.bool("size"), &platform) {
            Ok(raw) => {
                if let Err(failure) = inspector.add(&raw, None) {
                    failures.add(failure.text);
                }
            }
            Err(e) => failures.add(e),
        }
    }
    cli.print(&inspector.finish())?;
    failures.finish()
}
