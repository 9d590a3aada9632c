//! `POST /build/prune`: removes the builder's cache, of which there is none.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "build/prune",
    run,
};

fn run(_: &Arc<Engine>, _: Request) -> Result<Answer> {
    Answer::json(&serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}
