//! `GET /swarm` and its kin: there is no swarm, said as a Docker outside of one says it.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Kind, Result};
use std::sync::Arc;

pub const SWARM: Route = Route {
    method: "GET",
    path: "swarm",
    run,
};
pub const NODES: Route = Route {
    method: "GET",
    path: "nodes",
    run,
};
pub const SERVICES: Route = Route {
    method: "GET",
    path: "services",
    run,
};
pub const TASKS: Route = Route {
    method: "GET",
    path: "tasks",
    run,
};
pub const SECRETS: Route = Route {
    method: "GET",
    path: "secrets",
    run,
};
pub const CONFIGS: Route = Route {
    method: "GET",
    path: "configs",
    run,
};

fn run(_: &Arc<Engine>, _: Request) -> Result<Answer> {
    Err(Error::new(
        Kind::Unavailable,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}
