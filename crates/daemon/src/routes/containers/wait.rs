//! `POST /containers/{id}/wait`: answers when a container has ended.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use engine::wait::{Condition, begin};
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/wait",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let condition = Condition::parse(request.query.text("condition"))?;
    let waiting = begin(engine, request.parameter("id"), condition)?;
    let cancel = request.cancel.clone();
    Ok(Answer::json_stream(move |mut out| {
        // The head goes out at once: it tells the client that from here on nothing is missed.
        out.flush().map_err(|_| Error::cancelled())?;
        let ended = waiting.end(&cancel)?;
        let mut line = json::to_vec(&ended);
        line.push(b'\n');
        out.write_all(&line).map_err(|_| Error::cancelled())
    }))
}
