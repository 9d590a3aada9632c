//! `GET /networks/{id}`: one network, with its containers.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "networks/{id}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    Answer::json(&engine::net::inspect(engine, request.parameter("id"))?)
}
