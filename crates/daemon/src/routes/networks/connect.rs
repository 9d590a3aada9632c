//! `POST /networks/{id}/connect`: puts a container on a network.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "networks/{id}/connect",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::network::ConnectRequest = request.json()?;
    let endpoint = wanted.endpoint_config.unwrap_or_default();
    engine::net_change::connect(engine, request.parameter("id"), &wanted.container, endpoint)?;
    Ok(Answer::Empty(200))
}
