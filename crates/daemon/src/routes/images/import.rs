//! `POST /images/create?fromSrc=-|URL`: makes an image from a tar of files.

use super::Late;
use super::create::{platform, reference};
use crate::route::{Answer, Request, drain};
use engine::Engine;
use engine::error::{Error, Result};
use engine::import::{self, Source};
use engine::progress::Progress;
use std::io::Read;
use std::sync::Arc;

pub fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let query = &request.query;
    let source = query.text("fromSrc").to_string();
    let reference = match query.text("repo") {
        "" => None,
        repository => Some(reference(repository, query.text("tag"))?),
    };
    if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
        return Err(Error::invalid("cannot import digest reference"));
    }
    let message = match query.text("message") {
        "" => format!("Imported from {source}"),
        message => message.to_string(),
    };
    let platform = platform(engine, query.text("platform"))?;
    let changes = query.all("changes").to_vec();
    let engine = engine.clone();
    let cancel = request.cancel.clone();
    let mut body: Box<dyn Read + Send> = std::mem::replace(&mut request.body, Box::new(std::io::empty()));
    Ok(Answer::json_stream(move |out| {
        let late = Late::new(out);
        let progress = Progress::new(Box::new(late.clone()));
        let url = address(&source);
        let wanted = import::Request {
            source: url.as_deref().map_or(Source::Body(&mut body), Source::Url),
            reference,
            message,
            changes,
            platform: platform.as_ref(),
        };
        let made = import::import(&engine, wanted, &progress, &cancel);
        if made.is_err() && !cancel.is_set() {
            drain(&mut body);
        }
        made.map(drop).inspect_err(|error| {
            // Before the first line the error is the answer, after it the last line.
            if late.begun() {
                progress.error(error);
            }
        })
    }))
}

/// The URL that a source is, if it is not the body; a host alone is asked by HTTP.
fn address(source: &str) -> Option<String> {
    match source {
        "-" => None,
        source if source.contains("://") => Some(source.to_string()),
        source => Some(format!("http://{source}")),
    }
}
