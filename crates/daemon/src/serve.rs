//! The HTTP edge: the only asynchronous code. A connection's requests become blocking calls on threads of their own.
//!
//! One runtime on one thread. A verb's answer comes back through a channel of bounded depth, so a slow client slows
//! its verb and nobody else. When a client leaves, its [`Cancel`] is set and its verb's next write fails.

use crate::route::{self, Answer, Connection, Headers, Request};
use crate::{routes, status};
use bytes::Bytes;
use engine::Engine;
use engine::cancel::Cancel;
use engine::error::{Error, Result};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Response = hyper::Response<Body>;

/// Stack of a request's thread: virtual, touched only as deep as the verb goes.
const STACK: usize = 1 << 20;

/// Serves one connection until it ends. Whatever kind of stream socket it is, here it goes by the type of one: hyper's
/// machinery is in the binary once.
pub async fn connection(stream: UnixStream, engine: Arc<Engine>) {
    let service = hyper::service::service_fn(move |request| {
        let engine = engine.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(engine, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_headers(100)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(e) = served {
        log::debug!("connection: {e}");
    }
}

/// Sets the cancel when the answer is dropped before it was finished.
struct Leaving(Option<Cancel>);

impl Leaving {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(cancel) = self.0.take() {
            cancel.set();
        }
    }
}

/// What a verb's thread reports back first.
pub(crate) enum Head {
    Answer(Answer),
    /// A stream has begun.
    Streaming(&'static str, Vec<(&'static str, String)>),
    Failed(Error),
}

async fn answer(engine: Arc<Engine>, request: hyper::Request<hyper::body::Incoming>) -> Response {
    let head_only = request.method() == hyper::Method::HEAD;
    let mut response = match respond(engine, request).await {
        Ok(response) => response,
        Err(error) => failure(&error),
    };
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let (major, minor) = api::VERSION;
    put("api-version", &format!("{major}.{minor}"));
    put("docker-experimental", "false");
    put("ostype", "linux");
    put("server", &format!("Docker/{} (linux)", api::ENGINE_VERSION));
    if head_only {
        *response.body_mut() = none();
    }
    response
}

async fn respond(engine: Arc<Engine>, mut request: hyper::Request<hyper::body::Incoming>) -> Result<Response> {
    let (version, path) = version_of(request.uri())?;
    let (route, parameters) = match route::find(routes::TABLE, request.method().as_str(), &path) {
        Ok(found) => found,
        Err(Some(_)) => {
            return Ok(body(
                405,
                "application/json",
                error_body("method not allowed"),
                Vec::new(),
            ));
        }
        Err(None) => return Err(Error::not_found("page not found")),
    };
    let mut headers = Headers::default();
    for (name, value) in request.headers() {
        if let Ok(value) = value.to_str() {
            headers
                .0
                .entry(name.as_str().to_string())
                .or_insert_with(|| value.to_string());
        }
    }
    let protocol = headers.get("upgrade").map(str::to_string);
    let query = crate::query::Query::parse(request.uri().query().unwrap_or(""));
    let upgraded = hyper::upgrade::on(&mut request);
    let cancel = Cancel::new().map_err(|e| Error::internal(format!("make a cancel for a request: {e}")))?;
    let leaving = Leaving(Some(cancel.clone()));
    let (send_head, head) = oneshot::channel();
    let (output, outgoing) = crate::body::outgoing(cancel.clone(), send_head);
    let inner = Request {
        version,
        parameters,
        query,
        headers,
        body: crate::body::incoming(request.into_body()),
        upgrade: protocol.is_some(),
        cancel,
    };
    let run = route.run;
    spawn_verb(move || verb(&engine, run, inner, output))?;
    let head = head
        .await
        .unwrap_or_else(|_| Head::Failed(Error::internal("the request's thread ended without an answer")));
    leaving.disarm();
    match head {
        Head::Failed(error) => Err(error),
        Head::Answer(Answer::Empty(status)) => Ok(body(status, "", Vec::new(), Vec::new())),
        Head::Answer(Answer::Body {
            status,
            kind,
            bytes,
            headers,
        }) => Ok(body(status, kind, bytes, headers)),
        Head::Streaming(kind, headers) => {
            let mut response = hyper::Response::new(outgoing.boxed_unsync());
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            Ok(response)
        }
        Head::Answer(Answer::Hijack { kind, run }) => {
            outgoing.disarm();
            let mut response = hyper::Response::new(none());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            let protocol = protocol.and_then(|p| HeaderValue::from_str(&p).ok());
            headers.insert(UPGRADE, protocol.unwrap_or(HeaderValue::from_static("tcp")));
            tokio::spawn(async move {
                match upgraded.await {
                    Ok(upgraded) => take_over(upgraded, run),
                    Err(e) => log::warn!("upgrade a connection: {e}"),
                }
            });
            Ok(response)
        }
        Head::Answer(Answer::Stream { .. }) => Err(Error::internal("a stream was answered but not begun")),
    }
}

/// Runs a route on its thread and sends what comes of it.
fn verb(
    engine: &Arc<Engine>,
    run: fn(&Arc<Engine>, Request) -> Result<Answer>,
    request: Request,
    mut output: crate::body::Output,
) {
    let upgrade = request.upgrade;
    match run(engine, request) {
        Err(error) => output.send(Head::Failed(error)),
        Ok(Answer::Stream { kind, headers, run }) => {
            output.begins_as(kind, headers);
            let failed = output.failure();
            match run(Box::new(output)) {
                Ok(()) => failed.nothing(kind),
                Err(error) => failed.send(error),
            }
        }
        // A client that asked for no upgrade gets the stream as a body; it cannot send any more.
        Ok(Answer::Hijack { kind, run }) if !upgrade => {
            output.begins_as(kind, Vec::new());
            let failed = output.failure();
            let _ = output.flush();
            let connection = Connection {
                input: Box::new(std::io::empty()),
                output: Box::new(output),
                socket: None,
            };
            if let Err(error) = run(connection) {
                failed.send(error);
            }
        }
        Ok(answer) => output.send(Head::Answer(answer)),
    }
}

fn spawn_verb(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new()
        .name("verb".into())
        .stack_size(STACK)
        .spawn(work);
    spawned
        .map(drop)
        .map_err(|e| Error::internal(format!("start a thread for the request: {e}")))
}

/// Takes the connection from the runtime and hands it to the verb's second half.
fn take_over(upgraded: hyper::upgrade::Upgraded, run: Box<dyn FnOnce(Connection) -> Result<()> + Send>) {
    let parts = match upgraded.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) => parts,
        Err(_) => return log::error!("upgrade a connection: it is not of the listener's type"),
    };
    let early = parts.read_buf;
    let socket = parts.io.into_inner().into_std().and_then(|stream| {
        stream.set_nonblocking(false)?;
        Ok(OwnedFd::from(stream))
    });
    let socket = match socket {
        Ok(socket) => socket,
        Err(e) => return log::warn!("upgrade a connection: {e}"),
    };
    let spawned = spawn_verb(move || {
        if let Err(e) = run(Connection::of_socket(socket, early.to_vec())) {
            log::debug!("attached stream: {e}");
        }
    });
    if let Err(e) = spawned {
        log::error!("{e}");
    }
}

/// The API version of a path and the path without it.
fn version_of(uri: &Uri) -> Result<((u32, u32), String)> {
    let path = uri.path();
    let newest = api::VERSION;
    let Some((number, rest)) = path.strip_prefix("/v").and_then(|p| p.split_once('/')) else {
        return Ok((newest, path.to_string()));
    };
    let parse = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let Some(version) = parse(number) else {
        return Ok((newest, path.to_string()));
    };
    if version > newest {
        return Err(Error::invalid(format!(
            "client version {number} is too new. Maximum supported API version is {}.{}",
            newest.0, newest.1
        )));
    }
    if version < api::MIN_VERSION {
        return Err(Error::invalid(format!(
            "client version {number} is too old. Minimum supported API version is {}.{}, please upgrade your client to a newer version",
            api::MIN_VERSION.0,
            api::MIN_VERSION.1
        )));
    }
    Ok((version, format!("/{rest}")))
}

fn none() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn body(status: u16, kind: &'static str, bytes: Vec<u8>, headers: Vec<(&'static str, String)>) -> Response {
    let content = if bytes.is_empty() {
        none()
    } else {
        Full::from(bytes).map_err(|never| match never {}).boxed_unsync()
    };
    let mut response = hyper::Response::new(content);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !kind.is_empty() {
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn error_body(message: &str) -> Vec<u8> {
    let mut bytes = json::to_vec(&api::ErrorBody {
        message: message.into(),
    });
    bytes.push(b'\n');
    bytes
}

/// The answer for an error; the log has it too when it is the daemon's own fault.
fn failure(error: &Error) -> Response {
    let status = status::of(error.kind);
    if status >= 500 {
        log::error!("Handler for a request returned error: {error}");
    } else {
        log::debug!("request refused: {error}");
    }
    match status {
        304 => body(304, "", Vec::new(), Vec::new()),
        _ => body(status, "application/json", error_body(&error.to_string()), Vec::new()),
    }
}
