//! `POST /containers/create`: makes a container.

use super::super::images::create::platform;
use crate::route::{Answer, Request, Route};
use api::container::CreateRequest;
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/create",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let bytes = request.json_bytes()?;
    let wanted = CreateRequest::from_slice(&bytes).map_err(crate::route::bad_json)?;
    let platform = platform(engine, request.query.text("platform"))?;
    if platform.is_some() && !wanted.config.image.is_empty() {
        engine::image::find_for(engine, &wanted.config.image, platform.as_ref())?;
    }
    let made = engine::create::create(engine, request.query.text("name"), wanted)?;
    Answer::json_status(201, &made)
}
