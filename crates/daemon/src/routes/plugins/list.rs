//! `GET /plugins`: there are none; clients ask before they start.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "plugins",
    run,
};

fn run(_: &Arc<Engine>, _: Request) -> Result<Answer> {
    Answer::json(&Vec::<String>::new())
}
