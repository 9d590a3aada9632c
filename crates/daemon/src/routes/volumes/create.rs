//! `POST /volumes/create`: makes a volume.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "volumes/create",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let wanted: api::volume::CreateRequest = request.json()?;
    Answer::json_status(201, &engine::volume::create(engine, &wanted)?)
}
