//! `GET /distribution/{name}/manifests`, ours: the manifests that a registry has under a name, for `manifest inspect`.

use super::create::auth_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::distribution;
use engine::error::{Error, Result};
use oci::reference::Reference;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "distribution/{name*}/manifests",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let reference = Reference::parse(request.parameter("name")).map_err(|e| Error::invalid(e.to_string()))?;
    let auth = auth_of(&request)?;
    Answer::json(&distribution::manifests(
        engine,
        &reference.or_latest(),
        auth,
        &request.cancel,
    )?)
}
