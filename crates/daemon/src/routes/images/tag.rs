//! `POST /images/{name}/tag`: gives an image a further name.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/{name*}/tag",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let query = &request.query;
    engine::tag::tag(engine, request.parameter("name"), query.text("repo"), query.text("tag"))?;
    Ok(Answer::Empty(201))
}
