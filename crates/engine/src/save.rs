//! Saving images: an archive that is a docker archive and an OCI layout at once, as Docker writes it since 25.
//!
//! Nothing is gathered on disk or in memory: a layer's bytes are made from its files while they are sent, and their
//! number is known before from its tar-split. What describes the layers is written first, in the order in which a
//! reader needs it, so that [`crate::load`] knows what each layer is when it comes; Docker's own reads any order.

use crate::cancel::Cancel;
use crate::error::{Context, Error, Kind, Result};
use crate::{Engine, image};
use api::time::Time;
use oci::digest::Digest;
use oci::manifest::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use oci::platform::Platform;
use oci::reference::Reference;
use oci::tar;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use store::hash::{Hashing, sha256};
use store::{ChainId, DiffId, ImageId, LayerId};

const BUFFER: usize = 64 * 1024;

/// An image with all that describes it in an archive.
struct Item {
    /// With tags; an image asked for by its ID has none.
    names: Vec<Reference>,
    config: Vec<u8>,
    id: ImageId,
    created: tar::Time,
    layers: Vec<Layer>,
    manifest: Vec<u8>,
}

struct Layer {
    layer: LayerId,
    diff: Digest,
    /// Bytes of its tar.
    length: u64,
}

/// What is saved, looked up before the first byte is written; its layers stay until it is dropped.
pub struct Plan(Vec<Item>);

/// Finds the images that names stand for: a repository without a tag stands for all its tags.
pub fn plan(engine: &Engine, names: &[String], platform: Option<&Platform>) -> Result<Plan> {
    let mut wanted: Vec<(ImageId, Vec<Reference>)> = Vec::new();
    let mut add = |id: ImageId, name: Option<Reference>| {
        let at = wanted.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            wanted.push((id, Vec::new()));
            wanted.len() - 1
        });
        let named = name.filter(|name| name.digest().is_none() && !wanted[at].1.contains(name));
        wanted[at].1.extend(named);
    };
    for name in names {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let by_id = oci::reference::is_id(hex) || name.starts_with("sha256:");
        let reference = Reference::parse(name).ok().filter(|_| !by_id);
        match reference {
            Some(reference) if reference.tag().is_none() && reference.digest().is_none() => {
                let all = engine.store.tags.of_repository(&reference.repository().familiar());
                if all.is_empty() {
                    // Not by a name with a tag, and so no tag in the error either.
                    let found = image::find(engine, name).map_err(|_| Error::no_such_image(name))?;
                    add(found, None);
                }
                for (reference, id) in all {
                    add(id, Some(reference));
                }
            }
            Some(reference) => {
                let looked_up = match reference.digest() {
                    Some(digest) => reference.with_digest(digest),
                    None => reference.clone(),
                };
                let id = engine.store.tags.get(&looked_up);
                add(
                    id.ok_or_else(|| Error::not_found("reference does not exist"))?,
                    Some(reference),
                );
            }
            None => add(image::find(engine, name)?, None),
        }
    }
    let items = wanted.into_iter().map(|(id, names)| item(engine, id, names, platform));
    Ok(Plan(items.collect::<Result<_>>()?))
}

fn item(engine: &Engine, id: ImageId, names: Vec<Reference>, platform: Option<&Platform>) -> Result<Item> {
    let config = engine.store.images.get(&id)?;
    let parsed = image::config_of(engine, &id)?;
    if let Some(platform) = platform
        && !image::is_for(&parsed, platform)
    {
        let name = names.first().map_or(id.0.to_string(), Reference::familiar);
        return Err(Error::new(
            Kind::NotFound,
            format!("image with reference {name} was found but does not provide the specified platform ({platform})"),
        ));
    }
    let (mut layers, mut chain) = (Vec::new(), None::<ChainId>);
    for diff in &parsed.rootfs.diff_ids {
        let next = ChainId::of(chain.as_ref(), &DiffId(diff.clone()));
        let layer = engine.store.layers.get(&next);
        let layer = layer.ok_or_else(|| Error::internal(format!("layer does not exist: {}", next.digest())))?;
        layers.push(Layer {
            length: engine.store.layers.tar_length(&layer)?,
            layer,
            diff: diff.clone(),
        });
        chain = Some(next);
    }
    let described: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor(OCI_LAYER, &layer.diff, layer.length))
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, &id.0, config.len() as u64), "layers": described,
    });
    let created = parsed.created.as_deref().and_then(Time::parse);
    Ok(Item {
        names,
        manifest: manifest.to_string().into_bytes(),
        created: tar::Time {
            seconds: created.map_or(0, |time| time.seconds.max(0)),
            nanoseconds: 0,
        },
        config,
        id,
        layers,
    })
}

fn descriptor(kind: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": kind, "digest": digest.as_str(), "size": size})
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Writes the archive.
pub fn save(engine: &Engine, plan: &Plan, out: &mut dyn Write, cancel: &Cancel) -> Result<()> {
    let mut archive = Archive {
        tar: tar::Writer::new(BufWriter::with_capacity(BUFFER, out)),
        written: BTreeSet::new(),
        cancel,
    };
    let broken = |e: io::Error| match e.kind() {
        io::ErrorKind::BrokenPipe => Error::cancelled(),
        _ => Error::internal(format!("write the archive: {e}")),
    };
    (|| {
        archive.document("manifest.json", &docker_manifest(&plan.0), tar::Time::default())?;
        archive.document("repositories", &repositories(&plan.0), tar::Time::default())?;
        archive.document(
            "oci-layout",
            b"{\"imageLayoutVersion\":\"1.0.0\"}",
            tar::Time::default(),
        )?;
        archive.document("index.json", &index(&plan.0), tar::Time::default())?;
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        for item in &plan.0 {
            archive.document(&blob(&item.id.0), &item.config, item.created)?;
            archive.document(&blob(&sha256(&item.manifest)), &item.manifest, item.created)?;
        }
        Ok(())
    })()
    .map_err(broken)?;
    for item in &plan.0 {
        for layer in &item.layers {
            archive.layer(engine, layer, item.created)?;
        }
    }
    archive.tar.finish().map(drop).map_err(broken)?;
    for item in &plan.0 {
        let attributes = BTreeMap::from([("name".to_string(), item.id.0.to_string())]);
        engine.events.emit("image", "save", item.id.0.as_str(), attributes);
    }
    Ok(())
}

struct Archive<'a> {
    tar: tar::Writer<BufWriter<&'a mut dyn Write>>,
    /// What several images share is there once.
    written: BTreeSet<String>,
    cancel: &'a Cancel,
}

impl Archive<'_> {
    fn is_new(&mut self, name: &str) -> bool {
        self.written.insert(name.to_owned())
    }

    fn directory(&mut self, name: &str) -> io::Result<()> {
        let mut entry = tar::Entry::new(tar::Kind::Directory, name);
        entry.mode = 0o755;
        self.tar.start(&entry)
    }

    fn document(&mut self, name: &str, bytes: &[u8], time: tar::Time) -> io::Result<()> {
        if !self.is_new(name) {
            return Ok(());
        }
        self.tar.append(&file(name, bytes.len() as u64, time), &mut &bytes[..])
    }

    /// Writes a layer's tar and checks on the way that it is the one that the config names.
    fn layer(&mut self, engine: &Engine, layer: &Layer, time: tar::Time) -> Result<()> {
        let name = blob(&layer.diff);
        if !self.is_new(&name) {
            return Ok(());
        }
        if self.cancel.is_set() {
            return Err(Error::cancelled());
        }
        self.tar
            .start(&file(&name, layer.length, time))
            .context("write the archive")?;
        let mut out = Hashing::new(&mut self.tar);
        engine.store.layers.write_tar(&layer.layer, &mut out)?;
        let (digest, _) = out.finish();
        if digest != layer.diff {
            return Err(Error::internal(format!(
                "layer {} is damaged: its diff ID is {digest}",
                layer.diff
            )));
        }
        Ok(())
    }
}

fn file(name: &str, size: u64, time: tar::Time) -> tar::Entry {
    let mut entry = tar::Entry::new(tar::Kind::Regular, name);
    entry.mode = 0o644;
    entry.size = size;
    entry.mtime = time;
    entry
}

/// `manifest.json`, field for field as Docker's.
fn docker_manifest(items: &[Item]) -> Vec<u8> {
    #[derive(json::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Written {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
        layer_sources: BTreeMap<String, Value>,
    }
    let list: Vec<Written> = items
        .iter()
        .map(|item| Written {
            config: blob(&item.id.0),
            repo_tags: Some(item.names.iter().map(Reference::familiar).collect())
                .filter(|tags: &Vec<_>| !tags.is_empty()),
            layers: item.layers.iter().map(|layer| blob(&layer.diff)).collect(),
            layer_sources: item
                .layers
                .iter()
                .map(|layer| {
                    let source = descriptor(OCI_LAYER, &layer.diff, layer.length);
                    (layer.diff.to_string(), source)
                })
                .collect(),
        })
        .collect();
    let mut bytes = json::to_vec(&list);
    bytes.push(b'\n');
    bytes
}

/// `repositories`, which only readers from before Docker 1.10 need.
fn repositories(items: &[Item]) -> Vec<u8> {
    let mut map: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for item in items {
        let Some(top) = item.layers.last() else { continue };
        for name in &item.names {
            let tags = map.entry(name.repository().familiar()).or_default();
            tags.insert(name.tag().unwrap_or("latest").into(), top.diff.hex().into());
        }
    }
    let mut bytes = json::to_vec(&map);
    bytes.push(b'\n');
    bytes
}

/// `index.json` of the OCI layout: an entry for each name.
fn index(items: &[Item]) -> Vec<u8> {
    let mut list = Vec::new();
    for item in items {
        let entry = descriptor(OCI_MANIFEST, &sha256(&item.manifest), item.manifest.len() as u64);
        if item.names.is_empty() {
            list.push(entry.clone());
        }
        for name in &item.names {
            let mut entry = entry.clone();
            entry["annotations"] = json!({
                "io.containerd.image.name": name.canonical(),
                "org.opencontainers.image.ref.name": name.tag(),
            });
            list.push(entry);
        }
    }
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list})
        .to_string()
        .into_bytes()
}
