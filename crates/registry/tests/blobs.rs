//! Blobs over bad connections: cut, stalled, ranges ignored, redirected, damaged.

mod double;

use double::{Double, answer, blob, client, config, descriptor};
use registry::{Auth, BlobError, BlobReader, Error, Registry, Repository, Sha256};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SIZE: usize = 300_000;

fn session(double: &Double) -> Repository {
    client().repository(&double.reference(), Auth::Anonymous).unwrap()
}

fn read(mut reader: BlobReader) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => Err(BlobError::of(&e).unwrap().to_string()),
    }
}

/// Answers `bytes[from..]` as a partial response, but sends at most `most` of it.
fn partial(stream: &mut std::net::TcpStream, bytes: &[u8], from: usize, most: usize) {
    let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
    let total = bytes.len();
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", total - from);
    if from > 0 {
        head.push_str(&format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&bytes[from..(from + most).min(total)]);
}

#[test]
fn resumes_where_it_was_cut() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, _, stream| partial(stream, &sent, request.range(), 50_000));
    let retries = Arc::new(Mutex::new(Vec::new()));
    let seen = retries.clone();
    let mut reader = session(&double)
        .blob_reader(&descriptor, 0, Box::new(Sha256::new()))
        .unwrap();
    reader.on_retry(move |retry| seen.lock().unwrap().push((retry.attempt, retry.offset)));
    assert_eq!(read(reader).unwrap(), bytes);
    // Six pieces, more than the five attempts: progress starts the count again.
    let ranges: Vec<usize> = double.requests().iter().map(|r| r.range()).collect();
    assert_eq!(ranges, [0, 50_000, 100_000, 150_000, 200_000, 250_000]);
    assert!(retries.lock().unwrap().iter().all(|(attempt, _)| *attempt == 1));
}

#[test]
fn gives_up_where_there_is_no_progress() {
    let (bytes, descriptor) = blob(SIZE);
    let double = Double::start(move |request, number, stream| {
        partial(stream, &bytes, request.range(), if number == 0 { 1000 } else { 0 });
    });
    let error = read(session(&double).blob(&descriptor).unwrap()).unwrap_err();
    assert!(
        error.contains("stopped at 1000 of 300000 bytes after 5 attempts: unexpected EOF"),
        "{error}"
    );
}

#[test]
fn servers_that_ignore_ranges() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |_, number, stream| partial(stream, &sent, 0, 100_000 * (number + 1)));
    assert_eq!(read(session(&double).blob(&descriptor).unwrap()).unwrap(), bytes);
    assert_eq!(double.requests().len(), 3);
}

#[test]
fn servers_that_refuse_ranges() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, number, stream| match request.range() {
        0 => partial(stream, &sent, 0, if number == 0 { 100_000 } else { SIZE }),
        _ => answer(stream, "416 Range Not Satisfiable", &[], b""),
    });
    assert_eq!(read(session(&double).blob(&descriptor).unwrap()).unwrap(), bytes);
}

#[test]
fn odd_partial_answers() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |_, number, stream| match number {
        0 => partial(stream, &sent, 0, 100_000),
        // From after the place we are at: unusable. From before it: skipped.
        1 => partial(stream, &sent, 150_000, SIZE),
        2 => answer(
            stream,
            "206 Partial Content",
            &[("Content-Range", "bytes x")],
            &sent[100_000..],
        ),
        _ => partial(stream, &sent, 90_000, SIZE),
    });
    assert_eq!(read(session(&double).blob(&descriptor).unwrap()).unwrap(), bytes);
    assert_eq!(double.requests().len(), 4);
}

#[test]
fn stalled_connections_are_left() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, number, stream| {
        partial(stream, &sent, request.range(), if number == 0 { 100_000 } else { SIZE });
        if number == 0 {
            std::thread::sleep(Duration::from_secs(10));
        }
    });
    let registry = Registry::new(registry::Config {
        stall_timeout: Duration::from_millis(300),
        ..config()
    });
    let start = Instant::now();
    let session = registry.repository(&double.reference(), Auth::Anonymous).unwrap();
    assert_eq!(read(session.blob(&descriptor).unwrap()).unwrap(), bytes);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn cancelling_wakes_a_waiting_read() {
    let (bytes, descriptor) = blob(SIZE);
    let double = Double::start(move |_, _, stream| {
        partial(stream, &bytes, 0, 1000);
        std::thread::sleep(Duration::from_secs(10));
    });
    let session = session(&double);
    let cancel = session.cancel_handle();
    let reader = session.blob(&descriptor).unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        cancel.cancel();
    });
    let start = Instant::now();
    assert_eq!(read(reader).unwrap_err(), "context canceled");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(matches!(session.blob(&descriptor), Err(BlobError::Cancelled)));
}

#[test]
fn damage_is_found_at_the_end() {
    let (bytes, wanted) = blob(SIZE);
    let mut sent = bytes.clone();
    sent[SIZE / 2] ^= 1;
    let other = Sha256::digest(&sent);
    let double = Double::start(move |request, _, stream| partial(stream, &sent, request.range(), SIZE));
    let mut reader = session(&double).blob(&wanted).unwrap();
    let mut got = Vec::new();
    let error = reader.read_to_end(&mut got).unwrap_err();
    assert_eq!(got.len(), SIZE);
    match BlobError::of(&error).unwrap() {
        BlobError::DigestMismatch { expected, got } => assert_eq!((expected, got), (&wanted.digest, &other)),
        e => panic!("{e}"),
    }
    assert_eq!(
        error.to_string(),
        format!("filesystem layer verification failed for digest {}", wanted.digest)
    );
}

#[test]
fn wrong_sizes() {
    let (bytes, wanted) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, _, stream| partial(stream, &sent, request.range(), SIZE));
    for delta in [-1i64, 1] {
        let mut wrong = wanted.clone();
        wrong.size = wrong.size.checked_add_signed(delta).unwrap();
        assert!(matches!(
            session(&double).blob(&wrong),
            Err(BlobError::SizeMismatch { got: 300_000, .. })
        ));
    }
    // Chunked: the length shows at the end only.
    let double = Double::start(move |_, _, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in bytes.chunks(7777) {
            let _ = write!(stream, "{:X};x=y\r\n", piece.len());
            let _ = stream.write_all(piece);
            let _ = write!(stream, "\r\n");
        }
        let _ = write!(stream, "0\r\nTrailer: x\r\n\r\n");
    });
    assert_eq!(read(session(&double).blob(&wanted).unwrap()).unwrap().len(), SIZE);
    let mut short = wanted.clone();
    short.size -= 1;
    let error = read(session(&double).blob(&short).unwrap()).unwrap_err();
    assert!(
        error.contains("has 300000 bytes where its descriptor says 299999"),
        "{error}"
    );
}

#[test]
fn an_empty_blob_is_verified_too() {
    let double = Double::start(|_, _, stream| answer(stream, "200 OK", &[], b""));
    let empty = descriptor(b"", Sha256::digest(b""));
    assert_eq!(session(&double).blob_bytes(&empty, 10).unwrap(), b"");
    let wrong = descriptor(b"", Sha256::digest(b"x"));
    assert!(matches!(
        session(&double).blob_bytes(&wrong, 10),
        Err(BlobError::DigestMismatch { .. })
    ));
    let large = blob(11).1;
    assert!(matches!(
        session(&double).blob_bytes(&large, 10),
        Err(BlobError::TooLarge { .. })
    ));
}

#[test]
fn goes_on_after_a_restart() {
    use registry::HashState;
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, _, stream| partial(stream, &sent, request.range(), SIZE));
    let mut hash = Sha256::new();
    hash.update(&bytes[..123_456]);
    let reader = session(&double).blob_at(&descriptor, 123_456, Box::new(hash)).unwrap();
    assert_eq!(read(reader).unwrap(), bytes[123_456..]);
    // A state that is not that of the prefix is found out.
    let reader = session(&double)
        .blob_at(&descriptor, 123_456, Box::new(Sha256::new()))
        .unwrap();
    assert!(read(reader).unwrap_err().contains("verification failed"));
}

#[test]
fn redirects_keep_the_token_at_home() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let storage = Double::start(move |request, number, stream| {
        assert_eq!(request.header("authorization"), None);
        partial(stream, &sent, request.range(), if number == 0 { 1000 } else { SIZE });
    });
    let target = format!("http://127.0.0.1:{}/data?sig=a%2Fb", storage.port);
    let double = Double::start(move |request, _, stream| {
        assert_eq!(request.header("authorization"), Some("Bearer mine"));
        answer(stream, "307 Temporary Redirect", &[("Location", &target)], b"moved");
    });
    let session = client()
        .repository(&double.reference(), Auth::RegistryToken("mine".into()))
        .unwrap();
    assert_eq!(read(session.blob(&descriptor).unwrap()).unwrap(), bytes);
    // Each attempt asks the registry: signed locations expire.
    assert_eq!(double.requests().len(), 2);
    assert_eq!(storage.requests()[1].target, "/data?sig=a%2Fb");
}

#[test]
fn redirect_loops_end() {
    let (_, descriptor) = blob(10);
    let double = Double::start(|_, _, stream| answer(stream, "307 Temporary Redirect", &[("Location", "/again")], b""));
    let error = session(&double).blob(&descriptor).unwrap_err();
    let url = format!("http://127.0.0.1:{}/v2/me/app/blobs/{}", double.port, descriptor.digest);
    assert_eq!(error.to_string(), format!("Get \"{url}\": stopped after 10 redirects"));
}

#[test]
fn server_errors_are_waited_out_and_refusals_not() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, number, stream| match number {
        0 => answer(stream, "503 Service Unavailable", &[], b""),
        1 => answer(stream, "429 Too Many Requests", &[("Retry-After", "0")], b"{}"),
        _ => partial(stream, &sent, request.range(), SIZE),
    });
    assert_eq!(read(session(&double).blob(&descriptor).unwrap()).unwrap(), bytes);
    for status in ["404 Not Found", "403 Forbidden"] {
        let double = Double::start(move |_, _, stream| answer(stream, status, &[], b"{}"));
        assert!(matches!(
            session(&double).blob(&descriptor),
            Err(BlobError::Registry(Error::Unparsable { .. }))
        ));
        assert_eq!(double.requests().len(), 1);
    }
}

/// Answers with the part that was asked for, but sends at most `most` bytes of it.
fn part(request: &double::Request, stream: &mut std::net::TcpStream, bytes: &[u8], most: usize) {
    let range = request
        .header("range")
        .unwrap()
        .strip_prefix("bytes=")
        .unwrap()
        .to_owned();
    let (start, last) = range.split_once('-').unwrap();
    let (start, end) = (start.parse::<usize>().unwrap(), last.parse::<usize>().unwrap() + 1);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{last}/{}\r\n\r\n",
        end - start,
        bytes.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&bytes[start..(start + most).min(end)]);
}

#[test]
fn a_part_of_a_blob() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let double = Double::start(move |request, _, stream| part(request, stream, &sent, 20_000));
    let session = session(&double);
    let read_part = |range: std::ops::Range<u64>| read(session.blob_part(&descriptor, range).unwrap()).unwrap();
    assert!(read_part(50_000..100_000) == bytes[50_000..100_000]);
    assert!(read_part(0..10) == bytes[..10]);
    // No more than there is, and nothing without asking anybody.
    assert!(read_part(299_000..400_000) == bytes[299_000..]);
    assert!(read_part(7..7).is_empty());
    let ranges: Vec<_> = double
        .requests()
        .iter()
        .map(|request| request.header("range").unwrap().to_owned())
        .collect();
    let wanted = ["50000-99999", "70000-99999", "90000-99999", "0-9", "299000-299999"];
    assert_eq!(ranges, wanted.map(|range| format!("bytes={range}")));
    assert!(session.blob_part(&descriptor, 400_000..400_001).is_err());
}

#[test]
fn a_part_is_asked_for_where_a_redirect_leads() {
    let (bytes, descriptor) = blob(SIZE);
    let sent = bytes.clone();
    let storage = Double::start(move |request, _, stream| {
        assert_eq!(request.header("authorization"), None);
        part(request, stream, &sent, SIZE);
    });
    let target = format!("http://127.0.0.1:{}/data", storage.port);
    let double = Double::start(move |request, _, stream| {
        assert_eq!(request.header("authorization"), Some("Bearer mine"));
        answer(stream, "307 Temporary Redirect", &[("Location", &target)], b"moved");
    });
    let session = client().repository(&double.reference(), Auth::RegistryToken("mine".into()));
    let reader = session.unwrap().blob_part(&descriptor, 1000..3000).unwrap();
    assert!(read(reader).unwrap() == bytes[1000..3000]);
    assert_eq!(storage.requests()[0].header("range"), Some("bytes=1000-2999"));
}

#[test]
fn no_whole_blob_comes_for_a_part() {
    let (bytes, descriptor) = blob(SIZE);
    for case in 0..5 {
        let sent = bytes.clone();
        let double = Double::start(move |_, _, stream| match case {
            0 => answer(stream, "200 OK", &[], &sent),
            1 => answer(stream, "416 Range Not Satisfiable", &[], b""),
            2 => answer(stream, "404 Not Found", &[], b""),
            3 => partial(stream, &sent, 1, SIZE),
            _ => answer(
                stream,
                "206 Partial Content",
                &[("Content-Range", "bytes 1000-1999/777")],
                &sent[1000..2000],
            ),
        });
        let error = read(session(&double).blob_part(&descriptor, 1000..2000).unwrap()).unwrap_err();
        assert_eq!(double.requests().len(), 1, "{case}: {error}");
    }
}
