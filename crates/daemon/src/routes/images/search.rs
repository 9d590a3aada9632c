//! `GET /images/search`: asks an index for images.

use super::create::auth_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use engine::search;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "images/search",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(search::FILTERS)?;
    let found = search::search(
        engine,
        request.query.text("term"),
        request.query.get("limit"),
        &filters,
        &auth_of(&request)?,
        &request.cancel,
    )?;
    Answer::json(&found)
}
