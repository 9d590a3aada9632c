//! `POST /images/prune`: removes images that no container has.

use crate::route::{Answer, Request, Route};
use crate::routes::chosen::Chosen;
use api::time::Time;
use engine::Engine;
use engine::error::Result;
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
    let chosen = Chosen::read(&filters)?;
    let (deleted, bytes) = engine::tag::prune(engine, all, |config| {
        let created = config.created.as_deref().and_then(Time::parse);
        chosen.takes(&engine::image::labels_of(config), created)
    })?;
    Answer::json(&serde_json::json!({"ImagesDeleted": json::to_value(&deleted), "SpaceReclaimed": bytes}))
}
