//! A device's life in short: pulls, tags, containers, a commit, removals, and some of it again.

use crate::images::{self, Made};
use crate::ledger::{Effects, Writer};
use crate::{Result, root};
use engine::Engine;
use engine::find_delta::Mode;
use oci::reference::Reference;
use oci::tar::{Kind, Reader};
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use store::ImageId;

/// Does it all on a fresh root.
pub fn work(path: &Path, ledger: Writer, seed: u64, bytes: u64) -> Result<()> {
    let [first, second, third] = images::make(seed, bytes);
    let engine = root::open(path)?;
    let mut life = Life {
        root: path,
        engine: &engine,
        ledger,
    };
    let (a, b) = (root::serve(&first)?, root::serve(&second)?);
    let c = root::serve_update(&first, &third)?;
    let d = root::serve_balena(&first, &third)?;
    let kept = Reference::parse("kept:1").map_err(say)?;
    let loaded = Reference::parse("loaded:1").map_err(say)?;
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    life.pull(&a, &first)?;
    life.tag(&kept, &id(&first)?)?;
    life.create(&one, &id(&first)?)?;
    life.update(&c, &third)?;
    life.pull_in_pieces(&b, &second)?;
    let committed = life.commit(&one, &id(&first)?)?;
    life.damage(&first)?;
    life.repair(&first)?;
    // Of a plain blob a part is enough, and what is whole becomes links to what is there.
    life.damage(&second)?;
    life.repair(&second)?;
    life.create(&two, &id(&second)?)?;
    life.remove(&b, &second)?;
    life.remove_container(&two)?;
    life.load(&loaded, &second)?;
    life.remove(&loaded, &second)?;
    life.pull(&b, &second)?;
    life.remove_image(&committed)?;
    life.remove(&c, &third)?;
    life.without_room(&c, &third, Mode::Off)?;
    life.without_room(&c, &third, Mode::Only)?;
    life.update_by_balena(&d, &third)?;
    life.remove(&d, &third)?;
    life.update(&c, &third)?;
    life.tag(&kept, &id(&second)?)?;
    life.remove(&a, &first)?;
    life.remove_container(&one)?;
    life.remove(&b, &second)?;
    life.remove(&c, &third)?;
    life.pull_in_pieces(&a, &first)
}

/// Goes on with what a crash left, as a device does when it has started again.
pub fn go_on(path: &Path, mut ledger: Writer, seed: u64, bytes: u64) -> Result<()> {
    let [first, second, third] = images::make(seed, bytes);
    let engine = root::open(path)?;
    ledger.found(&root::recover(&engine)?)?;
    let mut life = Life {
        root: path,
        engine: &engine,
        ledger,
    };
    let (a, b) = (root::serve(&first)?, root::serve(&second)?);
    let c = root::serve_update(&first, &third)?;
    life.pull_in_pieces(&b, &second)?;
    life.pull(&a, &first)?;
    life.update(&c, &third)?;
    life.remove(&b, &second)?;
    life.remove(&a, &first)?;
    life.remove(&c, &third)?;
    life.pull(&c, &third)
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
    root: &'a Path,
    engine: &'a Engine,
    ledger: Writer,
}

impl Life<'_> {
    fn pull(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let effects = names(reference, made, Some(id(made)?.to_string()))?;
        self.ledger.operation("pull", effects, || root::pull(engine, reference))
    }

    /// By delta, or not at all.
    fn update(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let effects = names(reference, made, Some(id(made)?.to_string()))?;
        self.ledger.operation("update by delta", effects, || {
            root::pull_with(engine, reference, Mode::Only)
        })
    }

    /// By a delta image of balenaEngine's.
    fn update_by_balena(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let image = id(made)?.to_string();
        let effects = vec![
            (format!("image {image}"), Some("there".into())),
            (format!("tag {}", reference.familiar()), Some(image)),
        ];
        self.ledger
            .operation("update by balena delta", effects, || root::pull(engine, reference))
    }

    /// From an archive.
    fn load(&mut self, name: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let image = id(made)?.to_string();
        let archive = made.image.docker_archive(&name.familiar());
        let effects = vec![
            (format!("image {image}"), Some("there".into())),
            (format!("tag {}", name.familiar()), Some(image)),
        ];
        self.ledger.operation("load", effects, || root::load(engine, &archive))
    }

    /// On a device that gets full in the middle of it, or has too little room from the beginning.
    fn without_room(&mut self, reference: &Reference, made: &Made, delta: Mode) -> Result<()> {
        let (engine, root) = (self.engine, self.root);
        // More than what comes, less than what comes of it.
        let room = match (delta, made.image.layers.last(), made.tars.last()) {
            (Mode::Off, Some(layer), Some(tar)) => (layer.blob.len() + tar.len()) / 2,
            _ => 128 << 10,
        };
        let effects = names(reference, made, Some(id(made)?.to_string()))?;
        let failed = self.ledger.attempt("pull without room", effects, || {
            root::leave(root, room as u64)?;
            let pulled = root::pull_with(engine, reference, delta);
            root::release(root)?;
            match pulled {
                Err(error) if error.contains("no space left on device") => Ok(true),
                Err(error) => Err(format!("on a full device: {error}")),
                // What a file system calls free is an estimate.
                Ok(()) => Ok(false),
            }
        })?;
        match failed {
            true => Ok(()),
            false => self.remove(reference, made),
        }
    }

    /// Puts another file in the place of one of an image's topmost layer, as a bad block would, and notes that it did.
    fn damage(&mut self, made: &Made) -> Result<()> {
        let (diff, path) = self.victim(made)?;
        let root = self.root;
        let effects = vec![(format!("layer {diff}"), Some("damaged".into()))];
        self.ledger.operation("damage", effects, || {
            // A new file: the old one may be another layer's, too.
            let other = root.with_file_name("other");
            std::fs::write(&other, b"not what was pulled").map_err(say)?;
            std::fs::rename(&other, &path).map_err(say)
        })
    }

    /// Finds that and heals it.
    fn repair(&mut self, made: &Made) -> Result<()> {
        let (diff, path) = self.victim(made)?;
        let engine = self.engine;
        let image = id(made)?.to_string();
        let effects = vec![(format!("layer {diff}"), None)];
        self.ledger.operation("verify and repair", effects, || {
            if root::verify(engine, Some(&image), false).is_ok() {
                return Err("damage was not found".into());
            }
            root::verify(engine, Some(&image), true)
        })?;
        match std::fs::read(&path).is_ok_and(|content| content != b"not what was pulled") {
            true => Ok(()),
            false => Err("damage was not repaired".into()),
        }
    }

    /// The topmost layer's diff ID, and the path of its first file.
    fn victim(&self, made: &Made) -> Result<(String, PathBuf)> {
        let store = &self.engine.store;
        let top = store.images.top_layer(&id(made)?).map_err(say)?;
        let top = top.ok_or("an image without layers")?;
        let tar = made.tars.last().ok_or("an image without layers")?;
        let mut reader = Reader::new(&tar[..]);
        let file = loop {
            let entry = reader.next_entry().map_err(say)?.ok_or("a layer without files")?;
            if entry.kind == Kind::Regular {
                break entry.name;
            }
        };
        let layer = made.image.layers.last().ok_or("an image without layers")?;
        let diff = store.layers.diff_path(&top).map_err(say)?;
        Ok((layer.diff_id.clone(), diff.join(OsStr::from_bytes(&file))))
    }

    /// From a registry whose connections break and that is asked once each time, then whatever is missing from another.
    /// A layer without a place to go on from never comes whole from the first.
    fn pull_in_pieces(&mut self, reference: &Reference, made: &Made) -> Result<()> {
        let engine = self.engine;
        let largest = made.image.layers.iter().map(|layer| layer.blob.len()).max();
        let broken = root::serve_in_pieces(made, (largest.unwrap_or(0) / 3).max(4096))?;
        let effects = names(&broken, made, Some(id(made)?.to_string()))?;
        let failed = self.ledger.attempt("pull in pieces", effects, || {
            engine.set_registry(registry::Config {
                max_attempts: 1,
                ..registry::Config::default()
            });
            let whole = (0..15).any(|_| root::pull(engine, &broken).is_ok());
            engine.set_registry(registry::Config::default());
            Ok(!whole)
        })?;
        self.pull(reference, made)?;
        match failed {
            true => Ok(()),
            false => self.remove(&broken, made),
        }
    }

    fn tag(&mut self, name: &Reference, image: &ImageId) -> Result<()> {
        let effects = vec![(format!("tag {}", name.familiar()), Some(image.to_string()))];
        let store = &self.engine.store;
        self.ledger
            .operation("tag", effects, || store.tags.set(name, image).map(drop).map_err(say))
    }

    fn create(&mut self, container: &str, image: &ImageId) -> Result<()> {
        let store = &self.engine.store;
        let top = store.images.top_layer(image).map_err(say)?;
        let top = top.and_then(|chain| store.layers.get(&chain));
        let effects = vec![(format!("container {container}"), Some(record(container)))];
        self.ledger.operation("create", effects, || {
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
            .map(|(_, info)| info.diff_id.0.to_string())
            .collect();
        diffs.reverse();
        diffs.push(diff.to_string());
        let config = json!({"architecture": "any", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = config.to_string();
        let id = ImageId(store::hash::sha256(config.as_bytes()));
        let effects = vec![
            (format!("image {id}"), Some("there".into())),
            (format!("tag {}", committed()?.familiar()), Some(id.to_string())),
        ];
        self.ledger.operation("commit", effects, || {
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
        self.ledger.operation("remove", effects, || {
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
        self.ledger.operation("remove", effects, || {
            store.tags.remove(&tag).map_err(say)?;
            store.images.remove(image).map(drop).map_err(say)
        })
    }

    fn remove_container(&mut self, container: &str) -> Result<()> {
        let store = &self.engine.store;
        let effects = vec![(format!("container {container}"), None)];
        self.ledger.operation("remove", effects, || {
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
