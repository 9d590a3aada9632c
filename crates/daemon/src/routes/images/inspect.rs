//! `GET /images/{name}/json`: one image.

use super::platform_of;
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
    let platform = platform_of(engine, &request, "platform")?;
    Answer::json(&engine::image::inspect(
        engine,
        request.parameter("name"),
        platform.as_ref(),
        request.version,
    )?)
}
