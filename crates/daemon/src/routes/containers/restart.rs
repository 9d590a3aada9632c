//! `POST /containers/{id}/restart`: ends a container and starts it.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/restart",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let timeout = request.query.number("t")?;
    engine::stop::restart(engine, request.parameter("id"), request.query.text("signal"), timeout)?;
    Ok(Answer::Empty(204))
}
