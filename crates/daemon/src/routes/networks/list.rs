//! `GET /networks`: all networks.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "networks",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request
        .query
        .filters(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    Answer::json(&engine::net::list(engine, &filters)?)
}
