//! `GET /distribution/{name}/json`: what a registry has under a name.

use super::create::auth_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::distribution;
use engine::error::{Error, Result};
use oci::reference::Reference;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "distribution/{name*}/json",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let reference = Reference::parse(request.parameter("name")).map_err(|e| Error::invalid(e.to_string()))?;
    let auth = auth_of(&request)?;
    Answer::json(&distribution::inspect(
        engine,
        &reference.or_latest(),
        auth,
        &request.cancel,
    )?)
}
