//! `POST /containers/{id}/pause`: freezes a container.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/pause",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    engine::update::pause(engine, request.parameter("id"))?;
    Ok(Answer::Empty(204))
}
