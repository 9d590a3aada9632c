//! `POST /containers/{id}/exec`: prepares a further process.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/exec",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::exec::CreateRequest = request.json()?;
    let id = engine::exec::create(engine, request.parameter("id"), wanted)?;
    Answer::json_status(201, &api::exec::IdResponse { id })
}
