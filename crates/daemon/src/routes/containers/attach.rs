//! `POST /containers/{id}/attach`: joins a connection with a container's streams.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::attach::{self, Client, Streams};
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/attach",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let query = &request.query;
    let streams = Streams {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let (logs, live) = (query.flag("logs"), query.flag("stream"));
    let name = request.parameter("id").to_string();
    let attachment = attach::begin(engine, &name, streams, query.text("detachKeys"))?;
    let kind = super::stream_kind(&request, !attachment.tty);
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::Hijack {
        kind,
        run: Box::new(move |mut connection| {
            if logs {
                attach::replay(&engine, &name, streams, &mut connection.output)?;
            }
            if !live {
                return Ok(());
            }
            let client = Client {
                input: connection.input,
                output: connection.output,
                socket: connection.socket,
            };
            attachment.run(client, &cancel)
        }),
    })
}
