//! `POST /images/create`: pulls an image, or imports one.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Result};
use engine::find_delta::Mode;
use engine::progress::Progress;
use engine::pull;
use oci::platform::Platform;
use oci::reference::Reference;
use registry::Auth;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/create",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let query = &request.query;
    if query.get("fromSrc").is_some_and(|source| !source.is_empty()) {
        return super::import::run(engine, request);
    }
    let named = Reference::parse(query.text("fromImage")).map_err(|e| Error::invalid(e.to_string()))?;
    // A name alone is all its tags.
    let all = query.text("tag").is_empty() && named.tag().is_none() && named.digest().is_none();
    let reference = match all {
        true => named,
        false => reference(query.text("fromImage"), query.text("tag"))?,
    };
    let platform = platform(engine, query.text("platform"))?;
    let auth = auth_of(&request)?;
    let delta = match query.text("delta") {
        "" => engine.config.delta,
        text => {
            Mode::parse(text).ok_or_else(|| Error::invalid(format!("delta={text}: known are auto, off and only")))?
        }
    };
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::json_stream(move |out| {
        let late = super::Late::new(out);
        let key = (reference.canonical(), platform.clone(), auth.clone(), delta);
        let pulled = engine
            .pulls
            .run(key, Box::new(late.clone()), &cancel, |progress, cancel| {
                let wanted = pull::Request {
                    reference: &reference,
                    platform: platform.as_ref(),
                    auth,
                    delta,
                };
                match all {
                    true => pull::pull_all(&engine, wanted, progress, cancel),
                    false => pull::pull(&engine, wanted, progress, cancel).map(drop),
                }
            });
        pulled.inspect_err(|error| {
            // Before the first line the error is the answer, after it the last line.
            if late.begun() {
                Progress::new(Box::new(late.clone())).error(error);
            }
        })
    }))
}

/// A platform as `os[/arch[/variant]]`.
pub fn platform(engine: &Engine, text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    let why = match text.split('/').count() {
        ..=3 => "unknown operating system or architecture",
        _ => "cannot parse platform specifier",
    };
    match Platform::parse(text, &engine.config.platform) {
        None => Err(Error::invalid(format!("\"{text}\": {why}: invalid argument"))),
        Some(platform) if platform.os != "linux" => Err(Error::invalid("operating system is not supported")),
        platform => Ok(platform),
    }
}

/// The reference that a client splits into a name and a tag or digest.
pub fn reference(name: &str, tag: &str) -> Result<Reference> {
    let bad = |e: oci::reference::ReferenceError| Error::invalid(e.to_string());
    let reference = Reference::parse(name).map_err(bad)?;
    if tag.is_empty() {
        return Ok(reference.or_latest());
    }
    match oci::digest::Digest::parse(tag) {
        Ok(digest) => Ok(reference.with_digest(&digest)),
        Err(_) => reference
            .with_tag(tag)
            .ok_or_else(|| Error::invalid("invalid tag format")),
    }
}

/// The credentials of `X-Registry-Auth`; what is no credentials is none, as in Docker.
pub fn auth_of(request: &Request) -> Result<Auth> {
    match request.headers.get("x-registry-auth") {
        None | Some("") => Ok(Auth::Anonymous),
        Some(text) => Ok(Auth::from_header(text).unwrap_or_else(|e| {
            log::warn!("{e}; going on without credentials");
            Auth::Anonymous
        })),
    }
}
