//! The contract of a route: a method, a path, and a blocking function from a request to an answer.
//!
//! A route is one file under `routes/` and one line in its table. It runs on a thread of its own, may block, and is
//! told through [`Request::cancel`] when the client leaves.

use crate::query::Query;
use engine::Engine;
use engine::cancel::Cancel;
use engine::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

/// The most that a JSON body may hold, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// The most that is read for nothing after an error, in bytes.
const MAX_DRAINED: u64 = 8 << 30;

/// A route.
pub struct Route {
    pub method: &'static str,
    /// Segments; `{name}` takes one, `{name*}` one or more.
    pub path: &'static str,
    pub run: fn(&Arc<Engine>, Request) -> Result<Answer>,
}

/// A request, past its edge.
pub struct Request {
    /// API version of the path, the newest where it had none.
    pub version: (u32, u32),
    pub parameters: BTreeMap<&'static str, String>,
    pub query: Query,
    pub headers: Headers,
    pub body: Box<dyn Read + Send>,
    /// The client asked for `Upgrade: tcp` (or h2c).
    pub upgrade: bool,
    pub cancel: Cancel,
}

/// Header fields by lower-case name; one value each.
#[derive(Default)]
pub struct Headers(pub BTreeMap<String, String>);

impl Headers {
    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Request {
    /// A parameter of the path; the table guarantees those that it names.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// Whether the client speaks this version of the API or a later one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// The whole body, bounded.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.body.by_ref().take(MAX_JSON + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::invalid(format!("read request body: {e}")))?;
        if bytes.len() as u64 > MAX_JSON {
            return Err(Error::invalid(format!("request body is larger than {MAX_JSON} bytes")));
        }
        Ok(bytes)
    }

    /// The body as JSON; an empty one is an error, as in Docker.
    pub fn json<T: json::Deserialize>(&mut self) -> Result<T> {
        let bytes = self.json_bytes()?;
        json::from_slice(&bytes).map_err(bad_json)
    }

    /// The body as JSON, the zero value where it is empty.
    pub fn json_or_default<T: json::Deserialize + Default>(&mut self) -> Result<T> {
        let bytes = self.bytes()?;
        match bytes.is_empty() {
            true => Ok(T::default()),
            false => json::from_slice(&bytes).map_err(bad_json),
        }
    }

    /// The bytes of a JSON body.
    pub fn json_bytes(&mut self) -> Result<Vec<u8>> {
        match self
            .headers
            .get("content-type")
            .map(|t| t.split(';').next().unwrap_or("").trim())
        {
            Some("application/json") | None | Some("") => {}
            Some(other) => {
                return Err(Error::invalid(format!(
                    "unsupported Content-Type header ({other}): must be 'application/json'"
                )));
            }
        }
        let bytes = self.bytes()?;
        match bytes.is_empty() {
            true => Err(Error::invalid("invalid JSON: got EOF while reading request body")),
            false => Ok(bytes),
        }
    }
}

/// Takes what a client still sends after its request has failed: one that cannot send on does not see why.
pub fn drain(body: &mut dyn Read) {
    let _ = std::io::copy(&mut body.take(MAX_DRAINED), &mut std::io::sink());
}

/// The error for a body that is no JSON of its type.
pub fn bad_json(error: json::Error) -> Error {
    Error::invalid(format!("invalid JSON: {error}"))
}

type Run<T> = Box<dyn FnOnce(T) -> Result<()> + Send>;

/// An answer.
pub enum Answer {
    /// A status without a body.
    Empty(u16),
    /// A body that is ready.
    Body {
        status: u16,
        kind: &'static str,
        bytes: Vec<u8>,
        headers: Vec<(&'static str, String)>,
    },
    /// A body that is written as it comes about. An error before the first byte becomes an error answer.
    Stream {
        kind: &'static str,
        headers: Vec<(&'static str, String)>,
        run: Run<Box<dyn Write + Send>>,
    },
    /// The connection itself, after `101` where the client asked for an upgrade.
    Hijack { kind: &'static str, run: Run<Connection> },
}

/// A connection that was taken over: what the client sends, and what it is sent.
pub struct Connection {
    pub input: Box<dyn Read + Send>,
    pub output: Box<dyn Write + Send>,
    /// The socket itself, when both are just that.
    pub socket: Option<std::os::fd::OwnedFd>,
}

impl Connection {
    /// A connection over a socket, with bytes that were read from it already.
    pub fn of_socket(socket: std::os::fd::OwnedFd, early: Vec<u8>) -> Connection {
        let file = std::fs::File::from(socket);
        let input = file.try_clone();
        let plain = early.is_empty().then(|| file.try_clone().ok()).flatten();
        Connection {
            input: match input {
                Ok(input) => Box::new(std::io::Cursor::new(early).chain(input)),
                Err(_) => Box::new(std::io::empty()),
            },
            output: Box::new(file),
            socket: plain.map(Into::into),
        }
    }
}

impl Answer {
    /// `200` with a value as JSON.
    pub fn json(value: &impl json::Serialize) -> Result<Answer> {
        Answer::json_status(200, value)
    }

    /// A status with a value as JSON.
    pub fn json_status(status: u16, value: &impl json::Serialize) -> Result<Answer> {
        let mut bytes = json::to_vec(value);
        bytes.push(b'\n');
        Ok(Answer::Body {
            status,
            kind: "application/json",
            bytes,
            headers: Vec::new(),
        })
    }

    /// A stream of JSON lines.
    pub fn json_stream(run: impl FnOnce(Box<dyn Write + Send>) -> Result<()> + Send + 'static) -> Answer {
        Answer::Stream {
            kind: "application/json",
            headers: Vec::new(),
            run: Box::new(run),
        }
    }
}

/// Finds the route for a path, and what its parameters are.
pub fn find<'a>(
    table: &'a [&'a [Route]],
    method: &str,
    path: &str,
) -> Result<(&'a Route, BTreeMap<&'static str, String>), Option<&'static str>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let mut other_method = None;
    for route in table.iter().copied().flatten() {
        if let Some(parameters) = matches(route.path, &segments) {
            if route.method == method || method == "HEAD" && route.method == "GET" {
                return Ok((route, parameters));
            }
            other_method = Some(route.method);
        }
    }
    Err(other_method)
}

fn matches(pattern: &'static str, segments: &[&str]) -> Option<BTreeMap<&'static str, String>> {
    let parts: Vec<&'static str> = pattern.trim_matches('/').split('/').collect();
    let spread = parts.iter().position(|p| p.ends_with("*}"));
    let extra = match spread {
        Some(_) => segments.len().checked_sub(parts.len())?,
        None => (segments.len() == parts.len()).then_some(0)?,
    };
    let mut found = BTreeMap::new();
    let mut at = 0;
    for (index, part) in parts.iter().enumerate() {
        let take = if Some(index) == spread { extra + 1 } else { 1 };
        let text = segments[at..at + take].join("/");
        at += take;
        match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) => {
                if text.is_empty() {
                    return None;
                }
                found.insert(name.trim_end_matches('*'), crate::query::decode(&text, false));
            }
            None if *part == text => {}
            None => return None,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let go = |pattern, path: &str| matches(pattern, &path.split('/').collect::<Vec<_>>());
        let name = |found: Option<BTreeMap<&'static str, String>>| found.and_then(|f| f.get("name").cloned());
        assert_eq!(
            name(go("images/{name*}/json", "images/a/b/c:1/json")).as_deref(),
            Some("a/b/c:1")
        );
        assert_eq!(name(go("images/{name*}", "images/a%2Fb")).as_deref(), Some("a/b"));
        assert!(go("images/{name*}/json", "images/json").is_none());
        assert!(go("images/{name*}/json", "images//json").is_none());
        assert!(go("containers/{name}/json", "containers/a/b/json").is_none());
        assert_eq!(go("info", "info").map(|f| f.len()), Some(0));
    }
}
