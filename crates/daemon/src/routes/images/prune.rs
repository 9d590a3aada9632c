//! `POST /images/prune`: removes images that no container has.

use crate::route::{Answer, Request, Route};
use api::time::Time;
use engine::Engine;
use engine::error::{Error, Result};
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/prune",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(&["dangling", "label", "label!", "until"])?;
    // Only images without a name, unless told that dangling is not asked for.
    let all = filters
        .get("dangling")
        .is_some_and(|v| v.iter().any(|v| v == "false" || v == "0"));
    let until = match filters.get("until").and_then(|values| values.first()) {
        None => None,
        Some(text) => Some(
            Time::parse_query(text)
                .ok_or_else(|| Error::invalid(format!("failed to parse value as time or duration: \"{text}\"")))?,
        ),
    };
    let (deleted, bytes) = engine::tag::prune(engine, all, |config| {
        let labels = engine::image::labels_of(config);
        let has = |wanted: &String| engine::image::matches_label(&labels, wanted);
        let created = config.created.as_deref().and_then(Time::parse);
        filters.get("label").is_none_or(|l| l.iter().all(has))
            && filters.get("label!").is_none_or(|l| !l.iter().any(has))
            && until.is_none_or(|until| created.is_some_and(|at| at < until))
    })?;
    Answer::json(&serde_json::json!({"ImagesDeleted": json::to_value(&deleted), "SpaceReclaimed": bytes}))
}
