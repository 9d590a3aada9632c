//! `POST /networks/prune`: removes networks that nobody uses. There are only the predefined ones, which stay.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "networks/prune",
    run,
};

fn run(_: &Arc<Engine>, request: Request) -> Result<Answer> {
    request.query.filters(&["label", "label!", "until"])?;
    Answer::json(&serde_json::json!({"NetworksDeleted": null}))
}
