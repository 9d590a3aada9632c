//! Routes of Docker's that balena does not serve: they say so, instead of not being there.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use std::sync::Arc;

fn run(_: &Arc<Engine>, _: Request) -> Result<Answer> {
    Err(Error::not_supported("this request"))
}

const fn route(method: &'static str, path: &'static str) -> Route {
    Route { method, path, run }
}

/// What is asked of Docker and not served here; a later version may.
pub const ROUTES: &[Route] = &[
    route("POST", "build"),
    route("POST", "build/cancel"),
    route("POST", "session"),
    route("POST", "grpc"),
    route("GET", "containers/{id}/stats"),
    route("GET", "containers/{id}/attach/ws"),
    route("GET", "containers/{id}/checkpoints"),
    route("POST", "containers/{id}/checkpoints"),
    route("POST", "swarm/{verb}"),
    route("GET", "swarm/{verb}"),
    route("POST", "services/create"),
    route("POST", "secrets/create"),
    route("POST", "configs/create"),
    route("POST", "plugins/{verb}"),
    route("GET", "plugins/privileges"),
    route("GET", "plugins/{name*}/json"),
];
