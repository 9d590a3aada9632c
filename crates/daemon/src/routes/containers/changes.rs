//! `GET /containers/{id}/changes`: what a container changed in its image's files.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "containers/{id}/changes",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    Answer::json(&engine::diff::changes(engine, request.parameter("id"))?)
}
