//! `POST /containers/{id}/resize`: sets the size of a container's terminal.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/resize",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let (height, width) = super::size_of(&request)?;
    engine::exec::resize_container(engine, request.parameter("id"), height, width)?;
    Ok(Answer::Empty(200))
}
