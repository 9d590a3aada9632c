//! `DELETE /images/{name}`: removes a name, and with its last one the image.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "DELETE",
    path: "images/{name*}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let (force, keep) = (request.query.flag("force"), request.query.flag("noprune"));
    Answer::json(&engine::tag::remove(engine, request.parameter("name"), force, !keep)?)
}
