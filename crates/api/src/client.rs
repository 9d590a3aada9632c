//! A blocking HTTP/1.1 client for the Engine API: unix and tcp sockets, version negotiation, hijacked streams.
//!
//! One connection per request, because the daemon is one hop away on the same device and several requests of one
//! command (wait, attach, resize) are open at the same time. Bodies are streams in both directions; nothing is held
//! in memory but the head of an answer (64 KiB at most) and the bodies of errors (1 MiB at most).

mod body;
mod endpoint;
mod error;

pub use body::Body;
pub use endpoint::{DEFAULT_HOST, Endpoint, Stream};
pub use error::Error;

use json::Deserialize;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_ERROR: u64 = 1024 * 1024;

/// What a request carries.
pub enum Payload<'a> {
    Empty,
    Json(Vec<u8>),
    /// A stream of unknown length, sent in chunks, and its content type.
    Stream(&'a mut dyn Read, &'static str),
}

/// One request; the path is without version.
pub struct Request<'a> {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    payload: Payload<'a>,
}

impl<'a> Request<'a> {
    /// A request without query and body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Request<'a> {
        Request {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::Empty,
        }
    }

    pub fn get(path: impl Into<String>) -> Request<'a> {
        Request::new("GET", path)
    }

    pub fn post(path: impl Into<String>) -> Request<'a> {
        Request::new("POST", path)
    }

    pub fn delete(path: impl Into<String>) -> Request<'a> {
        Request::new("DELETE", path)
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Request<'a> {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Adds a query parameter unless its value is empty.
    pub fn query_unless_empty(self, name: &str, value: &str) -> Request<'a> {
        if value.is_empty() {
            self
        } else {
            self.query(name, value)
        }
    }

    /// Adds `name=1` when `on`.
    pub fn flag(self, name: &str, on: bool) -> Request<'a> {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Carries a JSON document.
    pub fn json<T: json::Serialize + ?Sized>(mut self, value: &T) -> Result<Request<'a>, Error> {
        let bytes = json::to_vec(value);
        self.payload = Payload::Json(bytes);
        Ok(self)
    }

    /// Carries what is given.
    pub fn payload(mut self, payload: Payload<'a>) -> Request<'a> {
        self.payload = payload;
        self
    }
}

/// An answer whose status says success.
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Body,
}

impl Response {
    /// A header's value; the name is lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads the whole body.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the body as JSON.
    pub fn json<T: Deserialize>(self) -> Result<T, Error> {
        json::from_slice(&self.bytes()?).map_err(|e| Error::Protocol(format!("read the daemon's answer: {e}")))
    }
}

/// A connection that carries raw bytes both ways since the daemon agreed.
pub struct Hijacked {
    /// What the daemon sends, starting with what came together with the head.
    pub input: Body,
    /// The same connection, for writing, half-closing and cancelling.
    pub stream: Stream,
    /// Whether the daemon says that the bytes are framed (`stdcopy`); `None` from daemons before API 1.42.
    pub framed: Option<bool>,
}

/// A daemon at an endpoint.
pub struct Client {
    endpoint: Endpoint,
    pinned: Option<String>,
    agreed: OnceLock<String>,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client for an endpoint. `pinned` is an API version to speak without asking.
    pub fn new(endpoint: Endpoint, pinned: Option<String>) -> Client {
        let agreed = OnceLock::new();
        Client {
            endpoint,
            pinned,
            agreed,
            headers: Vec::new(),
        }
    }

    /// Adds a header to every request; a `User-Agent` replaces ours.
    pub fn with_header(mut self, name: &str, value: &str) -> Client {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The newest API version that this client speaks.
    pub fn newest() -> String {
        format!("{}.{}", crate::VERSION.0, crate::VERSION.1)
    }

    /// The API version spoken with the daemon: the pinned one, else the older of ours and the daemon's.
    pub fn version(&self) -> Result<&str, Error> {
        if let Some(pinned) = &self.pinned {
            return Ok(pinned);
        }
        if let Some(agreed) = self.agreed.get() {
            return Ok(agreed);
        }
        let request = Request::get("/_ping");
        let response = self.exchange(request, "/_ping", false)?;
        let theirs = response.header("api-version").unwrap_or("1.24").to_string();
        let agreed = match parse_version(&theirs) {
            Some(version) if version < crate::VERSION => theirs,
            _ => Client::newest(),
        };
        Ok(self.agreed.get_or_init(|| agreed))
    }

    /// Says whether the spoken version is at least `1.minor`.
    pub fn speaks(&self, minor: u32) -> Result<bool, Error> {
        Ok(parse_version(self.version()?).is_some_and(|version| version >= (1, minor)))
    }

    /// Sends a request and reads the head of the answer; a status of 400 and more is an error.
    pub fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        let path = format!("/v{}{}", self.version()?, request.path);
        self.exchange(request, &path, false)
    }

    /// `GET` of a JSON document.
    pub fn get<T: Deserialize>(&self, path: &str) -> Result<T, Error> {
        self.send(Request::get(path))?.json()
    }

    /// Sends a request that turns the connection into a raw stream.
    pub fn hijack(&self, request: Request<'_>) -> Result<Hijacked, Error> {
        let path = format!("/v{}{}", self.version()?, request.path);
        let response = self.exchange(request, &path, true)?;
        let framed = match response.header("content-type") {
            Some("application/vnd.docker.multiplexed-stream") => Some(true),
            Some("application/vnd.docker.raw-stream") if self.speaks(42)? => Some(false),
            _ => None,
        };
        let stream = response.body.stream().try_clone()?;
        Ok(Hijacked {
            input: response.body.into_raw(),
            stream,
            framed,
        })
    }

    fn exchange(&self, request: Request<'_>, path: &str, upgrade: bool) -> Result<Response, Error> {
        let mut target = path.to_string();
        for (i, (name, value)) in request.query.iter().enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            target.push_str(&escape(name, b""));
            target.push('=');
            target.push_str(&escape(value, b""));
        }
        let mut stream = self
            .endpoint
            .connect()
            .map_err(|e| Error::connect(&self.endpoint, request.method, &target, e))?;
        let mut head = format!(
            "{} {target} HTTP/1.1\r\nHost: {}\r\n",
            request.method,
            self.endpoint.http_host()
        );
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
        {
            head.push_str(&format!("User-Agent: balena/{} (linux)\r\n", crate::ENGINE_VERSION));
        }
        for (name, value) in self.headers.iter().chain(&request.headers) {
            let clean = |text: &str| text.replace(['\r', '\n'], " ");
            head.push_str(&format!("{}: {}\r\n", clean(name), clean(value)));
        }
        head.push_str(if upgrade {
            "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        } else {
            "Connection: close\r\n"
        });
        let sent = match request.payload {
            Payload::Empty => {
                if request.method != "GET" {
                    head.push_str("Content-Length: 0\r\n");
                }
                head.push_str("\r\n");
                stream.write_all(head.as_bytes())
            }
            Payload::Json(bytes) => {
                head.push_str(&format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    bytes.len()
                ));
                stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&bytes))
            }
            Payload::Stream(source, kind) => {
                head.push_str(&format!("Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"));
                let sent = stream.write_all(head.as_bytes());
                match sent {
                    Ok(()) => body::send_chunks(source, &mut stream).map_err(|source| Error::Source {
                        asked: error::asked(&self.endpoint, request.method, &target),
                        source,
                    })?,
                    failed => failed,
                }
            }
        };
        // A daemon that refuses early answers and closes: its words matter more than the broken pipe.
        let answer = read_head(stream, request.method, upgrade);
        let response = match (answer, sent) {
            (Ok(response), _) => response,
            (Err(_), Err(e)) => return Err(Error::Io(e)),
            (Err(e), Ok(())) => return Err(e),
        };
        if response.status >= 400 {
            return Err(refusal(response, request.method, path));
        }
        Ok(response)
    }
}

/// Reads `1.41`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn refusal(response: Response, method: &str, path: &str) -> Error {
    let status = response.status;
    let json = response
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    let mut bytes = Vec::new();
    // What could be read of it is what is told.
    let _ = response.body.take(MAX_ERROR).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).trim().to_string();
    let message = match json::from_slice::<crate::ErrorBody>(&bytes) {
        Ok(body) if json && !body.message.is_empty() => body.message,
        _ if !text.is_empty() && !json => text,
        _ => format!(
            "request returned {status} for API route and version {method} {path}, check if the server supports the requested API version"
        ),
    };
    Error::Status {
        code: status,
        message: message.trim_end().to_string(),
    }
}

fn read_head(mut stream: Stream, method: &str, upgrade: bool) -> Result<Response, Error> {
    let mut got = Vec::with_capacity(1024);
    let mut piece = [0u8; 4096];
    loop {
        let n = match stream.read(&mut piece) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::Io(e)),
        };
        if n == 0 {
            return Err(Error::Io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the daemon closed the connection",
            )));
        }
        got.extend_from_slice(&piece[..n]);
        let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut space);
        let end = match parsed.parse(&got) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if got.len() < MAX_HEAD => continue,
            Ok(httparse::Status::Partial) => {
                return Err(Error::Protocol("the daemon's answer has no end of head".into()));
            }
            Err(e) => return Err(Error::Protocol(format!("the daemon does not speak HTTP: {e}"))),
        };
        let status = parsed.code.unwrap_or(0);
        // 100 Continue and its like come before the answer.
        if (100..200).contains(&status) && status != 101 {
            got.drain(..end);
            if got.is_empty() {
                continue;
            }
            return Err(Error::Protocol("an interim answer with more behind it".into()));
        }
        let headers: Vec<(String, String)> = parsed
            .headers
            .iter()
            .map(|h| {
                (
                    h.name.to_ascii_lowercase(),
                    String::from_utf8_lossy(h.value).into_owned(),
                )
            })
            .collect();
        let find = |name: &str| {
            headers
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        let raw = status == 101 || (upgrade && status < 300);
        let chunked = find("transfer-encoding").is_some_and(|kind| kind.eq_ignore_ascii_case("chunked"));
        let length = match find("content-length").map(str::parse::<u64>) {
            Some(Ok(length)) => Some(length),
            Some(Err(_)) => return Err(Error::Protocol("the daemon's answer has a broken length".into())),
            None => None,
        };
        let rest = got.split_off(end);
        let body = if raw {
            Body::until_end(stream, rest)
        } else if method == "HEAD" || matches!(status, 204 | 304) {
            Body::of_length(stream, rest, 0)
        } else if chunked {
            Body::chunked(stream, rest)
        } else if let Some(length) = length {
            Body::of_length(stream, rest, length)
        } else {
            Body::until_end(stream, rest)
        };
        return Ok(Response { status, headers, body });
    }
}

/// Percent-encodes what is not unreserved, nor one of `also`.
pub fn escape(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A name as a part of a path; image names keep their slashes and colons.
pub fn escape_path(text: &str) -> String {
    escape(text, b"/:@+")
}

#[cfg(test)]
mod tests;
