//! `DELETE /networks/{id}`: removes a network that no container is on.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "DELETE",
    path: "networks/{id}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    engine::net_change::remove(engine, request.parameter("id"))?;
    Ok(Answer::Empty(204))
}
