//! `POST /containers/prune`: removes containers that do not run.

use crate::route::{Answer, Request, Route};
use crate::routes::chosen::Chosen;
use api::time::Time;
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "containers/prune",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(&["label", "label!", "until"])?;
    let chosen = Chosen::read(&filters)?;
    let (deleted, bytes) = engine::remove::prune(engine, |record| {
        let labels = record.disk.config.labels.clone().unwrap_or_default();
        chosen.takes(&labels, Time::parse(&record.disk.created))
    });
    Answer::json(&serde_json::json!({"ContainersDeleted": deleted, "SpaceReclaimed": bytes}))
}
