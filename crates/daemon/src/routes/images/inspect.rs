//! `GET /images/{name}/json`: one image.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "images/{name*}/json",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    Answer::json(&engine::image::inspect(
        engine,
        request.parameter("name"),
        request.version,
    )?)
}
