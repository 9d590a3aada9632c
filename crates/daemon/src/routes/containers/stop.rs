//! `POST /containers/{id}/stop`: ends a container, with patience.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/stop",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let timeout = request.query.number("t")?;
    engine::stop::stop(engine, request.parameter("id"), request.query.text("signal"), timeout)?;
    Ok(Answer::Empty(204))
}
