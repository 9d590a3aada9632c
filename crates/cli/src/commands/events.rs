//! `events`: what happens in the engine, as it happens.

use super::formats;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::units::parse_moment;
use api::client::Request;
use api::event::Event;
use api::time::Time;
use std::io::{BufRead, BufReader};
use template::{Template, Type, Value};

pub const COMMAND: Command = Command::new(
    &["system events", "events"],
    "[OPTIONS]",
    "Get real time events from the server",
    Args::None,
    run,
)
.flags(&[&[
    formats::FILTER,
    Flag::text("format", formats::HELP),
    Flag::text("since", "Show all events created since timestamp"),
    Flag::text("until", "Stream events until this timestamp"),
]])
.examples(&["events --since 10m --filter type=container", "events --format json"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let template = match parsed.text("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        format => Some(format),
    };
    let template = template.map(Template::parse).transpose().map_err(|why| Failure {
        code: 64,
        text: format!("Error parsing format: {why}"),
    })?;
    let moment = |name: &str| {
        parse_moment(parsed.text(name)).map_err(|_| {
            Failure::new(format!(
                "Error response from daemon: failed to parse value as time or duration: {}",
                api::quote::quote(parsed.text(name))
            ))
        })
    };
    let request = Request::get("/events")
        .query_unless_empty("since", &moment("since")?)
        .query_unless_empty("until", &moment("until")?)
        .query_unless_empty("filters", &formats::filters(parsed));
    let mut lines = BufReader::new(cli.client.send(request)?.body);
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        let bad = |e: json::Error| Failure::new(format!("read the daemon's event: {e}"));
        let Some(template) = &template else {
            let event: Event = json::from_slice(line.as_bytes()).map_err(bad)?;
            cli.say(show(&event))?;
            continue;
        };
        let json = json::from_str(&line).map_err(bad)?;
        let value = Value::typed(&json, &Type::parse("events.Message"));
        match template.execute(&value) {
            Ok(text) => cli.say(text)?,
            Err((_, why)) => return Err(Failure::new(why)),
        }
    }
}

/// `2026-11-23T18:20:48.000000001Z container start ID (image=busybox, name=web)`.
fn show(event: &Event) -> String {
    let nanos = if event.time_nano != 0 {
        event.time_nano
    } else {
        event.time.saturating_mul(1_000_000_000)
    };
    let time = Time {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: 0,
    }
    .to_rfc3339();
    let mut text = format!(
        "{}.{:09}Z {} {} {}",
        time.trim_end_matches('Z'),
        nanos.rem_euclid(1_000_000_000),
        event.kind,
        event.action,
        event.actor.id
    );
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event
            .actor
            .attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}
