//! The oldest form of archive, from before Docker 1.10: `repositories`, and for each layer a directory with its own
//! `json` and `layer.tar`. Such an image has no config; one is made as Docker made it when it moved its own images.

use super::contents::Contents;
use super::plan::{Image, tagged};
use crate::error::{Context, Error, Result};
use json::Deserialize;
use json::Raw;
use oci::config::History;
use oci::digest::Digest;
use std::collections::BTreeMap;

/// What is read of a layer's `json`.
#[derive(Deserialize)]
struct V1 {
    id: String,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    container_config: Option<V1Config>,
    #[serde(default)]
    throwaway: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct V1Config {
    #[serde(default)]
    cmd: Option<Vec<String>>,
}

/// What a config of today does not have.
const DROPPED: &[&str] = &["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

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
        if !v1.throwaway {
            let name = contents.resolve(&format!("{}/layer.tar", v1.id))?;
            let diff = contents.diff_of(&name);
            let diff = diff.ok_or_else(|| Error::invalid(format!("invalid archive: it has no {name}")))?;
            diffs.push(diff.clone());
            layers.push(name);
        }
        let words = v1.container_config.as_ref().and_then(|config| config.cmd.as_ref());
        history.push(History {
            created: v1.created.clone(),
            author: v1.author.clone().filter(|text| !text.is_empty()),
            created_by: words.map(|words| words.join(" ")).filter(|text| !text.is_empty()),
            comment: v1.comment.clone().filter(|text| !text.is_empty()),
            empty_layer: v1.throwaway,
        });
    }
    let (_, own) = chain
        .last()
        .ok_or_else(|| Error::invalid("invalid archive: an image without a layer"))?;
    Ok(Image {
        names: Vec::new(),
        config: config(own, &diffs, &history)?,
        layers,
        parent: None,
    })
}

/// The topmost layer's own description, with layers and history instead of what only it needed; keys sorted.
fn config(own: &[u8], diffs: &[Digest], history: &[History]) -> Result<Vec<u8>> {
    let mut fields: BTreeMap<String, Raw> = oci::json::parse(own).invalid("invalid archive: a layer's json")?;
    for name in DROPPED {
        fields.remove(*name);
    }
    let root = serde_json::json!({"type": "layers", "diff_ids": json::to_value(diffs)});
    fields.insert("rootfs".into(), Raw::of(&root));
    fields.insert("history".into(), Raw::of(history));
    Ok(json::to_vec(&fields))
}
