//! Token and basic authentication against a double.

mod double;

use double::{Double, answer, client};
use registry::{Auth, ErrorKind};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

fn basic() -> Auth {
    Auth::Basic {
        user: "u".into(),
        password: "secret".into(),
    }
}

fn challenge(stream: &mut TcpStream, port: u16, extra: &str) {
    let value =
        format!(r#"Bearer realm="http://127.0.0.1:{port}/token",service="svc",scope="repository:me/app:pull"{extra}"#);
    let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[]}]}"#;
    answer(stream, "401 Unauthorized", &[("WWW-Authenticate", &value)], body);
}

/// Speaks as Docker Hub does: tokens `t0`, `t1`, … of which only the latest is taken.
fn hub(tokens: Arc<Mutex<usize>>) -> Double {
    let port = Arc::new(Mutex::new(0));
    let own = port.clone();
    let double = Double::start(move |request, _, stream| {
        let mut issued = tokens.lock().unwrap();
        if request.target.starts_with("/token") {
            *issued += 1;
            let body = format!(r#"{{"access_token":"t{}","expires_in":"300"}}"#, *issued - 1);
            return answer(stream, "200 OK", &[], body.as_bytes());
        }
        let good = issued.checked_sub(1).map(|n| format!("Bearer t{n}"));
        if good.is_none() || request.header("authorization") != good.as_deref() {
            return challenge(stream, *own.lock().unwrap(), "");
        }
        answer(
            stream,
            "200 OK",
            &[("Content-Type", "application/vnd.oci.image.manifest.v1+json")],
            MANIFEST,
        );
    });
    *port.lock().unwrap() = double.port;
    double
}

#[test]
fn a_token_is_asked_for_once_and_kept() {
    let tokens = Arc::default();
    let double = hub(Arc::clone(&tokens));
    let registry = client();
    let reference = double.reference();
    let session = registry.repository(&reference, basic()).unwrap();
    assert_eq!(session.manifest(&reference).unwrap().bytes, MANIFEST);
    session.manifest(&reference).unwrap();
    // Another session of the same client has the same token.
    registry
        .repository(&reference, basic())
        .unwrap()
        .manifest(&reference)
        .unwrap();
    assert_eq!(*tokens.lock().unwrap(), 1);
    let requests = double.requests();
    let token = requests.iter().find(|r| r.target.starts_with("/token")).unwrap();
    assert_eq!(
        token.target,
        "/token?service=svc&scope=repository%3Ame%2Fapp%3Apull&account=u"
    );
    assert_eq!(token.header("authorization"), Some("Basic dTpzZWNyZXQ="));
    // The password goes to the token service alone.
    assert!(
        requests
            .iter()
            .filter(|r| !r.target.starts_with("/token"))
            .all(|r| { r.header("authorization").is_none_or(|a| a.starts_with("Bearer ")) })
    );
}

#[test]
fn a_token_refused_in_mid_pull_is_renewed() {
    let tokens: Arc<Mutex<usize>> = Arc::default();
    let double = hub(Arc::clone(&tokens));
    let reference = double.reference();
    let session = client().repository(&reference, Auth::Anonymous).unwrap();
    session.manifest(&reference).unwrap();
    *tokens.lock().unwrap() += 5;
    session.manifest(&reference).unwrap();
    assert_eq!(*tokens.lock().unwrap(), 7);
}

#[test]
fn an_identity_token_is_traded_by_post() {
    let double = hub(Arc::default());
    let reference = double.reference();
    let session = client()
        .repository(&reference, Auth::IdentityToken("a+b/c=".into()))
        .unwrap();
    session.manifest(&reference).unwrap();
    let requests = double.requests();
    let token = requests.iter().find(|r| r.target == "/token").unwrap();
    assert_eq!(token.method, "POST");
    assert_eq!(
        String::from_utf8_lossy(&token.body),
        "client_id=docker&grant_type=refresh_token&refresh_token=a%2Bb%2Fc%3D&scope=repository%3Ame%2Fapp%3Apull&service=svc"
    );
}

#[test]
fn a_registry_token_goes_as_it_is() {
    let double = Double::start(|request, _, stream| {
        assert_eq!(request.header("authorization"), Some("Bearer mine"));
        answer(stream, "200 OK", &[], MANIFEST);
    });
    let reference = double.reference();
    let session = client()
        .repository(&reference, Auth::RegistryToken("mine".into()))
        .unwrap();
    // The type comes from the manifest where the server names none.
    assert_eq!(
        session.manifest(&reference).unwrap().media_type,
        "application/vnd.oci.image.manifest.v1+json"
    );
}

#[test]
fn basic_challenges() {
    let double = Double::start(|request, _, stream| match request.header("authorization") {
        Some("Basic dTpzZWNyZXQ=") => answer(stream, "200 OK", &[], MANIFEST),
        _ => answer(
            stream,
            "401 Unauthorized",
            &[("WWW-Authenticate", "Basic realm=\"r\"")],
            b"",
        ),
    });
    let reference = double.reference();
    let registry = client();
    registry
        .repository(&reference, basic())
        .unwrap()
        .manifest(&reference)
        .unwrap();
    let error = registry
        .repository(&reference, Auth::Anonymous)
        .unwrap()
        .manifest(&reference)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let url = format!("http://127.0.0.1:{}/v2/me/app/manifests/1", double.port);
    assert_eq!(error.to_string(), format!("Get \"{url}\": no basic auth credentials"));
}

#[test]
fn wrong_credentials_and_closed_repositories() {
    let port = Arc::new(Mutex::new(0));
    let own = port.clone();
    let double = Double::start(move |request, _, stream| {
        if !request.target.starts_with("/token") {
            let denied = request.header("authorization").is_some();
            let extra = if denied { r#",error="insufficient_scope""# } else { "" };
            return challenge(stream, *own.lock().unwrap(), extra);
        }
        match request.header("authorization") {
            Some(_) => answer(
                stream,
                "401 Unauthorized",
                &[],
                br#"{"details":"incorrect username or password"}"#,
            ),
            None => answer(stream, "200 OK", &[], br#"{"token":"t"}"#),
        }
    });
    *port.lock().unwrap() = double.port;
    let reference = double.reference();
    let name = reference.repository().familiar();
    let error = client()
        .repository(&reference, Auth::Anonymous)
        .unwrap()
        .manifest(&reference)
        .unwrap_err();
    assert_eq!(
        error.for_pull(&reference),
        format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        )
    );
    let error = client()
        .repository(&reference, basic())
        .unwrap()
        .manifest(&reference)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let url = format!("http://127.0.0.1:{}/v2/me/app/manifests/1", double.port);
    assert_eq!(
        error.for_pull(&reference),
        format!("Get \"{url}\": unauthorized: incorrect username or password")
    );
    assert_eq!(
        client()
            .login(&format!("127.0.0.1:{}", double.port), basic())
            .unwrap_err()
            .kind(),
        ErrorKind::Denied
    );
}
