//! The real registry (`docker-registry` in PATH): push, pull, mount, TLS with a CA of our own in certs.d.

mod double;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use double::certificates::{certificates, openssl};
use double::{blob, config};
use oci::reference::Reference;
use registry::{Auth, Config, Error, ErrorKind, Registry, Sha256};

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running registry; ends with the test.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(extra: &str, dir: tempfile::TempDir) -> Option<Server> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let root = dir.path().display();
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{extra}"
    );
    let file = dir.path().join("config.yml");
    fs::write(&file, text).unwrap();
    let spawned = Command::new("docker-registry")
        .args(["serve".as_ref(), file.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = spawned else {
        println!("skipped: no docker-registry in PATH");
        return None;
    };
    let server = Server { child, port, _dir: dir };
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("docker-registry does not listen");
}

fn manifest_for(config: &oci::manifest::Descriptor, layer: &oci::manifest::Descriptor) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        config.digest, config.size, layer.digest, layer.size
    )
    .into_bytes()
}

#[test]
fn push_and_pull() {
    let Some(server) = start("", tempfile::tempdir().unwrap()) else {
        return;
    };
    let registry = Registry::new(config());
    let reference = Reference::parse(&format!("127.0.0.1:{}/me/app:1", server.port)).unwrap();
    let session = registry.repository_for_push(&reference, Auth::Anonymous).unwrap();
    let (layer, layer_descriptor) = blob(3_000_000);
    let (image, image_descriptor) = blob(500);
    assert_eq!(session.blob_exists(&layer_descriptor.digest).unwrap(), None);
    // Of unknown length, of known length, and with a digest that is wrong.
    let up = session.upload(&mut layer.as_slice(), None, None).unwrap();
    assert_eq!((up.digest, up.size), (layer_descriptor.digest.clone(), 3_000_000));
    session
        .upload(&mut image.as_slice(), Some(500), Some(&image_descriptor.digest))
        .unwrap();
    assert!(
        session
            .upload(&mut image.as_slice(), None, Some(&layer_descriptor.digest))
            .is_err()
    );
    assert!(session.upload(&mut image.as_slice(), Some(501), None).is_err());
    assert_eq!(session.blob_exists(&layer_descriptor.digest).unwrap(), Some(3_000_000));
    let bytes = manifest_for(&image_descriptor, &layer_descriptor);
    let digest = session.put_manifest("1", TYPE, &bytes).unwrap();
    assert_eq!(digest, Sha256::digest(&bytes));

    let session = registry.repository(&reference, Auth::Anonymous).unwrap();
    let manifest = session.manifest(&reference).unwrap();
    assert_eq!(
        (manifest.bytes, manifest.media_type.as_str(), &manifest.digest),
        (bytes, TYPE, &digest)
    );
    assert_eq!(session.resolve(&reference).unwrap().digest, digest);
    assert_eq!(session.tags().unwrap(), ["1"]);
    assert_eq!(session.blob_bytes(&image_descriptor, 1000).unwrap(), image);
    let mut got = Vec::new();
    session.blob(&layer_descriptor).unwrap().read_to_end(&mut got).unwrap();
    assert_eq!(got, layer);
    let mut hash = Sha256::new();
    registry::HashState::update(&mut hash, &layer[..1_000_000]);
    got.clear();
    session
        .blob_at(&layer_descriptor, 1_000_000, Box::new(hash))
        .unwrap()
        .read_to_end(&mut got)
        .unwrap();
    assert_eq!(got, layer[1_000_000..]);

    let missing = reference.with_tag("none").unwrap();
    let error = session.manifest(&missing).unwrap_err();
    assert_eq!(
        error.for_pull(&missing),
        format!(
            "manifest for {} not found: manifest unknown: manifest unknown",
            missing.familiar()
        )
    );
    assert_eq!(session.resolve(&missing).unwrap_err().kind(), ErrorKind::NotFound);

    let neighbour = Reference::parse(&format!("127.0.0.1:{}/me/other:1", server.port)).unwrap();
    let session = registry.repository_for_push(&neighbour, Auth::Anonymous).unwrap();
    assert!(session.mount(&layer_descriptor.digest, "me/app").unwrap());
    assert!(!session.mount(&Sha256::digest(b"nowhere"), "me/app").unwrap());
    assert_eq!(session.blob_exists(&layer_descriptor.digest).unwrap(), Some(3_000_000));
}

#[test]
fn tls_with_certs_d() {
    let dir = tempfile::tempdir().unwrap();
    if !certificates(dir.path()) {
        println!("skipped: no openssl in PATH");
        return;
    }
    let root = dir.path().to_owned();
    let tls = format!(
        "  tls:\n    certificate: {0}/server.crt\n    key: {0}/server.key\n    clientcas: [{0}/ca.crt]\n",
        root.display()
    );
    let Some(server) = start(&tls, dir) else { return };
    let certs = tempfile::tempdir().unwrap();
    let host = format!("127.0.0.1:{}", server.port);
    let own = certs.path().join(&host);
    fs::create_dir(&own).unwrap();
    let reference = Reference::parse(&format!("{host}/a:b")).unwrap();
    // One client: what lies in the directory when it asks counts, not what lay there when it began.
    let registry = Registry::new(Config {
        certs_dirs: vec![certs.path().to_owned()],
        ..config()
    });
    let ask = || {
        let session = registry.repository(&reference, Auth::Anonymous).unwrap();
        session.manifest(&reference).unwrap_err()
    };
    // The server wants a client certificate; we have none. Loopback is insecure, so the CA does not matter.
    let error = ask();
    assert!(error.to_string().contains("tls: "), "{error}");
    fs::copy(root.join("client.cert"), own.join("client.cert")).unwrap();
    let error = ask();
    assert!(
        error
            .to_string()
            .contains("missing key client.key for client certificate client.cert."),
        "{error}"
    );
    fs::copy(root.join("server.key"), own.join("client.key")).unwrap();
    let error = ask().to_string();
    assert!(
        error.starts_with("tls: private key does not match public key of "),
        "{error}"
    );
    fs::copy(root.join("client.key"), own.join("client.cert")).unwrap();
    let error = ask().to_string();
    assert!(error.contains("client.cert has no certificate"), "{error}");
    fs::copy(root.join("client.cert"), own.join("client.cert")).unwrap();
    fs::copy(root.join("client.key"), own.join("client.key")).unwrap();
    let error = ask();
    assert!(matches!(error, Error::Api { status: 404, .. }), "{error}");
    // Of several, the one that the server's authority signed, and not the first.
    let stranger =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout a.key -out a.cert -days 2 -subj /CN=a";
    assert!(openssl(&own, stranger));
    let error = ask();
    assert!(matches!(error, Error::Api { status: 404, .. }), "{error}");
    // Alone it is sent, so that the server says what is wrong with it.
    fs::remove_file(own.join("client.cert")).unwrap();
    fs::remove_file(own.join("client.key")).unwrap();
    let error = ask().to_string();
    assert!(error.contains("remote error: tls: "), "{error}");
    assert!(!error.contains("certificate required"), "{error}");
}

#[test]
fn tls_verification() {
    let dir = tempfile::tempdir().unwrap();
    if !certificates(dir.path()) {
        println!("skipped: no openssl in PATH");
        return;
    }
    let root = dir.path().to_owned();
    let tls = format!(
        "  tls:\n    certificate: {0}/server.crt\n    key: {0}/server.key\n",
        root.display()
    );
    let Some(server) = start(&tls, dir) else { return };
    // Verification is on for a name that is not loopback: a proxy brings it to our server.
    let port = server.port;
    let proxy = connect_proxy(port);
    let certs = tempfile::tempdir().unwrap();
    let ask = |host: &str| {
        let proxies = registry::Proxies::new("", &format!("http://u:p@127.0.0.1:{proxy}"), "");
        let registry = Registry::new(Config {
            proxies,
            certs_dirs: vec![certs.path().to_owned()],
            ..config()
        });
        let reference = Reference::parse(&format!("{host}/a:b")).unwrap();
        registry
            .repository(&reference, Auth::Anonymous)
            .unwrap()
            .manifest(&reference)
            .unwrap_err()
    };
    let error = ask("registry.example:443");
    assert_eq!(
        error.to_string(),
        "Get \"https://registry.example/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    fs::create_dir(certs.path().join("registry.example")).unwrap();
    fs::copy(root.join("ca.crt"), certs.path().join("registry.example/ca.crt")).unwrap();
    let error = ask("registry.example");
    assert!(
        error
            .to_string()
            .ends_with("x509: certificate is valid for 127.0.0.1, localhost, not registry.example"),
        "{error}"
    );
}

/// A certificate that signed itself, as `openssl req -x509` makes them for a registry of one's own: a CA and a server in one.
#[test]
fn a_certificate_that_signed_itself() {
    for (days, names, said) in [
        ("2", "registry.example", "404"),
        (
            "2",
            "other.example",
            "certificate is valid for other.example, not registry.example",
        ),
        ("-1", "registry.example", "certificate has expired or is not yet valid"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let extensions = format!("basicConstraints=critical,CA:TRUE\nsubjectAltName=DNS:{names}\n");
        fs::write(dir.path().join("extensions"), extensions).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let made = [
            format!("req {key} -keyout own.key -out own.csr -subj /CN=own"),
            format!("x509 -req -in own.csr -signkey own.key -days {days} -extfile extensions -out own.crt"),
        ];
        if !made.iter().all(|line| openssl(dir.path(), line)) {
            println!("skipped: no openssl in PATH");
            return;
        }
        let root = dir.path().to_owned();
        let tls = format!(
            "  tls:\n    certificate: {0}/own.crt\n    key: {0}/own.key\n",
            root.display()
        );
        let Some(server) = start(&tls, dir) else { return };
        let proxy = connect_proxy(server.port);
        let certs = tempfile::tempdir().unwrap();
        let ask = || {
            let registry = Registry::new(Config {
                proxies: registry::Proxies::new("", &format!("http://u:p@127.0.0.1:{proxy}"), ""),
                certs_dirs: vec![certs.path().to_owned()],
                ..config()
            });
            let reference = Reference::parse("registry.example:443/a:b").unwrap();
            let session = registry.repository(&reference, Auth::Anonymous).unwrap();
            session.manifest(&reference).unwrap_err()
        };
        let own = certs.path().join("registry.example:443");
        fs::create_dir(&own).unwrap();
        // Nobody's word for it, then another's.
        let error = ask().to_string();
        let unknown = if days == "2" {
            "certificate signed by unknown authority"
        } else {
            said
        };
        assert!(error.contains(unknown), "{error}");
        assert!(certificates(certs.path()));
        fs::copy(certs.path().join("ca.crt"), own.join("ca.crt")).unwrap();
        let error = ask().to_string();
        assert!(error.contains(unknown), "{error}");
        fs::copy(root.join("own.crt"), own.join("own.crt")).unwrap();
        match ask() {
            Error::Api { status, .. } => assert_eq!(status.to_string(), said),
            error => assert!(error.to_string().contains(said), "{error}"),
        }
    }
}

/// A proxy that tunnels every host to one port of ours.
fn connect_proxy(to: u16) -> u16 {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(client.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok);
                let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                assert!(head[0].starts_with("CONNECT registry.example:443 "), "{head:?}");
                assert!(head.contains(&"Proxy-Authorization: Basic dTpw".to_owned()), "{head:?}");
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut from, mut into) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut into));
                let _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    port
}

/// Passes connections on to a port; the first large one breaks after so many bytes.
fn breaking_proxy(to: u16, after: usize) -> u16 {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let broken = broken.clone();
            let (mut back, mut answer) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut answer, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let (mut client, mut server, mut passed) = (client, server, 0);
                let mut buffer = [0; 8192];
                while let Ok(n @ 1..) = client.read(&mut buffer) {
                    passed += n;
                    let breaks = passed > after && !broken.swap(passed > after, std::sync::atomic::Ordering::SeqCst);
                    if breaks || server.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(std::net::Shutdown::Both);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

/// It keeps what arrived, and refuses to go on with it: the upload is begun again, and good.
#[test]
fn an_upload_that_breaks_in_the_middle() {
    let Some(server) = start("", tempfile::tempdir().unwrap()) else {
        return;
    };
    let port = breaking_proxy(server.port, 1_000_000);
    let reference = Reference::parse(&format!("127.0.0.1:{port}/me/app:1")).unwrap();
    let session = Registry::new(config())
        .repository_for_push(&reference, Auth::Anonymous)
        .unwrap();
    let (layer, descriptor) = blob(3_000_000);
    let mut upload = registry::Upload::default();
    let error = session
        .upload_on(&mut upload, &mut layer.as_slice(), None, None)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let done = session
        .upload_on(&mut upload, &mut layer.as_slice(), None, None)
        .unwrap();
    assert_eq!(done.digest, descriptor.digest);
    assert_eq!(session.blob_exists(&descriptor.digest).unwrap(), Some(3_000_000));
}
