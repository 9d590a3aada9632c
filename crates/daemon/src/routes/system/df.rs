//! `GET /system/df`: what takes space.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "system/df",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let kinds = request.query.all("type");
    Answer::json(&engine::info::disk_usage(engine, kinds, request.version)?)
}
