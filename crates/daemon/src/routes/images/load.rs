//! `POST /images/load`: loads images from an archive.

use super::platform_of;
use crate::route::{Answer, Request, Route, drain};
use engine::Engine;
use engine::error::Result;
use engine::load;
use engine::progress::Progress;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/load",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let platform = platform_of(engine, &request, "platform")?;
    let quiet = request.query.flag("quiet");
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    let mut body = std::mem::replace(&mut request.body, Box::new(std::io::empty()));
    Ok(Answer::json_stream(move |out| {
        let progress = Progress::new(out);
        let wanted = load::Request {
            archive: &mut body,
            platform: platform.as_ref(),
            quiet,
        };
        let loaded = load::load(&engine, wanted, &progress, &cancel);
        if loaded.is_err() && !cancel.is_set() {
            drain(&mut body);
        }
        // As with Docker always a line: clients look for it there, whatever the status.
        loaded.inspect_err(|error| progress.error(error))
    }))
}
