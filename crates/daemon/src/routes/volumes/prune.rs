//! `POST /volumes/prune`: removes volumes that nobody has.

use crate::route::{Answer, Request, Route};
use crate::routes::chosen::Chosen;
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "volumes/prune",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(&["all", "label", "label!"])?;
    // Until API 1.41 named volumes were pruned too.
    let all = filters
        .get("all")
        .is_some_and(|v| v.iter().any(|v| v == "1" || v == "true"))
        || !request.at_least(1, 42);
    let chosen = Chosen::read(&filters)?;
    let (deleted, bytes) = engine::volume::prune(engine, all, |volume| chosen.takes(&volume.labels, None))?;
    Answer::json(&serde_json::json!({"VolumesDeleted": deleted, "SpaceReclaimed": bytes}))
}
