//! `POST /containers/{id}/unpause`: lets a frozen container run again.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/unpause",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    engine::update::unpause(engine, request.parameter("id"))?;
    Ok(Answer::Empty(204))
}
