//! `POST /images/delta?src=&dest=&t=&format=`: makes a delta between two images.
//!
//! Without `format`, or with `format=balena`, it is balenaEngine's: an image, named by `t`; the answer is lines of
//! progress. With `format=file` it is ours, from each `src`: an archive, named by `t`; with `push=1` it goes beside the
//! target in its registry, with `dry=1` nowhere. The answer then is both streams of lines and archive, in frames.

use super::Late;
use super::create::auth_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use engine::make_delta::{self, Framed, Outcome};
use engine::progress::Progress;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/delta",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let sources = request.query.all("src").to_vec();
    let target = request.query.text("dest").to_string();
    if sources.iter().all(String::is_empty) || target.is_empty() {
        return Err(Error::invalid("src and dest must name images"));
    }
    let name = make_delta::name(request.query.text("t"))?;
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    match request.query.text("format") {
        "" | "balena" => {
            let [source] =
                <[String; 1]>::try_from(sources).map_err(|_| Error::invalid("balena's format has one src"))?;
            Ok(Answer::json_stream(move |out| {
                let late = Late::new(out);
                let progress = Progress::new(Box::new(late.clone()));
                let made = make_delta::balena::make(&engine, &source, &target, name.as_ref(), &progress, &cancel);
                made.map(drop).inspect_err(|error| {
                    // Before the first line the error is the answer, after it the last line.
                    if late.begun() {
                        progress.error(error);
                    }
                })
            }))
        }
        "file" => {
            let outcome = match (request.query.flag("push"), request.query.flag("dry")) {
                (true, true) => return Err(Error::invalid("push and dry exclude each other")),
                (true, false) => Outcome::Push,
                (false, true) => Outcome::Nothing,
                (false, false) => Outcome::Archive,
            };
            let auth = auth_of(&request)?;
            Ok(Answer::Stream {
                kind: "application/vnd.docker.multiplexed-stream",
                headers: Vec::new(),
                run: Box::new(move |out| {
                    let late = Late::new(out);
                    let (lines, mut archive) = Framed::pair(Box::new(late.clone()));
                    let progress = Progress::new(Box::new(lines));
                    let wanted = make_delta::Request {
                        sources: &sources,
                        target: &target,
                        outcome,
                        name,
                        auth,
                    };
                    make_delta::make(&engine, wanted, &progress, &mut archive, &cancel).inspect_err(|error| {
                        if late.begun() {
                            progress.error(error);
                        }
                    })
                }),
            })
        }
        other => Err(Error::invalid(format!("unknown format {other:?}: balena or file"))),
    }
}
