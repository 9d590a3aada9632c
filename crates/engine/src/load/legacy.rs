//! The oldest form of archive, from before Docker 1.10: `repositories`, and for each layer a directory with its own
//! `json` and `layer.tar`. Such an image has no config; one is made as Docker made it when it moved its own images.

use super::contents::Contents;
use super::plan::{Image, tagged};
use crate::error::{Context, Error, Result};
use api::container::ContainerConfig;
use json::{Deserialize, Raw, Serialize};
use oci::config::{History, RootFs};
use oci::digest::Digest;
use std::collections::BTreeMap;

/// A layer's `json`, and how Docker writes what it read of it.
#[derive(Deserialize, Serialize)]
struct V1 {
    id: String,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    author: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    comment: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    container: Option<String>,
    #[serde(default)]
    container_config: Option<ContainerConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<ContainerConfig>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    docker_version: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    architecture: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    variant: Option<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    os: Option<String>,
}

fn none_or_empty(text: &Option<String>) -> bool {
    text.as_ref().is_none_or(String::is_empty)
}

/// What a config of today does not have.
const DROPPED: &[&str] = &["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

/// From this version on Docker takes a description as it is; an older one as far as it knows what is in it.
const AS_IT_IS: [u32; 3] = [1, 8, 3];

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The images that `repositories` names.
pub fn images(contents: &Contents) -> Result<Vec<Image>> {
    type Repositories = BTreeMap<String, BTreeMap<String, String>>;
    let bytes = contents.document("repositories")?.unwrap_or_default();
    let repositories: Repositories = oci::json::parse(bytes).invalid("invalid archive: repositories")?;
    let mut images = Vec::new();
    for (repository, tags) in &repositories {
        for (tag, top) in tags {
            let mut image = image(contents, top)?;
            image.names = vec![tagged(&format!("{repository}:{tag}"))?];
            images.push(image);
        }
    }
    match images.is_empty() {
        true => Err(Error::invalid("invalid archive: does not contain a manifest.json")),
        false => Ok(images),
    }
}

fn image(contents: &Contents, top: &str) -> Result<Image> {
    // From the top down; a chain that is longer than an image may be goes in a circle.
    let mut chain: Vec<(V1, &[u8])> = Vec::new();
    let mut next = Some(top.to_string());
    while let Some(id) = next {
        if !oci::reference::is_id(&id) {
            return Err(Error::invalid(format!("invalid archive: image ID {id:?} is invalid")));
        }
        let bytes = contents.document(&format!("{id}/json"))?;
        let bytes = bytes.ok_or_else(|| Error::invalid(format!("invalid archive: it has no {id}/json")))?;
        let v1: V1 = oci::json::parse(bytes).invalid(format!("invalid archive: {id}/json"))?;
        if v1.id != id || chain.len() >= oci::manifest::MAX_LAYERS {
            return Err(Error::invalid(format!(
                "invalid archive: the parents of {top} are no chain"
            )));
        }
        next = v1.parent.clone().filter(|parent| !parent.is_empty());
        chain.push((v1, bytes));
    }
    chain.reverse();
    let (mut layers, mut diffs, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (v1, _) in &chain {
        let name = contents.resolve(&format!("{}/layer.tar", v1.id))?;
        let diff = contents.diff_of(&name);
        let diff = diff.ok_or_else(|| Error::invalid(format!("invalid archive: it has no {name}")))?;
        diffs.push(diff.clone());
        layers.push(name);
        let words = v1.container_config.as_ref().and_then(|config| config.cmd.as_ref());
        history.push(History {
            created: Some(created(v1)),
            author: v1.author.clone().filter(|text| !text.is_empty()),
            created_by: words.map(|words| words.join(" ")).filter(|text| !text.is_empty()),
            comment: v1.comment.clone().filter(|text| !text.is_empty()),
            empty_layer: false,
        });
    }
    let (v1, own) = chain
        .pop()
        .ok_or_else(|| Error::invalid("invalid archive: an image without a layer"))?;
    Ok(Image {
        names: Vec::new(),
        config: config(v1, own, diffs, &history)?,
        layers,
        parent: None,
    })
}

/// The topmost layer's own description, with layers and history instead of what only it needed; keys sorted, so that
/// the image has the ID that Docker gives it.
fn config(mut v1: V1, own: &[u8], diffs: Vec<Digest>, history: &[History]) -> Result<Vec<u8>> {
    let version = v1.docker_version.as_deref().unwrap_or_default();
    let version: Vec<u32> = version.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    let rewritten;
    let own = match version[..] < AS_IT_IS[..] {
        true => {
            v1.created = Some(created(&v1));
            v1.container_config.get_or_insert_default();
            rewritten = json::to_vec(&v1);
            &rewritten
        }
        false => own,
    };
    let mut fields: BTreeMap<String, Raw> = oci::json::parse(own).invalid("invalid archive: a layer's json")?;
    for name in DROPPED {
        fields.remove(*name);
    }
    let rootfs = RootFs {
        kind: "layers".into(),
        diff_ids: diffs,
    };
    fields.insert("rootfs".into(), Raw::of(&rootfs));
    fields.insert("history".into(), Raw::of(history));
    Ok(json::compact(&json::to_string(&fields)).into_bytes())
}

/// When a layer was made, as Go writes a time.
fn created(v1: &V1) -> String {
    let text = v1.created.as_deref().unwrap_or(NEVER);
    match api::time::Time::parse(text).filter(|_| text.ends_with('Z')) {
        Some(time) if text != NEVER => time.to_rfc3339(),
        _ => text.to_string(),
    }
}
