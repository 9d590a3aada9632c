//! A device's life in short: pulls, tags, containers, a commit, removals, and some of it again.

use crate::images::{self, Made};
use crate::ledger::{Effects, Writer};
use crate::{Result, root};
use engine::Engine;
use oci::reference::Reference;
use serde_json::json;
use std::path::Path;
use store::ImageId;

/// Does it all on a fresh root.
pub fn work(path: &Path, ledger: Writer, seed: u64, bytes: u64) -> Result<()> {
    let [first, second, third] = images::make(seed, bytes);
    let engine = root::open(path)?;
    let mut life = Life {
        engine: &engine,
        ledger,
    };
    let (a, b) = (root::serve(&first)?, root::serve(&second)?);
    let c = root::serve_update(&first, &third)?;
    let kept = Reference::parse("kept:1").map_err(|e| e.to_string())?;
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    life.pull(&a, &first)?;
    life.tag(&kept, &id(&first)?)?;
    life.create(&one, &id(&first)?)?;
    life.update(&c, &third)?;
    life.pull_in_pieces(&b, &second)?;
    let committed = life.commit(&one, &id(&first)?)?;
    life.create(&two, &id(&second)?)?;
    life.remove(&b, &second)?;
    life.remove_container(&two)?;
    life.pull(&b, &second)?;
    life.remove_image(&committed)?;
    life.remove(&c, &third)?;
    life.update(&c, &third)?;
    life.tag(&kept, &id(&second)?)?;
    life.remove(&a, &first)?;
    life.remove_container(&one)?;
    life.remove(&b, &second)?;
    life.remove(&c, &third)?;
    life.pull_in_pieces(&a, &first)
}

fn id(made: &Made) -> Result<ImageId> {
    Ok(ImageId(
        oci::digest::Digest::parse(&made.image.id()).map_err(|e| e.to_string())?,
    ))
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Life<'a> {
    engine: &'a Engine,
    ledger: Writer,
}

impl Life<'_> {
    fn pull(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let effects = names(reference, made, Some(id(made)?.to_string()))?;
        self.ledger.operation(effects, || root::pull(engine, reference))
    }

    /// By delta, or not at all.
    fn update(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let effects = names(reference, made, Some(id(made)?.to_string()))?;
        self.ledger.operation(effects, || root::update(engine, reference))
    }

    /// From a registry whose connections break and that is asked once each time.
    fn pull_in_pieces(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let pieces = made
            .image
            .layers
            .iter()
            .map(|layer| layer.blob.len())
            .max()
            .unwrap_or(0)
            / 3;
        let broken = root::serve_in_pieces(made, pieces.max(4096))?;
        let mut effects = names(&broken, made, Some(id(made)?.to_string()))?;
        effects.extend(names(reference, made, Some(id(made)?.to_string()))?);
        self.ledger.operation(effects, || {
            engine.set_registry(registry::Config {
                max_attempts: 1,
                ..registry::Config::default()
            });
            let whole = (0..30).find(|_| root::pull(engine, &broken).is_ok());
            engine.set_registry(registry::Config::default());
            whole.ok_or("a pull in pieces does not end")?;
            root::pull(engine, reference)
        })
    }

    fn tag(&mut self, name: &Reference, image: &ImageId) -> Result<()> {
        let effects = vec![(format!("tag {}", name.familiar()), Some(image.to_string()))];
        let store = &self.engine.store;
        self.ledger
            .operation(effects, || store.tags.set(name, image).map(drop).map_err(say))
    }

    fn create(&mut self, container: &str, image: &ImageId) -> Result<()> {
        let store = &self.engine.store;
        let top = store.images.top_layer(image).map_err(say)?;
        let top = top.and_then(|chain| store.layers.get(&chain));
        let effects = vec![(format!("container {container}"), Some(record(container)))];
        self.ledger.operation(effects, || {
            let init = &mut |merged: &Path| {
                let made = std::fs::write(merged.join(".made"), b"");
                made.map_err(|source| store::Error::Io {
                    doing: "fill the init layer".into(),
                    source,
                })
            };
            store.rw.create(container, top.as_ref(), Some(init)).map_err(say)?;
            store.containers.create(container).map_err(say)?;
            let bytes = record(container).into_bytes();
            store
                .containers
                .write(container, "config.v2.json", &bytes, 0o600)
                .map_err(say)
        })
    }

    fn commit(&mut self, container: &str, image: &ImageId) -> Result<ImageId> {
        let store = &self.engine.store;
        let merged = store.rw.mount(container).map_err(say)?;
        for number in 0..20 {
            std::fs::write(
                merged.join(format!("new{number}")),
                format!("{number}").repeat(3000 * number),
            )
            .map_err(say)?;
        }
        let mut tar = Vec::new();
        store.rw.tar_diff(container, &mut tar).map_err(say)?;
        store.rw.unmount(container).map_err(say)?;
        let diff = store::hash::sha256(&tar);
        let parent = store.images.top_layer(image).map_err(say)?;
        let mut diffs: Vec<_> = parent
            .iter()
            .flat_map(|top| store.layers.chain(top))
            .map(|(_, info)| info.diff_id.0)
            .collect();
        diffs.reverse();
        diffs.push(diff.clone());
        let config = json!({"architecture": "any", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = config.to_string();
        let id = ImageId(store::hash::sha256(config.as_bytes()));
        let effects = vec![
            (format!("image {id}"), Some("there".into())),
            (format!("tag {}", committed()?.familiar()), Some(id.to_string())),
        ];
        self.ledger.operation(effects, || {
            let staged = store.layers.stage(parent.as_ref()).map_err(say)?;
            let layer = staged
                .unpack(&tar[..])
                .and_then(|layer| layer.commit(&store::DiffId(diff)))
                .map_err(say)?;
            let put = store.images.put(config.as_bytes(), Some(&layer)).map_err(say)?;
            store.tags.set(&committed()?, &put).map_err(say)?;
            Ok(put)
        })
    }

    fn remove(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let image = id(made)?;
        let effects = names(reference, made, None)?;
        let others: Vec<_> = self.engine.store.tags.of_image(&image);
        let ours: Vec<String> = effects
            .iter()
            .filter_map(|(key, _)| key.strip_prefix("tag ").map(str::to_owned))
            .collect();
        let keeps = others.iter().any(|name| !ours.contains(&name.familiar()));
        let effects = effects
            .into_iter()
            .filter(|(key, _)| !(keeps && key.starts_with("image ")))
            .collect();
        let store = &self.engine.store;
        self.ledger.operation(effects, || {
            for name in others.iter().filter(|name| ours.contains(&name.familiar())) {
                store.tags.remove(name).map_err(say)?;
            }
            if !keeps {
                store.images.remove(&image).map_err(say)?;
            }
            Ok(())
        })
    }

    fn remove_image(&mut self, image: &ImageId) -> Result<()> {
        let store = &self.engine.store;
        let tag = committed()?;
        let effects = vec![
            (format!("image {image}"), None),
            (format!("tag {}", tag.familiar()), None),
        ];
        self.ledger.operation(effects, || {
            store.tags.remove(&tag).map_err(say)?;
            store.images.remove(image).map(drop).map_err(say)
        })
    }

    fn remove_container(&mut self, container: &str) -> Result<()> {
        let store = &self.engine.store;
        let effects = vec![(format!("container {container}"), None)];
        self.ledger.operation(effects, || {
            store.containers.remove(container).map_err(say)?;
            store.rw.remove(container).map_err(say)
        })
    }
}

fn committed() -> Result<Reference> {
    Reference::parse("committed:1").map_err(|e| e.to_string())
}

/// A container's record: what the store makes of it is none of its business.
pub fn record(container: &str) -> String {
    json!({"ID": container, "State": {}}).to_string()
}

/// What a pull of an image makes, or its removal takes away.
fn names(reference: &Reference, made: &Made, id: Option<String>) -> Result<Effects> {
    let digest = oci::digest::Digest::parse(&made.image.digest()).map_err(|e| e.to_string())?;
    Ok(vec![
        (
            format!("image {}", made.image.id()),
            id.as_ref().map(|_| "there".to_owned()),
        ),
        (format!("tag {}", reference.with_digest(&digest).familiar()), id.clone()),
        (format!("tag {}", reference.familiar()), id),
    ])
}
