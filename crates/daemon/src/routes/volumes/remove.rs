//! `DELETE /volumes/{name}`: removes a volume.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "DELETE",
    path: "volumes/{name}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    engine::volume::remove(engine, request.parameter("name"), request.query.flag("force"))?;
    Ok(Answer::Empty(204))
}
