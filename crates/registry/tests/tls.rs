//! What only a server with TLS can do: a redirect into the clear, a proxy that is spoken to by TLS.

mod double;

use double::certificates::{certificates, certificates_for};
use double::{Double, answer, blob, config};
use oci::reference::Reference;
use registry::{Auth, Config, Proxies, Registry};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Serves TLS on a port of loopback, one request a connection; the closure gets each request's head.
fn serve(dir: &Path, handler: impl Fn(&str, Tls) + Send + Sync + 'static) -> u16 {
    let chain = CertificateDer::pem_file_iter(dir.join("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let (config, handler) = (Arc::new(config), Arc::new(handler));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let session = ServerConnection::new(config.clone()).unwrap();
            let handler = handler.clone();
            std::thread::spawn(move || {
                let mut tls = StreamOwned::new(session, tcp);
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && tls.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                handler(&String::from_utf8_lossy(&head), tls);
            });
        }
    });
    port
}

/// A registry's storage may be a plain one in the same rack. What it gives is known by its digest; a manifest is not, and
/// nobody's password or token goes there.
#[test]
fn blobs_may_come_in_the_clear_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    if !certificates(dir.path()) {
        println!("skipped: no openssl in PATH");
        return;
    }
    let (bytes, descriptor) = blob(100_000);
    // 127.0.0.1 may be spoken to in the clear in any case: the storage has to have another name, and only the proxy for
    // http knows it.
    let storage = Double::start(move |request, _, stream| {
        assert!(
            request.target.starts_with("http://storage.example/"),
            "{}",
            request.target
        );
        assert_eq!(request.header("authorization"), None);
        match request.range() {
            0 => answer(stream, "200 OK", &[], &bytes),
            from => {
                let range = format!("bytes {from}-99999/100000");
                answer(
                    stream,
                    "206 Partial Content",
                    &[("Content-Range", &range)],
                    &bytes[from..],
                );
            }
        }
    });
    let port = serve(dir.path(), |head, mut tls| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = match head.contains("Authorization: Basic dTpw") {
            true => format!("307 Temporary Redirect\r\nLocation: http://storage.example{path}"),
            false => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=r".to_owned(),
        };
        let _ = write!(
            tls,
            "HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        tls.conn.send_close_notify();
        let _ = tls.flush();
    });
    let registry = Registry::new(Config {
        proxies: Proxies::new(&format!("127.0.0.1:{}", storage.port), "", ""),
        ..config()
    });
    let auth = Auth::Basic {
        user: "u".into(),
        password: "p".into(),
    };
    let reference = Reference::parse(&format!("127.0.0.1:{port}/me/app:1")).unwrap();
    let session = registry.repository(&reference, auth).unwrap();
    session.blob_bytes(&descriptor, 1 << 20).unwrap();
    // Who goes on in the middle checks the end by the diff ID.
    let mut rest = session.blob_from(&descriptor, 60_000).unwrap();
    assert_eq!(std::io::copy(&mut rest, &mut std::io::sink()).unwrap(), 40_000);
    let error = session.manifest(&reference).unwrap_err().to_string();
    assert!(
        error.contains("redirect from https to http://storage.example"),
        "{error}"
    );
    let mut part = session.blob_part(&descriptor, 10..20).unwrap();
    let error = part.read(&mut [0; 10]).unwrap_err().to_string();
    assert!(
        error.contains("redirect from https to http://storage.example"),
        "{error}"
    );
    assert_eq!(storage.requests().len(), 2);
}

/// Passes bytes on both ways until one side has no more.
fn tunnel(mut tls: Tls, to: u16) {
    let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
    let soon = Some(Duration::from_millis(5));
    server.set_read_timeout(soon).unwrap();
    tls.sock.set_read_timeout(soon).unwrap();
    let mut buffer = [0; 4096];
    let idle = |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    loop {
        match tls.read(&mut buffer) {
            Ok(n) if n > 0 => server.write_all(&buffer[..n]).unwrap(),
            Err(e) if idle(&e) => {}
            _ => return,
        }
        match server.read(&mut buffer) {
            Ok(n) if n > 0 => tls.write_all(&buffer[..n]).unwrap(),
            Err(e) if idle(&e) => {}
            _ => return,
        }
    }
}

/// A proxy at an `https://` URL was passed by: requests went to the registry directly, and nothing said so.
#[test]
fn a_proxy_with_tls() {
    let dir = tempfile::tempdir().unwrap();
    if !certificates(dir.path()) {
        println!("skipped: no openssl in PATH");
        return;
    }
    let behind = serve(dir.path(), |_, mut tls| {
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
        tls.conn.send_close_notify();
        let _ = tls.flush();
    });
    let tunnels = Arc::new(AtomicUsize::new(0));
    let seen = tunnels.clone();
    let proxy = serve(dir.path(), move |head, mut tls| {
        assert!(head.starts_with("CONNECT "), "{head}");
        seen.fetch_add(1, Ordering::SeqCst);
        if head.contains("Proxy-Authorization: Basic dTpw\r\n") {
            tls.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            tunnel(tls, behind);
        } else {
            let _ = tls.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let certs = tempfile::tempdir().unwrap();
    let ask = |user: &str, host: &str| {
        let registry = Registry::new(Config {
            proxies: Proxies::new("", &format!("https://{user}127.0.0.1:{proxy}"), ""),
            certs_dirs: vec![certs.path().to_owned()],
            insecure: vec!["registry.example".to_owned()],
            ..config()
        });
        let reference = Reference::parse(&format!("{host}/a:b")).unwrap();
        let session = registry.repository(&reference, Auth::Anonymous).unwrap();
        session.manifest(&reference).map(|manifest| manifest.bytes)
    };
    // The registry may have any certificate, the proxy may not.
    let error = ask("u:p@", "other.example").unwrap_err().to_string();
    assert_eq!(
        error,
        "Get \"https://other.example/v2/\": proxyconnect tcp: tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    ask("u:p@", "registry.example").unwrap_err();
    assert_eq!(tunnels.load(Ordering::SeqCst), 0);
    let trusted = certs.path().join(format!("127.0.0.1:{proxy}"));
    fs::create_dir(&trusted).unwrap();
    fs::copy(dir.path().join("ca.crt"), trusted.join("ca.crt")).unwrap();
    assert_eq!(ask("u:p@", "registry.example").unwrap(), b"{}");
    let error = ask("u:wrong@", "other.example").unwrap_err().to_string();
    assert_eq!(
        error,
        "Get \"https://other.example/v2/\": Proxy Authentication Required"
    );
}

/// A proxy in the clear that brings every host to one port of loopback.
fn everywhere(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
                let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut from, mut into) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut into));
                let _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    port
}

/// A registry of one's own whose tokens and blobs come from other hosts under the same CA: what the user says of the
/// registry is true of these, as in Docker.
#[test]
fn who_a_registry_sends_us_to() {
    let dir = tempfile::tempdir().unwrap();
    if !certificates_for(dir.path(), "DNS:registry.example,DNS:auth.example,DNS:blobs.example") {
        println!("skipped: no openssl in PATH");
        return;
    }
    let (bytes, descriptor) = blob(1000);
    let sent = bytes.clone();
    let port = serve(dir.path(), move |head, mut tls| {
        let host = head.split("Host: ").nth(1).and_then(|rest| rest.lines().next());
        let (status, headers, body) = match host.unwrap_or_default() {
            "auth.example" => {
                assert!(head.contains("Authorization: Basic dTpw"), "{head}");
                ("200 OK", String::new(), br#"{"token":"t"}"#.to_vec())
            }
            "blobs.example" => {
                assert!(!head.contains("Authorization"), "{head}");
                ("200 OK", String::new(), sent.clone())
            }
            _ if head.contains("Authorization: Bearer t") => (
                "307 Temporary Redirect",
                "Location: https://blobs.example/blob\r\n".to_owned(),
                Vec::new(),
            ),
            _ => (
                "401 Unauthorized",
                "WWW-Authenticate: Bearer realm=\"https://auth.example/token\"\r\n".to_owned(),
                Vec::new(),
            ),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let _ = tls.write_all(head.as_bytes());
        let _ = tls.write_all(&body);
        tls.conn.send_close_notify();
        let _ = tls.flush();
    });
    let proxy = everywhere(port);
    let certs = tempfile::tempdir().unwrap();
    let ask = |insecure: &[&str]| {
        let registry = Registry::new(Config {
            proxies: Proxies::new("", &format!("http://127.0.0.1:{proxy}"), ""),
            certs_dirs: vec![certs.path().to_owned()],
            insecure: insecure.iter().map(|host| host.to_string()).collect(),
            ..config()
        });
        let auth = Auth::Basic {
            user: "u".into(),
            password: "p".into(),
        };
        let reference = Reference::parse("registry.example/a:b").unwrap();
        let session = registry.repository(&reference, auth).unwrap();
        session.blob_bytes(&descriptor, 1 << 20)
    };
    let error = ask(&[]).unwrap_err().to_string();
    assert!(error.contains("signed by unknown authority"), "{error}");
    assert_eq!(ask(&["registry.example"]).unwrap(), bytes);
    for (host, right) in [("auth.example", false), ("registry.example", true)] {
        let own = certs.path().join(host);
        fs::create_dir(&own).unwrap();
        fs::copy(dir.path().join("ca.crt"), own.join("ca.crt")).unwrap();
        assert_eq!(ask(&[]).is_ok(), right, "{host}");
    }
}
