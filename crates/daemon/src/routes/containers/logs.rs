//! `GET /containers/{id}/logs`: what a container wrote.

use crate::route::{Answer, Request, Route};
use api::time::Time;
use engine::Engine;
use engine::error::{Error, Result};
use engine::logs::{self, Options};
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "containers/{id}/logs",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let query = &request.query;
    let moment = |name: &str| -> Result<Option<Time>> {
        match query.text(name) {
            "" | "0" => Ok(None),
            text => Time::parse_query(text)
                .map(Some)
                .ok_or_else(|| Error::invalid(format!("invalid value for \"{name}\": {text}"))),
        }
    };
    let options = Options {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        // Anything that is no number is all, as in Docker.
        tail: query.text("tail").parse().ok(),
        since: moment("since")?,
        until: moment("until")?,
    };
    let name = request.parameter("id").to_string();
    logs::check(engine, &name, &options)?;
    let kind = super::stream_kind(&request, logs::framed(engine, &name)?);
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::Stream {
        kind,
        headers: Vec::new(),
        run: Box::new(move |mut out| {
            out.flush().map_err(|_| Error::cancelled())?;
            logs::write(&engine, &name, &options, &mut out, Some(&cancel))
        }),
    })
}
