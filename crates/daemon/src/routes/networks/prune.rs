//! `POST /networks/prune`: removes networks that no container is on.

use crate::route::{Answer, Request, Route};
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
    let of = |name: &str| filters.get(name).cloned().unwrap_or_default();
    let (labels, without, until) = (of("label"), of("label!"), of("until"));
    let until = until.first().and_then(|text| api::time::Time::parse_query(text));
    let removed = engine::net_change::prune(engine, |network| {
        labels
            .iter()
            .all(|wanted| engine::image::matches_label(&network.labels, wanted))
            && !without
                .iter()
                .any(|wanted| engine::image::matches_label(&network.labels, wanted))
            && until.is_none_or(|until| api::time::Time::of(network.created) < until)
    });
    let removed = (!removed.is_empty()).then_some(removed);
    Answer::json(&serde_json::json!({"NetworksDeleted": removed}))
}
