//! `POST /networks/prune`: removes networks that no container is on.

use crate::route::{Answer, Request, Route};
use crate::routes::chosen::Chosen;
use api::time::Time;
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "networks/prune",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let filters = request.query.filters(&["label", "label!", "until"])?;
    let chosen = Chosen::read(&filters)?;
    let removed = engine::net_change::prune(engine, |network| {
        chosen.takes(&network.labels, Some(Time::of(network.created)))
    });
    let removed = (!removed.is_empty()).then_some(removed);
    Answer::json(&serde_json::json!({"NetworksDeleted": removed}))
}
