//! `GET /exec/{id}/json`: what is known of an exec.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "exec/{id}/json",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    Answer::json(&engine::exec::inspect(engine, request.parameter("id"))?)
}
