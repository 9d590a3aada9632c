//! Requests that several commands make.

use crate::cli::Cli;
use crate::command::{Failure, Failures};
use crate::flags::Parsed;
use crate::progress::{self, Shown};
use crate::terminal;
use api::client::{Request, escape};
use oci::platform::Platform;
use oci::reference::{Reference, ReferenceError};

/// The path of a container, an exec, ….
pub fn path(noun: &str, name: &str, verb: &str) -> String {
    let name = escape(name, b"/:@+");
    if verb.is_empty() {
        format!("/{noun}/{name}")
    } else {
        format!("/{noun}/{name}/{verb}")
    }
}

/// Does one thing to each of some names; each that went well is printed, what went wrong is told at the end.
pub fn each(cli: &Cli, names: &[String], act: impl Fn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for name in names {
        match act(name) {
            Ok(()) => cli.say(name)?,
            Err(failure) => failures.add(failure.text),
        }
    }
    failures.finish()
}

/// Posts without a body and without an answer that matters.
pub fn post(cli: &Cli, path: String, query: &[(&str, &str)]) -> Result<(), Failure> {
    let request = query.iter().fold(Request::post(path), |request, (name, value)| {
        request.query_unless_empty(name, value)
    });
    cli.client.send(request)?.bytes()?;
    Ok(())
}

/// The platform to ask for: what was said, else the environment's.
pub fn platform(said: &str) -> String {
    match said {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        said => said.to_string(),
    }
}

/// Reads a reference, with docker's words for what is none.
pub fn reference(text: &str) -> Result<Reference, String> {
    Reference::parse(text).map_err(|why| match why {
        ReferenceError::Uppercase(path) if !text.contains('/') => {
            ReferenceError::Uppercase(format!("library/{path}")).to_string()
        }
        why => why.to_string(),
    })
}

/// The same, `latest` where it says neither tag nor digest.
pub fn reference_or_latest(text: &str) -> Result<Reference, String> {
    reference(text).map(Reference::or_latest)
}

/// Looks at a platform before the daemon is asked: `os[/arch[/variant]]`.
pub fn check_platform(text: &str) -> Result<(), Failure> {
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let why = match (text.split('/').count(), text.split('/').all(word)) {
        _ if text.is_empty() => return Ok(()),
        (1, true) if Platform::parse(text, &Platform::default()).is_none() => {
            "unknown operating system or architecture"
        }
        (..=3, true) => return Ok(()),
        _ => "cannot parse platform specifier",
    };
    let quoted = api::quote::quote(text);
    Err(Failure::new(format!(
        "error parsing specified platform: {quoted}: {why}: invalid argument"
    )))
}

/// A platform as newer routes take it, as JSON; nothing for none.
pub fn platform_json(said: &str) -> Result<String, Failure> {
    let text = said.to_lowercase();
    if text.is_empty() {
        return Ok(text);
    }
    check_platform(&text)?;
    // An architecture that is not said is the daemon's.
    let host = Platform {
        os: "linux".into(),
        ..Platform::default()
    };
    let platform = Platform::parse(&text, &host).ok_or_else(|| {
        Failure::new(format!(
            "invalid platform: {}: unknown operating system or architecture: invalid argument",
            api::quote::quote(&text)
        ))
    })?;
    Ok(json::to_string(&platform))
}

/// The image that a registry gives or gets: `latest` where it says no tag, which is told unless `--quiet` is given; or, with
/// `--all-tags`, all of its repository.
pub fn transferred(cli: &Cli, parsed: &Parsed) -> Result<Reference, Failure> {
    let reference = reference(parsed.first()).map_err(Failure::new)?;
    let named = reference.tag().is_some() || reference.digest().is_some();
    match (parsed.bool("all-tags"), named) {
        (true, true) => Err(Failure::new("tag can't be used with --all-tags/-a")),
        (true, false) | (false, true) => Ok(reference),
        (false, false) => {
            if !parsed.bool("quiet") {
                cli.say("Using default tag: latest")?;
            }
            Ok(reference.or_latest())
        }
    }
}

/// Pulls an image, or all of a repository.
pub fn pull(cli: &Cli, reference: &Reference, (platform, delta): (&str, &str), shown: Shown) -> Result<(), Failure> {
    let host = reference.repository().domain();
    let mut request = Request::post("/images/create").query("fromImage", reference.repository().familiar());
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => request = request.query("tag", digest.as_str()),
        (None, Some(tag)) => request = request.query("tag", tag),
        // All of them.
        (None, None) => {}
    }
    let request = request
        .query_unless_empty("platform", &platform.to_lowercase())
        .query_unless_empty("delta", delta)
        .header("X-Registry-Auth", cli.config.borrow().auth_header(host));
    progress::show(cli.client.send(request)?.body, shown)
}

/// Docker refuses `-it` where there is no terminal to read from.
pub fn check_tty(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !terminal::is_input() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}
