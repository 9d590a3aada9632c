//! `POST /images/load`: loads images from an archive.

use super::{Late, platform_of};
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
        let late = Late::new(out);
        let progress = Progress::new(Box::new(late.clone()));
        let wanted = load::Request {
            archive: &mut body,
            platform: platform.as_ref(),
            quiet,
        };
        let loaded = load::load(&engine, wanted, &progress, &cancel);
        if loaded.is_err() && !cancel.is_set() {
            drain(&mut body);
        }
        loaded.inspect_err(|error| {
            // Before the first line the error is the answer, after it the last line.
            if late.begun() {
                progress.error(error);
            }
        })
    }))
}
