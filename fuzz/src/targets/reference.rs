//! Names of images: every way a name is written names the same.

use super::Target;
use oci::platform::Platform;
use oci::reference::Reference;

pub const TARGET: Target = Target {
    name: "reference",
    run,
    seeds,
};

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(platform) = Platform::parse(text, &Platform::of_machine("armv7l")) {
        let again = Platform::parse(&platform.to_string(), &Platform::of_machine("armv7l"));
        assert!(again.is_some(), "{platform} is no platform");
    }
    let Ok(reference) = Reference::parse(text) else { return };
    for again in [reference.canonical(), reference.familiar()] {
        let parsed = Reference::parse(&again);
        assert_eq!(
            parsed.as_ref(),
            Ok(&reference),
            "{again:?} is another name than {text:?}"
        );
    }
    let name = reference.clone().or_latest();
    assert!(!name.manifest_name().is_empty() && !name.manifest_name().contains('/'));
}

fn seeds() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let names = [
        "busybox".to_string(),
        "docker.io/library/busybox:1.2-x_y".into(),
        "[::1]:5000/a/b__c/d-e:v1".into(),
        format!("localhost/x@{digest}"),
        format!("host.example:443/a.b/c:tag@{digest}"),
        "index.docker.io/library/x".into(),
        "linux/arm/v7".into(),
        "arm64".into(),
    ];
    names.into_iter().map(String::into_bytes).collect()
}
