//! `GET /containers/{id}/json`: all about a container.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "containers/{id}/json",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let size = request.query.flag("size");
    Answer::json(&engine::inspect::inspect(engine, request.parameter("id"), size)?)
}
