//! Manifests, lists of them, and configs, as a registry gives them.

use super::Target;
use oci::config::ImageConfig;
use oci::manifest::{AnyManifest, media_type};
use oci::platform::Platform;

pub const MANIFEST: Target = Target {
    name: "manifest",
    run: manifest,
    seeds: manifests,
};

pub const CONFIG: Target = Target {
    name: "config",
    run: config,
    seeds: configs,
};

fn manifest(bytes: &[u8]) {
    let types = [
        "",
        media_type::OCI_INDEX,
        media_type::DOCKER_LIST,
        media_type::DOCKER_MANIFEST,
    ];
    for kind in types {
        match AnyManifest::parse(kind, bytes) {
            Ok(AnyManifest::Index(index)) => {
                for machine in ["x86_64", "armv7l", "aarch64"] {
                    if let Some(chosen) = index.choose(&Platform::of_machine(machine)) {
                        assert!(index.manifests.iter().any(|known| known.digest == chosen.digest));
                    }
                }
            }
            Ok(AnyManifest::Image(manifest)) => assert!(manifest.layers.len() <= oci::manifest::MAX_LAYERS),
            Err(error) => drop(error.to_string()),
        }
    }
}

fn config(bytes: &[u8]) {
    // What an image of a manifest list is for is read by itself.
    if let Ok(platform) = oci::json::parse::<Platform>(bytes) {
        let text = json::to_string(&platform);
        assert_eq!(json::from_str::<Platform>(&text).ok(), Some(platform));
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let _ = store::ChainId::of_all(&config.rootfs.diff_ids);
    }
}

fn manifests() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let part = serde_json::json!({"mediaType": media_type::DOCKER_LAYER, "size": 7, "digest": digest});
    let platform = serde_json::json!({"architecture": "arm", "os": "linux", "variant": "v6", "os.features": ["x"]});
    let listed = serde_json::json!({
        "mediaType": media_type::OCI_MANIFEST, "size": 7, "digest": digest, "platform": platform, "annotations": {"a": "b"},
    });
    [
        serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": part, "layers": [part, part],
        }),
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [listed, listed]}),
        serde_json::json!({"schemaVersion": 1, "name": "x", "tag": "1", "fsLayers": [{"blobSum": digest}]}),
    ]
    .iter()
    .map(|value| value.to_string().into_bytes())
    .collect()
}

fn configs() -> Vec<Vec<u8>> {
    let value = serde_json::json!({
        "architecture": "arm", "variant": "v7", "os": "linux", "created": "2020-09-13T12:26:40.5Z", "author": "me",
        "config": {
            "User": "1:2", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["sh"], "Cmd": null,
            "Volumes": {"/v": {}}, "WorkingDir": "/", "Labels": {"a": "b"}, "StopSignal": "SIGTERM", "StopTimeout": 3,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Retries": 3}, "OnBuild": ["RUN x"],
            "Shell": ["/bin/sh", "-c"], "Tty": true,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "ab".repeat(32))]},
        "history": [{"created": "2020-09-13T12:26:40Z", "created_by": "x", "empty_layer": true, "comment": "c"}],
    });
    vec![value.to_string().into_bytes()]
}
