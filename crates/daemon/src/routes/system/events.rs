//! `GET /events`: what happens, as it happens, and what did since a moment.

use crate::route::{Answer, Request, Route};
use api::event::Event;
use api::time::Time;
use engine::Engine;
use engine::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "events",
    run,
};

/// How long a silent stream goes without looking whether its client is still there.
const PACE: Duration = Duration::from_millis(250);

const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let moment = |name: &str| -> Result<Option<Time>> {
        match request.query.text(name) {
            "" => Ok(None),
            text => Time::parse_query(text)
                .map(Some)
                .ok_or_else(|| Error::invalid(format!("invalid {name}: \"{text}\""))),
        }
    };
    let (since, until) = (moment("since")?, moment("until")?);
    let filters = request.query.filters(FILTERS)?;
    let cancel = request.cancel.clone();
    let engine = engine.clone();
    let mut at = if since.is_some() {
        engine.events.oldest()
    } else {
        engine.events.next()
    };
    Ok(Answer::json_stream(move |mut out| {
        let left = |_| Error::cancelled();
        out.flush().map_err(left)?;
        loop {
            let over = until.is_some_and(|until| Time::now() > until);
            let patience = if over { Duration::ZERO } else { PACE };
            let Some((events, next)) = engine.events.read(at, patience) else {
                return Ok(());
            };
            at = next;
            for event in &events {
                let nanos = |t: Time| t.as_nanos();
                let early = since.is_some_and(|since| event.time_nano < nanos(since));
                let late = until.is_some_and(|until| event.time_nano > nanos(until));
                if early || late || !passes(event, &filters) {
                    continue;
                }
                let mut line = json::to_vec(&**event);
                line.push(b'\n');
                out.write_all(&line).map_err(left)?;
            }
            if over || cancel.is_set() {
                return Ok(());
            }
        }
    }))
}

fn passes(event: &Event, filters: &crate::query::Filters) -> bool {
    let any = |name: &str, test: &dyn Fn(&String) -> bool| filters.get(name).is_none_or(|v| v.iter().any(test));
    let actor = |wanted: &String| {
        event.actor.id == *wanted
            || event.actor.id.starts_with(wanted.as_str())
            || event.actor.attributes.get("name").is_some_and(|n| n == wanted)
    };
    let of_kind = |kind: &str| any(kind, &|wanted| event.kind == kind && actor(wanted));
    let image = any("image", &|wanted| match event.kind.as_str() {
        "image" => actor(wanted) || event.actor.id.split(':').next() == Some(wanted.as_str()),
        _ => event
            .actor
            .attributes
            .get("image")
            .is_some_and(|i| i == wanted || i.split(':').next() == Some(wanted.as_str())),
    });
    any("type", &|kind| event.kind == *kind)
        && any("event", &|action| {
            event.action == *action || event.action.split(':').next() == Some(action.as_str())
        })
        && any("scope", &|scope| event.scope == *scope)
        && any("label", &|label| match label.split_once('=') {
            Some((key, value)) => event.actor.attributes.get(key).is_some_and(|v| v == value),
            None => event.actor.attributes.contains_key(label),
        })
        && of_kind("container")
        && of_kind("network")
        && of_kind("volume")
        && of_kind("daemon")
        && image
}
