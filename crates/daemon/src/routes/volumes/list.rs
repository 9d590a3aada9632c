//! `GET /volumes`: all volumes.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "volumes",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(&["dangling", "driver", "label", "name"])?;
    Answer::json(&engine::volume::list(engine, &filters)?)
}
