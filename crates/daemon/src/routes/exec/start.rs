//! `POST /exec/{id}/start`: starts a prepared process and joins its streams.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::attach::Client;
use engine::error::{Error, Result};
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
    let tty = exec::tty_of(engine, &id)?;
    let kind = super::stream_kind(&request, !tty);
    let started = match exec::start(engine, &id, false, wanted.console_size) {
        Ok(started) => started,
        // What keeps the command from running is the command's output, as with Docker; its exit code says the rest.
        Err(e) if exec::has_run(engine, &id) => {
            let text = format!("{e}\r\n");
            return Ok(Answer::Hijack {
                kind,
                run: Box::new(move |mut connection| {
                    let mut bytes = Vec::new();
                    if !tty {
                        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                        bytes.extend_from_slice(&api::stdcopy::header(api::stdcopy::Stream::Stdout, length));
                    }
                    bytes.extend_from_slice(text.as_bytes());
                    connection.output.write_all(&bytes).map_err(|_| Error::cancelled())
                }),
            });
        }
        Err(e) => return Err(e),
    };
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
