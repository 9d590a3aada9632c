//! `POST /exec/{id}/start`: starts a prepared process and joins its streams.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::attach::Client;
use engine::error::Result;
use engine::exec;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "exec/{id}/start",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::exec::StartRequest = request.json_or_default()?;
    let id = request.parameter("id").to_string();
    if wanted.detach {
        exec::start(engine, &id, true, wanted.console_size)?;
        return Ok(Answer::Empty(200));
    }
    let started = exec::start(engine, &id, false, wanted.console_size)?;
    let kind = super::stream_kind(&request, !started.tty());
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::Hijack {
        kind,
        run: Box::new(move |connection| {
            let client = Client {
                input: connection.input,
                output: connection.output,
                socket: connection.socket,
            };
            started.run(&engine, client, &cancel)
        }),
    })
}
