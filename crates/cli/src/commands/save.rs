//! `save`: writes images to an archive.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::output::Output;
use crate::{delta, terminal};
use api::client::Request;
use api::delta::Outcome;

pub const COMMAND: Command = Command::new(
    &["image save", "save"],
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    Args::AtLeast(1),
    run,
)
.flags(&[&[
    Flag::text("output", "Write to a file, instead of STDOUT").short('o'),
    Flag::text(
        "platform",
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::list(
        "delta-from",
        "Save only what makes the image from that one, for devices that have it",
    ),
]])
.examples(&[
    "save -o images.tar busybox alpine:3.20",
    "save --delta-from app:1 -o app-1-2.delta app:2",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let path = parsed.text("output");
    if path.is_empty() && terminal::is_output() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let bases = parsed.list("delta-from");
    if !bases.is_empty() {
        let [target] = &parsed.args[..] else {
            return Err(Failure::new("--delta-from is for one image"));
        };
        if parsed.given("platform") {
            return Err(Failure::new(
                "--delta-from saves the image that is here: it goes without --platform",
            ));
        }
        let output = Output::check(path).map_err(|why| Failure::new(format!("failed to save image: {why}")))?;
        let answer = delta::by_daemon(cli, (&bases, false), target, Outcome::Archive, "")?;
        return delta::show(answer, Some(output));
    }
    let platform = requests::platform_json(parsed.text("platform"))?;
    let output = Output::check(path).map_err(|why| Failure::new(format!("failed to save image: {why}")))?;
    let request = parsed
        .args
        .iter()
        .fold(Request::get("/images/get"), |request, name| {
            request.query("names", name.as_str())
        })
        .query_unless_empty("platform", &platform);
    let mut answer = cli.client.send(request)?;
    output.fill(&mut answer.body)
}
