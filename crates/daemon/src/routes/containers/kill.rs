//! `POST /containers/{id}/kill`: sends a signal.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/kill",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    engine::stop::kill(engine, request.parameter("id"), request.query.text("signal"))?;
    Ok(Answer::Empty(204))
}
