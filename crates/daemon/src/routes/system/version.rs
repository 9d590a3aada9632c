//! `GET /version`: the engine's version and its parts'.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "version",
    run,
};

fn run(engine: &Arc<Engine>, _: Request) -> Result<Answer> {
    Answer::json(&engine::info::version(engine))
}
