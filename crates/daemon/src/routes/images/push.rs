//! `POST /images/{name}/push`: pushes a tag, or all tags of a repository.

use super::create::auth_of;
use super::{Late, platform_of};
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use engine::progress::Progress;
use engine::push;
use oci::reference::Reference;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/{name*}/push",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let reference = Reference::parse(request.parameter("name")).map_err(|e| Error::invalid(e.to_string()))?;
    let reference = match request.query.text("tag") {
        "" => reference,
        tag => reference
            .with_tag(tag)
            .ok_or_else(|| Error::invalid("invalid tag format"))?,
    };
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference"));
    }
    let auth = auth_of(&request)?;
    let platform = platform_of(engine, &request, "platform")?;
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::json_stream(move |out| {
        let late = Late::new(out);
        let progress = Progress::new(Box::new(late.clone()));
        let wanted = push::Request {
            reference: &reference,
            platform: platform.as_ref(),
            auth,
        };
        push::push(&engine, wanted, &progress, &cancel).inspect_err(|error| {
            if late.begun() {
                progress.error(error);
            }
        })
    }))
}
