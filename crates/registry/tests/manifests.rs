//! Manifests, mirrors and errors against a double.

mod double;

use double::{Double, answer, client, config};
use oci::digest::Digest;
use oci::reference::Reference;
use registry::{Auth, Config, Error, ErrorKind, Registry, Sha256};

const BODY: &[u8] = br#"{"schemaVersion":2}"#;
const TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn pull(registry: &Registry, reference: &Reference) -> Result<Digest, Error> {
    let session = registry.repository(reference, Auth::Anonymous)?;
    session.manifest(reference).map(|m| m.digest)
}

#[test]
fn by_tag_and_by_digest() {
    let digest = Sha256::digest(BODY);
    let claimed = digest.to_string();
    let double = Double::start(move |request, _, stream| {
        assert_eq!(request.headers.iter().filter(|(n, _)| n == "Accept").count(), 5);
        let headers = [
            (
                "Content-Type",
                "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
            ),
            ("Docker-Content-Digest", &claimed),
        ];
        answer(
            stream,
            "200 OK",
            &headers,
            if request.method == "HEAD" { b"" } else { BODY },
        );
    });
    let tagged = double.reference();
    let session = client().repository(&tagged, Auth::Anonymous).unwrap();
    let manifest = session.manifest(&tagged).unwrap();
    assert_eq!((&manifest.digest, manifest.media_type.as_str()), (&digest, TYPE));
    assert_eq!(session.manifest(&tagged.with_digest(&digest)).unwrap().digest, digest);
    assert_eq!(session.resolve(&tagged).unwrap().digest, digest);
    assert_eq!(double.requests().last().unwrap().method, "HEAD");
    let other = Sha256::digest(b"x");
    match session.manifest(&tagged.with_digest(&other)).unwrap_err() {
        Error::ManifestDigest { expected, got } => assert_eq!((expected, got), (other, digest)),
        e => panic!("{e}"),
    }
}

#[test]
fn a_digest_header_that_lies() {
    let double = Double::start(|_, _, stream| {
        answer(
            stream,
            "200 OK",
            &[("Docker-Content-Digest", Sha256::digest(b"x").as_str())],
            BODY,
        );
    });
    assert!(matches!(
        pull(&client(), &double.reference()),
        Err(Error::ManifestDigest { .. })
    ));
}

#[test]
fn too_large() {
    let double = Double::start(|_, _, stream| answer(stream, "200 OK", &[], &vec![b' '; (4 << 20) + 1]));
    assert!(matches!(
        pull(&client(), &double.reference()),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn answers_in_dockers_words() {
    for (status, headers, body, kind, text) in [
        (
            "404 Not Found",
            &[][..],
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":"x"}]}"#,
            ErrorKind::NotFound,
            "manifest for {familiar} not found: manifest unknown: manifest unknown",
        ),
        (
            "403 Forbidden",
            &[],
            r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
            ErrorKind::Denied,
            "pull access denied for {name}, repository does not exist or may require 'docker login': denied: no",
        ),
        (
            "401 Unauthorized",
            &[],
            "",
            ErrorKind::Denied,
            "unauthorized: authentication required",
        ),
        (
            "500 Internal Server Error",
            &[],
            "oops",
            ErrorKind::Unavailable,
            "received unexpected HTTP status: 500 Internal Server Error",
        ),
        (
            "429 Too Many Requests",
            &[("Retry-After", "600")],
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#,
            ErrorKind::RateLimited,
            "toomanyrequests: You have reached your pull rate limit.",
        ),
        (
            "404 Not Found",
            &[],
            "<html>gone</html>",
            ErrorKind::NotFound,
            "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>gone</html>\"",
        ),
    ] {
        let double = Double::start(move |_, _, stream| answer(stream, status, headers, body.as_bytes()));
        let reference = double.reference();
        let error = pull(&client(), &reference).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        let expected = text
            .replace("{familiar}", &reference.familiar())
            .replace("{name}", &reference.repository().familiar());
        assert_eq!(error.for_pull(&reference), expected);
    }
}

#[test]
fn short_rate_limits_are_waited_out() {
    let double = Double::start(|_, number, stream| match number {
        0 => answer(stream, "429 Too Many Requests", &[("Retry-After", "0")], b"{}"),
        1 => answer(stream, "502 Bad Gateway", &[], b""),
        _ => answer(stream, "200 OK", &[], BODY),
    });
    pull(&client(), &double.reference()).unwrap();
}

/// Docker asks twice, by HEAD and by GET, and so survives one of these without meaning to.
#[test]
fn a_hiccup_without_a_time_is_waited_out() {
    for (status, headers) in [
        ("429 Too Many Requests", &[][..]),
        (
            "429 Too Many Requests",
            &[("Retry-After", "99999999999999999999999999")],
        ),
        ("429 Too Many Requests", &[("Retry-After", "soon")]),
        ("500 Internal Server Error", &[]),
    ] {
        let double = Double::start(move |_, number, stream| match number {
            0 => answer(stream, status, headers, b"{}"),
            _ => answer(stream, "200 OK", &[], BODY),
        });
        pull(&client(), &double.reference()).unwrap_or_else(|e| panic!("{status} {headers:?}: {e}"));
    }
}

#[test]
fn nobody_there() {
    let reference = Reference::parse("127.0.0.1:1/a:b").unwrap();
    let error = pull(&client(), &reference).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn mirrors_come_first_and_get_no_secrets() {
    let mirror = Double::start(|request, _, stream| {
        assert_eq!(request.header("authorization"), None);
        match request.target.as_str() {
            "/v2/library/busybox/manifests/1" => answer(stream, "200 OK", &[], BODY),
            _ => answer(stream, "404 Not Found", &[], b"{}"),
        }
    });
    let mirrors = vec![format!("http://127.0.0.1:{}", mirror.port)];
    // Past the mirror there is only the proxy, which is not there: no test talks to Docker Hub.
    let proxies = registry::Proxies::new("", "http://127.0.0.1:1", "");
    let registry = Registry::new(Config {
        mirrors,
        proxies,
        ..config()
    });
    let auth = Auth::Basic {
        user: "u".into(),
        password: "p".into(),
    };
    let reference = Reference::parse("busybox:1").unwrap();
    registry
        .repository(&reference, auth)
        .unwrap()
        .manifest(&reference)
        .unwrap();
    let error = pull(&registry, &Reference::parse("busybox:2").unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://registry-1.docker.io/v2/\": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused"
    );
}

#[test]
fn tags_over_pages() {
    let double = Double::start(|request, _, stream| match request.target.as_str() {
        "/v2/me/app/tags/list" => {
            let link = "</v2/me/app/tags/list?last=b&n=2>; rel=\"next\"";
            answer(
                stream,
                "200 OK",
                &[("Link", link)],
                br#"{"name":"me/app","tags":["a","b"]}"#,
            )
        }
        _ => answer(stream, "200 OK", &[], br#"{"tags":["c"]}"#),
    });
    let session = client().repository(&double.reference(), Auth::Anonymous).unwrap();
    assert_eq!(session.tags().unwrap(), ["a", "b", "c"]);
}

/// A list of tags that goes on for ever took all memory.
#[test]
fn tags_without_end() {
    let page = format!(r#"{{"tags":["{}"]}}"#, "x".repeat(1 << 20));
    let double = Double::start(move |_, number, stream| {
        let link = format!("</v2/me/app/tags/list?last={number}>; rel=\"next\"");
        answer(stream, "200 OK", &[("Link", &link)], page.as_bytes());
    });
    let session = client().repository(&double.reference(), Auth::Anonymous).unwrap();
    let error = session.tags().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(double.requests().len() <= 17);
    let double = Double::start(|_, number, stream| {
        let link = format!("</v2/me/app/tags/list?last={number}>; rel=\"next\"");
        answer(stream, "200 OK", &[("Link", &link)], br#"{"tags":["a"]}"#);
    });
    let session = client().repository(&double.reference(), Auth::Anonymous).unwrap();
    let error = session.tags().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

/// None of these ever stalls.
#[test]
fn answers_without_end() {
    fn forever(stream: &mut std::net::TcpStream, head: &str, piece: &str) {
        use std::io::Write;
        let mut sent = stream.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = stream.write_all(piece.as_bytes());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    for (head, piece, said) in [
        (
            "",
            "HTTP/1.1 102 Processing\r\n\r\n",
            "too many 1xx informational responses",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            "a: b\r\n",
            "too many trailers",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
            " ",
            "Client.Timeout exceeded",
        ),
        ("HTTP/1.1 200 OK\r\nX: ", "x", "Client.Timeout exceeded"),
    ] {
        let double = Double::start(move |_, _, stream| forever(stream, head, piece));
        let registry = Registry::new(Config {
            stall_timeout: std::time::Duration::from_millis(100),
            ..config()
        });
        let error = pull(&registry, &double.reference()).unwrap_err().to_string();
        assert!(error.contains(said), "{head:?}: {error}");
    }
}
