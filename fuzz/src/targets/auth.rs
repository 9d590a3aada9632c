//! What a registry says of tokens, and what a client sends for credentials.

use super::Target;
use registry::Auth;

#[path = "../../../crates/registry/src/challenge.rs"]
#[allow(dead_code, reason = "a part of what its crate uses")]
mod challenge;

pub const TARGET: Target = Target {
    name: "auth",
    run,
    seeds,
};

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for challenge in challenge::parse(text) {
        assert!(!challenge.scheme.is_empty() && challenge.scheme == challenge.scheme.to_ascii_lowercase());
        let _ = challenge.parameter("realm");
    }
    let _ = Auth::from_header(text);
    let _ = Auth::from_config_header(text);
    // What base64 would hide from the fuzzer.
    let header = oci::base64::encode(bytes);
    let _ = Auth::from_header(&header);
    let _ = Auth::from_config_header(&header);
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "Bearer realm=\"https://auth.example/token\",service=\"registry\",scope=\"repository:a/b:pull,push\"",
        "Basic realm=\"a \\\"b\\\"\", Bearer realm=x, error=\"insufficient_scope\"",
        "Negotiate YWJj==, Digest qop=\"auth,auth-int\"",
        "{\"username\":\"u\",\"password\":\"p\",\"serveraddress\":\"https://index.docker.io/v1/\"}",
        "{\"identitytoken\":\"t\"}",
        "{\"registrytoken\":\"t\"}",
        "{\"auths\":{\"host:5000\":{\"auth\":\"dTpw\"}}}",
        "{\"host:5000\":{\"username\":\"u\",\"password\":\"p\"}}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
