//! `GET /containers/{id}/export`: a container's files as a tar.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "containers/{id}/export",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let name = request.parameter("id").to_string();
    let engine = engine.clone();
    Ok(Answer::Stream {
        kind: "application/octet-stream",
        headers: Vec::new(),
        run: Box::new(move |mut out| engine::export::export(&engine, &name, &mut out)),
    })
}
