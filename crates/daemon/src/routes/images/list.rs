//! `GET /images/json`: all images.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "images/json",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let mut filters = request.query.filters(engine::image::FILTERS)?;
    // Before API 1.41 there was a filter of its own for names.
    if let Some(name) = request.query.get("filter") {
        filters.entry("reference".into()).or_default().push(name.into());
    }
    let options = engine::image::ListOptions {
        all: request.query.flag("all"),
        shared_size: request.query.flag("shared-size"),
        filters,
    };
    Answer::json(&engine::image::list(engine, &options, request.version)?)
}
