//! `DELETE /containers/{id}`: removes a container.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "DELETE",
    path: "containers/{id}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let query = &request.query;
    if query.flag("link") {
        return Err(Error::not_supported("removing a link"));
    }
    let options = engine::remove::Options {
        force: query.flag("force"),
        volumes: query.flag("v"),
    };
    engine::remove::remove(engine, request.parameter("id"), options)?;
    Ok(Answer::Empty(204))
}
