//! A registry's double: a thread per connection, one request each, answers scripted by a closure.
#![allow(dead_code)]

pub mod certificates;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::digest::Digest;
use oci::manifest::Descriptor;
use oci::reference::Reference;
use registry::{Config, Proxies, Registry, Sha256};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection breaks before the end of the body.
    pub cut: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// First byte of a `Range` header, or 0.
    pub fn range(&self) -> usize {
        let range = self
            .header("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |start| start.parse().unwrap())
    }
}

pub struct Double {
    pub port: u16,
    pub log: Arc<Mutex<Vec<Request>>>,
}

impl Double {
    /// Serves until the process ends. The closure gets each request with its number.
    pub fn start(handler: impl Fn(&Request, usize, &mut TcpStream) + Send + Sync + 'static) -> Double {
        Double::cutting(|_| None, handler)
    }

    /// The same, but reads only so much of a request's body as `most` says.
    pub fn cutting(
        most: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Request, usize, &mut TcpStream) + Send + Sync + 'static,
    ) -> Double {
        let most = Arc::new(most);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (handler, kept) = (Arc::new(handler), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log, most) = (handler.clone(), kept.clone(), most.clone());
                std::thread::spawn(move || {
                    let mut stream = stream;
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    let Some(request) = read_request(&stream, &*most) else {
                        return;
                    };
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    handler(&request, number, &mut stream);
                });
            }
        });
        Double { port, log }
    }

    /// `127.0.0.1:<port>/me/app:1`
    pub fn reference(&self) -> Reference {
        Reference::parse(&format!("127.0.0.1:{}/me/app:1", self.port)).unwrap()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream, most: &dyn Fn(&Request) -> Option<usize>) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // A TLS hello is no text: hanging up is what an HTTP server does too.
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
        cut: false,
    };
    let most = most(&request);
    while request.header("transfer-encoding") == Some("chunked") {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let mut chunk = vec![0; usize::from_str_radix(size.trim_end(), 16).ok()?];
        reader.read_exact(&mut chunk).ok()?;
        reader.read_line(&mut size).ok()?;
        if chunk.is_empty() {
            break;
        }
        request.body.extend(chunk);
        if let Some(most) = most.filter(|most| *most <= request.body.len()) {
            request.body.truncate(most);
            request.cut = true;
            break;
        }
    }
    if let Some(length) = request.header("content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        request.body = body;
    }
    Some(request)
}

/// Writes a whole answer and hangs up.
pub fn answer(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

/// A client for tests: no proxy, short waits.
pub fn client() -> Registry {
    Registry::new(config())
}

pub fn config() -> Config {
    Config {
        proxies: Proxies::default(),
        certs_dirs: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(2),
        backoff: Duration::from_millis(5),
        ..Config::default()
    }
}

/// Bytes that do not repeat, and their descriptor.
pub fn blob(size: usize) -> (Vec<u8>, Descriptor) {
    let mut state = 1u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(size)
    .collect();
    let descriptor = descriptor(&bytes, Sha256::digest(&bytes));
    (bytes, descriptor)
}

pub fn descriptor(bytes: &[u8], digest: Digest) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        size: bytes.len() as u64,
        digest,
        urls: Vec::new(),
        annotations: Default::default(),
        platform: None,
        artifact_type: None,
    }
}
