//! `GET /images/get` and `GET /images/{name}/get`: saves images as an archive.

use super::platform_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use engine::save;
use std::sync::Arc;

pub const SEVERAL: Route = Route {
    method: "GET",
    path: "images/get",
    run: several,
};

pub const ONE: Route = Route {
    method: "GET",
    path: "images/{name*}/get",
    run: one,
};

fn several(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let names = request.query.all("names").to_vec();
    if names.is_empty() {
        return Err(Error::invalid("no image to save: the query has no names"));
    }
    answer(engine, request, &names)
}

fn one(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let names = [request.parameter("name").to_string()];
    answer(engine, request, &names)
}

fn answer(engine: &Arc<Engine>, request: Request, names: &[String]) -> Result<Answer> {
    let platform = platform_of(engine, &request, "platform")?;
    let plan = save::plan(engine, names, platform.as_ref())?;
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::Stream {
        kind: "application/x-tar",
        headers: Vec::new(),
        run: Box::new(move |mut out| save::save(&engine, &plan, &mut out, &cancel)),
    })
}
