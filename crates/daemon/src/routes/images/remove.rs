//! `DELETE /images/{name}`: removes a name, and with its last one the image.

use super::platform_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "DELETE",
    path: "images/{name*}",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let (force, keep) = (request.query.flag("force"), request.query.flag("noprune"));
    if request.query.all("platforms").len() > 1 {
        return Err(Error::invalid(
            "an image here is of one platform: name no more than one",
        ));
    }
    let platform = platform_of(engine, &request, "platforms")?;
    if platform.is_some() {
        engine::image::find_for(engine, request.parameter("name"), platform.as_ref())?;
    }
    Answer::json(&engine::tag::remove(engine, request.parameter("name"), force, !keep)?)
}
