//! Uploads over bad connections, and to registries with ideas of their own.

mod double;

use double::{Double, Request, answer, blob, client, config};
use registry::{Auth, Error, ErrorKind, Registry, Repository, Upload, Uploaded};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SIZE: usize = 3_000_000;

fn session(double: &Double) -> Repository {
    client()
        .repository_for_push(&double.reference(), Auth::Anonymous)
        .unwrap()
}

/// What a registry has of the one upload there is.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Vec<u8>>>);

impl Held {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// Answers as a registry that keeps whatever arrived.
    fn answer(&self, request: &Request, stream: &mut TcpStream) {
        let mut bytes = self.0.lock().unwrap();
        let place = ("Location", "/v2/me/app/blobs/uploads/one?state=1");
        let range = format!("0-{}", bytes.len().saturating_sub(1));
        match request.method.as_str() {
            "POST" => {
                bytes.clear();
                answer(stream, "202 Accepted", &[place], b"");
            }
            "GET" => answer(stream, "204 No Content", &[place, ("Range", &range)], b""),
            "PATCH" => {
                bytes.extend(&request.body);
                if !request.cut {
                    answer(stream, "202 Accepted", &[place], b"");
                }
            }
            "PUT" => answer(stream, "201 Created", &[], b""),
            _ => answer(stream, "204 No Content", &[], b""),
        }
    }
}

/// Uploads as a push does, going on after what may pass.
fn push(repository: &Repository, bytes: &[u8]) -> Result<(Uploaded, Vec<u64>), Error> {
    let (mut upload, mut kept) = (Upload::default(), Vec::new());
    loop {
        match repository.upload_on(&mut upload, &mut &bytes[..], None, None) {
            Ok(done) => return Ok((done, kept)),
            Err(error) if error.kind() == ErrorKind::Unavailable && kept.len() < 9 => kept.push(upload.kept()),
            Err(error) => return Err(error),
        }
    }
}

fn methods(double: &Double) -> Vec<String> {
    double.requests().iter().map(|r| r.method.clone()).collect()
}

#[test]
fn goes_on_in_the_middle() {
    let (bytes, descriptor) = blob(SIZE);
    let held = Held::default();
    let (handler, cuts) = (held.clone(), Arc::new(Mutex::new(vec![700_000, 1, 1_000_001])));
    let double = Double::cutting(
        move |request| {
            (request.method == "PATCH")
                .then(|| cuts.lock().unwrap().pop())
                .flatten()
        },
        move |request, _, stream| handler.answer(request, stream),
    );
    let (done, _) = push(&session(&double), &bytes).unwrap();
    assert_eq!((done.digest, done.size), (descriptor.digest, SIZE as u64));
    assert_eq!(held.bytes(), bytes);
    assert_eq!(
        methods(&double),
        ["POST", "PATCH", "GET", "PATCH", "GET", "PATCH", "GET", "PATCH", "PUT"]
    );
    // Nothing was sent twice.
    let sent: usize = double.requests().iter().map(|r| r.body.len()).sum();
    assert_eq!(sent, SIZE);
}

#[test]
fn the_last_answer_is_lost() {
    let (bytes, _) = blob(SIZE);
    let held = Held::default();
    let handler = held.clone();
    let double = Double::start(move |request, number, stream| {
        if number != 2 {
            handler.answer(request, stream);
        }
    });
    push(&session(&double), &bytes).unwrap();
    assert_eq!(held.bytes(), bytes);
    assert_eq!(methods(&double), ["POST", "PATCH", "PUT", "GET", "PUT"]);
}

#[test]
fn a_registry_that_forgot_the_upload_gets_all_of_it_again() {
    let (bytes, _) = blob(SIZE);
    let held = Held::default();
    let handler = held.clone();
    let double = Double::cutting(
        |request| (request.target.ends_with("first") && request.method == "PATCH").then_some(1_000_000),
        move |request, number, stream| match (request.method.as_str(), number) {
            ("POST", 0) => answer(
                stream,
                "202 Accepted",
                &[("Location", "/v2/me/app/blobs/uploads/first")],
                b"",
            ),
            ("GET", _) => answer(stream, "404 Not Found", &[], b"{}"),
            _ => handler.answer(request, stream),
        },
    );
    push(&session(&double), &bytes).unwrap();
    assert_eq!(held.bytes(), bytes);
    assert_eq!(methods(&double), ["POST", "PATCH", "GET", "POST", "PATCH", "PUT"]);
}

#[test]
fn a_registry_that_claims_more_than_was_sent() {
    let (bytes, _) = blob(SIZE);
    let held = Held::default();
    let double = Double::cutting(
        |request| (request.method == "PATCH").then_some(1000),
        move |request, _, stream| match request.method.as_str() {
            "GET" => answer(stream, "204 No Content", &[("Range", "0-99999999999")], b""),
            _ => held.answer(request, stream),
        },
    );
    let error = push(&session(&double), &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("has 100000000000 bytes, the source 3000000"),
        "{error}"
    );
}

#[test]
fn large_blobs_go_in_pieces_and_whole_where_those_are_refused() {
    let (bytes, descriptor) = blob((64 << 20) + 1_000_000);
    for refuses in [false, true] {
        let held = Held::default();
        let handler = held.clone();
        let double = Double::start(move |request, number, stream| match (request.method.as_str(), number) {
            ("PATCH", 2) if refuses => answer(stream, "400 Bad Request", &[], b"{}"),
            _ => handler.answer(request, stream),
        });
        let (done, _) = push(&session(&double), &bytes).unwrap();
        assert_eq!(done.digest, descriptor.digest);
        assert!(held.bytes() == bytes, "refuses: {refuses}");
        let wanted: &[&str] = match refuses {
            false => &["POST", "PATCH", "PATCH", "PUT"],
            true => &["POST", "PATCH", "PATCH", "POST", "PATCH", "PUT"],
        };
        assert_eq!(methods(&double), wanted);
    }
}

#[test]
fn a_registry_that_asks_to_wait() {
    let (bytes, _) = blob(1000);
    let held = Held::default();
    let handler = held.clone();
    let double = Double::start(move |request, number, stream| match number {
        0 | 2 | 6 => answer(stream, "429 Too Many Requests", &[("Retry-After", "0")], b"{}"),
        _ => handler.answer(request, stream),
    });
    let repository = session(&double);
    let mut upload = Upload::default();
    let error = repository
        .upload_on(&mut upload, &mut &bytes[..], None, None)
        .unwrap_err();
    // A stream is not sent again by itself; that is for whoever can make it again.
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::ZERO));
    repository.upload_on(&mut upload, &mut &bytes[..], None, None).unwrap();
    assert_eq!(held.bytes(), bytes);
    assert_eq!(
        methods(&double),
        ["POST", "POST", "PATCH", "GET", "POST", "PATCH", "PUT", "PUT"]
    );
}

#[test]
fn a_registry_that_takes_nothing_more() {
    let (bytes, _) = blob(64 << 20);
    let double = Double::cutting(
        |request| (request.method == "PATCH").then_some(1000),
        |request, _, stream| match request.method.as_str() {
            "PATCH" => std::thread::sleep(Duration::from_secs(20)),
            _ => Held::default().answer(request, stream),
        },
    );
    let registry = Registry::new(registry::Config {
        stall_timeout: Duration::from_millis(300),
        ..config()
    });
    let repository = registry
        .repository_for_push(&double.reference(), Auth::Anonymous)
        .unwrap();
    let error = repository.upload(&mut &bytes[..], None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
