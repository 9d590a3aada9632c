//! Archives for `load`: which images they have, by the code that reads their descriptions.
//!
//! Its files are those of the engine; only where they look things up is made here, without a store behind it.

use super::Target;
use oci::digest::Digest;
use oci::platform::Platform;
use oci::tar::{Entry, Kind, Reader, Writer};
use std::io::Read;

#[path = "../../../crates/engine/src/load/legacy.rs"]
mod legacy;
#[path = "../../../crates/engine/src/load/plan.rs"]
#[allow(dead_code, reason = "a part of what its crate uses")]
mod plan;

/// Documents of an archive, all of whose other files are layers with one digest.
mod contents {
    use crate::error::{Error, Result};
    use oci::digest::Digest;
    use std::collections::BTreeMap;

    pub struct Contents {
        pub documents: BTreeMap<String, Vec<u8>>,
        pub diff: Digest,
    }

    impl Contents {
        pub fn document(&self, name: &str) -> Result<Option<&[u8]>> {
            Ok(self.documents.get(&self.resolve(name)?).map(Vec::as_slice))
        }

        pub fn resolve(&self, name: &str) -> Result<String> {
            match name.split('/').any(|part| part == "..") {
                true => Err(Error::invalid("outside")),
                false => Ok(name.trim_start_matches("./").to_owned()),
            }
        }

        pub fn diff_of(&self, name: &str) -> Option<&Digest> {
            (!self.documents.contains_key(name)).then_some(&self.diff)
        }

        pub fn has_deltas(&self) -> bool {
            self.documents.len() % 2 == 1
        }
    }
}

pub const TARGET: Target = Target {
    name: "archive",
    run,
    seeds,
};

fn run(bytes: &[u8]) {
    let mut contents = contents::Contents {
        documents: Default::default(),
        diff: Digest::sha256([7; 32]),
    };
    let bytes = super::tar::sealed(bytes);
    let mut reader = Reader::new(&bytes[..]);
    while let Ok(Some(entry)) = reader.next_entry() {
        let mut text = Vec::new();
        if reader.by_ref().take(1 << 16).read_to_end(&mut text).is_err() {
            break;
        }
        if let (Kind::Regular, Ok(name)) = (entry.kind, String::from_utf8(entry.name)) {
            contents.documents.insert(name, text);
        }
    }
    let Ok(images) = plan::images(&mut contents, &Platform::of_machine("x86_64")) else {
        return;
    };
    let may_be_empty = contents.documents.contains_key("manifest.json");
    assert!(may_be_empty || !images.is_empty());
    for image in images {
        assert!(image.names.iter().all(|name| name.tag().is_some()));
        let _ = oci::config::ImageConfig::parse(&image.config);
    }
}

fn archive(files: &[(&str, String)]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for (name, text) in files {
        let mut entry = Entry::new(Kind::Regular, *name);
        entry.size = text.len() as u64;
        tar.append(&entry, &mut text.as_bytes()).expect("memory takes it");
    }
    tar.finish().expect("memory takes it")
}

fn seeds() -> Vec<Vec<u8>> {
    let hex = "ab".repeat(32);
    let config =
        serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [format!("sha256:{hex}")]}});
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["a/b:1"], "Layers": ["l/layer.tar"]}]);
    let descriptor = |kind: &str| serde_json::json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": 3});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": oci::manifest::media_type::OCI_MANIFEST, "digest": format!("sha256:{hex}"), "size": 3,
        "annotations": {"io.containerd.image.name": "docker.io/a/b:1"},
    }]});
    let oci_manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": oci::manifest::media_type::OCI_MANIFEST,
        "config": descriptor(oci::manifest::media_type::OCI_CONFIG), "layers": [],
    });
    let v1 = serde_json::json!({"id": hex, "created": "2014-01-01T00:00:00Z", "container_config": {"Cmd": ["x"]}});
    let name = format!("blobs/sha256/{hex}");
    vec![
        archive(&[("c.json", config.to_string()), ("manifest.json", manifest.to_string())]),
        archive(&[("index.json", index.to_string()), (&name, oci_manifest.to_string())]),
        archive(&[
            ("repositories", format!("{{\"a\":{{\"1\":\"{hex}\"}}}}")),
            (&format!("{hex}/json"), v1.to_string()),
        ]),
    ]
}
