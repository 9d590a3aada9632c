//! `POST /containers/prune`: removes containers that do not run.

use crate::route::{Answer, Request, Route};
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
    let until = filters
        .get("until")
        .and_then(|v| v.first())
        .and_then(|t| api::time::Time::parse_query(t));
    let (deleted, bytes) = engine::remove::prune(engine, |record| {
        let labels = record.disk.config.labels.clone().unwrap_or_default();
        let has = |wanted: &String| engine::image::matches_label(&labels, wanted);
        let created = api::time::Time::parse(&record.disk.created);
        filters.get("label").is_none_or(|l| l.iter().all(has))
            && filters.get("label!").is_none_or(|l| !l.iter().any(has))
            && until.is_none_or(|until| created.is_some_and(|at| at < until))
    });
    Answer::json(&serde_json::json!({"ContainersDeleted": deleted, "SpaceReclaimed": bytes}))
}
