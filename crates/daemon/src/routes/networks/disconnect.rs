//! `POST /networks/{id}/disconnect`: takes a container off a network.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "networks/{id}/disconnect",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::network::ConnectRequest = request.json()?;
    engine::net_change::disconnect(engine, request.parameter("id"), &wanted.container, wanted.force)?;
    Ok(Answer::Empty(200))
}
