//! `POST /networks/create`: makes a network.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "networks/create",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::network::CreateRequest = request.json()?;
    let (id, warning) = engine::net_change::create(engine, &wanted)?;
    Answer::json_status(201, &api::network::Created { id, warning })
}
