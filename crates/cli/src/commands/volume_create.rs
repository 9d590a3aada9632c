//! `volume create`: makes a volume.

use super::container_flags::check_label;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Kind, Parsed};
use api::client::Request;
use api::volume::{CreateRequest, Volume};

pub const COMMAND: Command = Command::new(
    &["volume create"],
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    Args::AtMost(1),
    run,
)
.flags(&[&[
    Flag::text("driver", "Specify volume driver name")
        .short('d')
        .default("\"local\""),
    Flag::list("label", "Set metadata for a volume").check(check_label),
    Flag::alias("name", "name", Kind::Text("string")),
    Flag::new("opt", Kind::List("map"), "Set driver specific options")
        .short('o')
        .default("map[]"),
]])
.examples(&[
    "volume create data",
    "volume create -o type=tmpfs -o device=tmpfs scratch",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    if parsed.given("name") && !parsed.args.is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
        ));
    }
    let name = parsed.get("name").unwrap_or(parsed.first());
    let wanted = CreateRequest {
        name: name.to_string(),
        driver: parsed.get("driver").unwrap_or("local").into(),
        driver_opts: Some(parsed.map("opt")),
        labels: Some(parsed.map("label")),
    };
    let made: Volume = cli
        .client
        .send(Request::post("/volumes/create").json(&wanted)?)?
        .json()?;
    cli.say(made.name)
}
