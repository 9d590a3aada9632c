//! HTTP/1.1 for a registry client, blocking.
//!
//! Our own in place of a general client, because a pull needs what those leave out: a limit on each single
//! read (a stalled mobile link, not a slow one), cancelling from another thread, the exact offset at which a
//! connection broke, and Docker's error texts. Heads are parsed by `httparse`, TLS is `rustls`.

mod body;
mod cancel;
mod conn;
mod pool;
mod proxy;
mod tls;
mod url;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use body::Body;
pub use cancel::Cancel;
pub use conn::{DialError, go_words, tls_error};
pub use proxy::Proxies;
pub use url::{Scheme, Url, encode, split_host_port};

use body::Framing;
use cancel::Guard;
use conn::{Conn, Dial, Head};
use pool::Pool;
use proxy::Proxy;
use rustls::ClientConfig;

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    pub user_agent: String,
    pub certs_dirs: Vec<PathBuf>,
    pub proxies: Proxies,
    pub connect_timeout: Duration,
    pub stall_timeout: Duration,
    pub read_rate: Option<u64>,
}

/// What is sent along with a request.
pub enum Payload<'a> {
    Empty,
    Bytes(&'a [u8]),
    /// A stream of known length, or chunked.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// One request.
pub struct Request<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload<'a>,
    /// Take any certificate.
    pub insecure: bool,
    /// The registry (`host[:port]`) that named this server, whose certificates count where the server has none of its own.
    pub behalf: Option<String>,
}

/// One response; its body is still on the wire.
pub struct Response {
    pub status: u16,
    /// `404 Not Found`.
    pub reason: String,
    headers: Vec<(String, String)>,
    pub url: Url,
    pub body: Body,
}

impl Response {
    /// The first header of that (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    Dial(DialError),
    Io(io::Error),
    /// The certificates configured for the server cannot be used.
    Certificates(String),
    Cancelled,
}

/// By whose certificates they have, and by whether any certificate is taken; with the files that each was made of.
type TlsConfigs = HashMap<(String, bool), (tls::Files, Arc<ClientConfig>)>;

type Tls = Option<Arc<ClientConfig>>;

/// A client with its connection pool.
pub struct Client {
    settings: Settings,
    pool: Arc<Pool>,
    tls: Mutex<TlsConfigs>,
}

impl Client {
    pub fn new(settings: Settings) -> Client {
        Client {
            settings,
            pool: Arc::default(),
            tls: Mutex::default(),
        }
    }

    /// Closes idle connections and forgets the certificates read, so that changed files are seen.
    pub fn reset(&self) {
        self.pool.clear();
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends a request and reads the head of its response. Redirects are the caller's.
    pub fn send(&self, mut request: Request<'_>, cancel: &Cancel) -> Result<Response, Failure> {
        let (tls, whose) = self.tls_for(&request.url, request.behalf.as_deref(), request.insecure)?;
        let key = format!(
            "{}://{} {} {whose}",
            request.url.scheme.as_str(),
            request.url.host_port(),
            request.insecure
        );
        // A kept connection may have been closed by the server meanwhile; what can be sent again is.
        while let Some(conn) = self.pool.take(&key) {
            if cancel.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            if matches!(request.payload, Payload::Stream(..)) {
                break;
            }
            let Ok(guard) = cancel.guard(conn.socket()) else {
                continue;
            };
            match self.exchange(conn, guard, &mut request, &key) {
                Ok(response) => return Ok(response),
                Err(e) if timed_out(&e) => return Err(Failure::Io(e)),
                Err(_) => {}
            }
        }
        if cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let unusable = |message| Failure::Dial(DialError { message, tls: false });
        let proxy = self.settings.proxies.for_url(&request.url).map_err(unusable)?;
        let dial = Dial {
            url: &request.url,
            proxy,
            proxy_tls: match proxy.and_then(Proxy::by_tls) {
                Some(url) => self.tls_for(&url, None, false)?.0,
                None => None,
            },
            tls,
            connect_timeout: self.settings.connect_timeout,
            stall_timeout: self.settings.stall_timeout,
            read_rate: self.settings.read_rate,
            cancel,
        };
        let opened = Conn::open(&dial);
        let result = match opened {
            Ok((conn, guard)) => self.exchange(conn, guard, &mut request, &key).map_err(Failure::Io),
            Err(e) => Err(Failure::Dial(e)),
        };
        match result {
            Err(_) if cancel.is_cancelled() => Err(Failure::Cancelled),
            other => other,
        }
    }

    /// What TLS with a server is made of, and whose certificates (`host[:port]`) those are; empty for nobody's.
    fn tls_for(&self, url: &Url, behalf: Option<&str>, insecure: bool) -> Result<(Tls, String), Failure> {
        if url.scheme == Scheme::Http {
            return Ok((None, String::new()));
        }
        // Looked at each time: who puts a certificate there does not restart the daemon.
        let of = |authority: &str| tls::Files::of(&self.settings.certs_dirs, authority);
        let server = url.authority();
        let (mut files, mut whose) = (of(&server), server.clone());
        if let Some(registry) = behalf.filter(|_| files.is_empty()) {
            (files, whose) = (of(registry), registry.to_owned());
        }
        if files.is_empty() {
            whose.clear();
        }
        let key = (whose, insecure);
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&key) {
            Some((of, config)) if *of == files => return Ok((Some(config.clone()), key.0)),
            // Who was let in by what is not there any more is asked again.
            Some(_) => self.pool.clear(),
            None => {}
        }
        known.remove(&key);
        let config = tls::config(&files, &server, insecure).map_err(Failure::Certificates)?;
        // An unbounded set would be a peer's to fill.
        if known.len() >= 16 {
            known.clear();
        }
        known.insert(key.clone(), (files, config.clone()));
        Ok((Some(config), key.0))
    }

    fn exchange(&self, mut conn: Conn, guard: Guard, request: &mut Request<'_>, key: &str) -> io::Result<Response> {
        let head = self.head(request, &conn);
        conn.bide();
        let sent = conn
            .write_all(head.as_bytes())
            .and_then(|()| send_payload(&mut conn, &mut request.payload));
        conn.hurry();
        // A server that refuses an upload answers and hangs up while we still send: its answer says why.
        let head = match sent {
            Ok(()) => conn.read_head()?,
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Head {
                persistent: false,
                ..conn.read_head().map_err(|_| e)?
            },
            Err(e) => return Err(e),
        };
        conn.bide();
        let find = |name: &str| head.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.trim());
        let has_token = |name: &str, token: &str| {
            find(name).is_some_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
        };
        let framing = if request.method == "HEAD" || matches!(head.status, 204 | 304) {
            Framing::Length(0)
        } else if has_token("transfer-encoding", "chunked") {
            Framing::Chunked(None)
        } else if let Some(length) = find("content-length") {
            let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("bad Content-Length {length:?}"));
            Framing::Length(length.parse().map_err(|_| bad())?)
        } else {
            Framing::Close
        };
        let keep = head.persistent && !has_token("connection", "close") && framing != Framing::Close;
        let home = keep.then(|| (self.pool.clone(), key.to_owned()));
        Ok(Response {
            status: head.status,
            reason: head.reason,
            headers: head.headers,
            url: request.url.clone(),
            body: Body::new(conn, guard, framing, home),
        })
    }

    fn head(&self, request: &Request<'_>, conn: &Conn) -> String {
        let url = &request.url;
        let target = if conn.absolute {
            url.to_string()
        } else {
            url.target.clone()
        };
        let mut head = format!(
            "{} {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n",
            request.method,
            url.authority(),
            self.settings.user_agent
        );
        let mut push = |name: &str, value: &str| {
            // Header values come from servers and users too: a line end in one would be a header of theirs.
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("{name}: {value}\r\n"));
        };
        if conn.absolute
            && let Some(value) = self
                .settings
                .proxies
                .for_url(url)
                .ok()
                .flatten()
                .and_then(|p| p.authorization.as_deref())
        {
            push("Proxy-Authorization", value);
        }
        for (name, value) in &request.headers {
            push(name, value);
        }
        match &request.payload {
            Payload::Empty if matches!(request.method, "GET" | "HEAD") => {}
            Payload::Empty => push("Content-Length", "0"),
            Payload::Bytes(bytes) => push("Content-Length", &bytes.len().to_string()),
            Payload::Stream(_, Some(length)) => push("Content-Length", &length.to_string()),
            Payload::Stream(_, None) => push("Transfer-Encoding", "chunked"),
        }
        head.push_str("\r\n");
        head
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn send_payload(conn: &mut Conn, payload: &mut Payload<'_>) -> io::Result<()> {
    match payload {
        Payload::Empty => {}
        Payload::Bytes(bytes) => conn.write_all(bytes)?,
        Payload::Stream(reader, length) => {
            let mut buffer = vec![0; 32 << 10];
            let mut sent = 0u64;
            loop {
                let n = match reader.read(&mut buffer) {
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e),
                };
                sent += n as u64;
                match length {
                    Some(length) if sent > *length || (n == 0 && sent < *length) => {
                        let text = format!("upload of {length} bytes: the source has {sent}");
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                    }
                    Some(_) => conn.write_all(&buffer[..n])?,
                    None => {
                        write!(conn, "{n:x}\r\n")?;
                        conn.write_all(&buffer[..n])?;
                        conn.write_all(b"\r\n")?;
                    }
                }
                if n == 0 {
                    break;
                }
            }
        }
    }
    conn.flush()
}
