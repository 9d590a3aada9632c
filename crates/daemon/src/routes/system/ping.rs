//! `GET /_ping`: the daemon lives. Clients learn versions and features from its headers.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "GET",
    path: "_ping",
    run,
};

fn run(_: &Arc<Engine>, _: Request) -> Result<Answer> {
    let headers = vec![
        ("builder-version", "1".to_string()),
        ("cache-control", "no-cache, no-store, must-revalidate".to_string()),
        ("pragma", "no-cache".to_string()),
        ("swarm", "inactive".to_string()),
    ];
    Ok(Answer::Body {
        status: 200,
        kind: "text/plain; charset=utf-8",
        bytes: b"OK".to_vec(),
        headers,
    })
}
