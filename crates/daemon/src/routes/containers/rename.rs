//! `POST /containers/{id}/rename`: gives a container another name.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/rename",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    engine::create::rename(engine, request.parameter("id"), request.query.text("name"))?;
    Ok(Answer::Empty(204))
}
