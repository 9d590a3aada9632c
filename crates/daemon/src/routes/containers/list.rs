//! `GET /containers/json`: containers, the running ones unless more is asked for.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "containers/json",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let query = &request.query;
    let limit = query
        .number("limit")?
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    let options = engine::list::Options {
        all: query.flag("all"),
        size: query.flag("size"),
        limit,
        filters: query.filters(engine::list::FILTERS)?,
    };
    Answer::json(&engine::list::list(engine, &options)?)
}
