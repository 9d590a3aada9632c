//! `image delta`: makes what turns one image into another.

use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::delta;
use crate::flags::{Flag, Parsed};
use crate::output::Output;
use crate::progress::{self, Shown};
use crate::terminal;
use api::client::Request;
use api::delta::{Job, Outcome};

pub const COMMAND: Command = Command::new(
    &["image delta"],
    "[OPTIONS] SRC [SRC...] DEST",
    "Make the delta that turns image SRC into image DEST, from each SRC.\nA name that begins with \".\" or \"/\" is an archive of \"save\" or an OCI layout as a tar; no daemon is needed then",
    Args::AtLeast(2),
    run,
)
.flags(&[&[
    Flag::text("format", "\"file\": per layer and file, small to send and to apply; \"balena\": an image that balenaEngine understands")
        .default("file"),
    Flag::text("output", "Write an archive for \"load\", for instance on a USB stick; \"-\" or nothing is STDOUT").short('o'),
    Flag::bool("push", "Push to DEST's repository, where \"pull\" finds it"),
    Flag::bool("dry-run", "Only say how large it is, and what in it is"),
    Flag::text("tag", "Name of the image: with \"balena\" of the delta, in an archive of what it makes").short('t'),
    Flag::bool("together", "All SRC are one base, for devices that have all of them"),
    Flag::bool("registry", "SRC and DEST are in registries; no daemon is needed"),
    Flag::text("platform", "Of archives and registries: \"os[/arch[/variant]]\", or \"all\""),
    Flag::list("insecure-registry", "Registry that is spoken to without TLS, when no daemon is"),
    Flag::text("temp", "Directory for temporary files, when no daemon is needed"),
]])
.examples(&[
    "image delta app:1 app:2 --dry-run",
    "image delta app:1 app:2 -o app-1-2.delta",
    "image delta --push registry.example/app:1 registry.example/app:2",
    "image delta --registry --push --platform all registry.example/app:1 registry.example/app:2 registry.example/app:3",
    "image delta ./app-1.tar ./app-2.tar -o app-1-2.delta",
    "image delta --format balena -t app:delta-1-2 app:1 app:2",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let Some((target, sources)) = parsed.args.split_last() else {
        return Err(Failure::new("two images are needed"));
    };
    let together = parsed.bool("together");
    let (push, dry) = (parsed.bool("push"), parsed.bool("dry-run"));
    let platform = parsed.text("platform");
    let named = parsed.given("tag");
    let is_path = |name: &String| name.starts_with(['.', '/']);
    let alone = parsed.bool("registry") || parsed.args.iter().any(is_path);
    match parsed.get("format") {
        None | Some("file") => {}
        Some("balena") if !platform.is_empty() => {
            return Err(Failure::new(
                "--platform is not for the format balena, which is made of a daemon's images",
            ));
        }
        Some("balena") if alone => return Err(Failure::new("the format balena is made by a daemon, of its images")),
        Some("balena") => return balena(cli, sources, target, parsed),
        Some(other) => return Err(Failure::new(format!("unknown format {other:?}: file or balena"))),
    }
    let to_file = parsed.given("output");
    if u8::from(push) + u8::from(dry) + u8::from(to_file) > 1 {
        return Err(Failure::new("--push, --dry-run and --output exclude each other"));
    }
    if named && (push || dry) {
        return Err(Failure::new(
            "--tag names the image of an archive: it is of no use to --push and --dry-run",
        ));
    }
    if !alone && !platform.is_empty() {
        return Err(Failure::new(
            "--platform is for archives and, with --registry, for registries",
        ));
    }
    let outcome = match (push, dry) {
        (true, _) => Outcome::Push,
        (_, true) => Outcome::Nothing,
        _ => Outcome::Archive,
    };
    let output = match outcome {
        Outcome::Archive => Some(file(parsed.text("output"))?),
        _ => None,
    };
    let answer = match alone {
        false => delta::by_daemon(cli, (sources, together), target, outcome, parsed.text("tag"))?,
        true => {
            let job = Job {
                sources: sources.to_vec(),
                target: target.clone(),
                together,
                platform: platform.to_lowercase(),
                outcome,
                name: parsed.text("tag").to_string(),
                insecure_registries: parsed.list("insecure-registry"),
                directory: parsed.text("temp").to_string(),
                ..Job::default()
            };
            delta::alone(cli, job)?
        }
    };
    delta::show(answer, output)
}

/// Where an archive goes.
pub fn file(path: &str) -> Result<Output, Failure> {
    let path = if path == "-" { "" } else { path };
    if path.is_empty() && terminal::is_output() {
        return Err(Failure::new(
            "cowardly refusing to write to a terminal. Use -o, --push or --dry-run, or redirect",
        ));
    }
    Output::check(path).map_err(|why| Failure::new(format!("failed to save delta: {why}")))
}

fn balena(cli: &Cli, sources: &[String], target: &str, parsed: &Parsed) -> Result<(), Failure> {
    let [source] = sources else {
        return Err(Failure::new("the format balena has one SRC"));
    };
    if parsed.given("output") || parsed.bool("push") || parsed.bool("dry-run") || parsed.bool("together") {
        return Err(Failure::new("the format balena makes an image: push or save that"));
    }
    let request = Request::post("/images/delta")
        .query("src", source.as_str())
        .query("dest", target)
        .query_unless_empty("t", parsed.text("tag"));
    let body = cli.client.send(request)?.body;
    progress::show(body, Shown::Output)
}
