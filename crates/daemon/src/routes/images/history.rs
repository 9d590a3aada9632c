//! `GET /images/{name}/history`: how an image came to be.

use super::platform_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "images/{name*}/history",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let platform = platform_of(engine, &request, "platform")?;
    Answer::json(&engine::image::history(
        engine,
        request.parameter("name"),
        platform.as_ref(),
    )?)
}
