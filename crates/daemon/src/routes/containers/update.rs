//! `POST /containers/{id}/update`: changes limits and the restart policy.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/{id}/update",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::host_config::HostConfig = request.json()?;
    let warnings = engine::update::update(engine, request.parameter("id"), &wanted)?;
    Answer::json(&api::container::UpdateResponse {
        warnings: Some(warnings).filter(|w| !w.is_empty()),
    })
}
