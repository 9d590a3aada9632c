//! Lists of what refers to a manifest: from the API, from the tag, and from registries that have neither.

mod double;

use double::Double;
use oci::digest::Digest;
use std::io::Write;
use std::net::TcpStream;

const WANTED: &str = "application/vnd.balena.delta.v1";

fn answer(out: &mut TcpStream, status: u16, media_type: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = out.write_all(head.as_bytes());
}

fn list() -> String {
    let entry = |kind: &str, n: u8| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"{kind}","size":1,"digest":"{}"}}"#,
            Digest::sha256([n; 32])
        )
    };
    let entries = [entry(WANTED, 1), entry("application/signature", 2), entry(WANTED, 3)].join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{entries}]}}"#)
}

/// Asks a registry that answers so; says which digests came, and how many requests that took.
fn ask(api: (u16, &str), tag: (u16, &str)) -> (Result<Vec<Digest>, String>, Vec<String>) {
    let (api, tag) = ((api.0, api.1.to_owned()), (tag.0, tag.1.to_owned()));
    let double = Double::start(move |request, _, out| {
        let index = "application/vnd.oci.image.index.v1+json";
        match &request.target {
            target if target.contains("/referrers/") => answer(out, api.0, index, &api.1),
            target if target.contains("/manifests/sha256-") => answer(out, tag.0, index, &tag.1),
            _ => answer(out, 200, "application/json", "{}"),
        }
    });
    let repository = double::client()
        .repository(&double.reference(), registry::Auth::Anonymous)
        .unwrap();
    let found = repository.referrers(&Digest::sha256([9; 32]), WANTED);
    let found = found.map(|list| list.into_iter().map(|entry| entry.digest).collect());
    let asked = double.requests().into_iter().map(|request| request.target);
    (
        found.map_err(|error| error.to_string()),
        asked.filter(|target| target != "/v2/").collect(),
    )
}

#[test]
fn from_wherever_they_are() {
    let none = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#;
    let both = vec![Digest::sha256([1; 32]), Digest::sha256([3; 32])];
    let (found, asked) = ask((200, &list()), (404, none));
    assert_eq!((found, asked.len()), (Ok(both.clone()), 1));
    assert!(asked[0].contains("/referrers/sha256:0909") && asked[0].ends_with(&format!("?artifactType={WANTED}")));
    for status in [400, 404, 405, 501] {
        let (found, asked) = ask((status, none), (200, &list()));
        assert_eq!((found, asked.len()), (Ok(both.clone()), 2), "{status}");
    }
    let (found, asked) = ask((404, "404 page not found"), (404, none));
    assert_eq!((found, asked.len()), (Ok(Vec::new()), 2));
    let (found, asked) = ask((200, "<html>welcome</html>"), (404, none));
    assert_eq!((found, asked.len()), (Ok(Vec::new()), 2));
    let (found, _) = ask((403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), (404, none));
    assert!(found.is_err());
    let image = r#"{"schemaVersion":2,"layers":[]}"#;
    let (found, _) = ask((404, none), (200, image));
    assert!(
        matches!(found, Ok(list) if list.is_empty()),
        "a tag of somebody's image"
    );
}
