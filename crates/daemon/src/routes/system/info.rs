//! `GET /info`: the machine, and how the engine is set up.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "info",
    run,
};

fn run(engine: &Arc<Engine>, _: Request) -> Result<Answer> {
    Answer::json(&engine::info::info(engine))
}
