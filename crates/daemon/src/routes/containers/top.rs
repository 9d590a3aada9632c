//! `GET /containers/{id}/top`: the processes of a container.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "containers/{id}/top",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    Answer::json(&engine::inspect::top(
        engine,
        request.parameter("id"),
        request.query.text("ps_args"),
    )?)
}
