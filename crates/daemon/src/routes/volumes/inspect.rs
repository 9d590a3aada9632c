//! `GET /volumes/{name}`: one volume.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "volumes/{name}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    Answer::json(&engine::volume::inspect(engine, request.parameter("name"))?)
}
