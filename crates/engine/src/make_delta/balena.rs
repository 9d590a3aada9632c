//! balenaEngine's deltas: an image in the store whose layers are librsync deltas against all of the base at once.
//!
//! Its config has nothing but labels: the base's image ID and the target's config. A layer that the base has as well,
//! in the same place, is an empty tar. Memory: sums of the base's blocks, 86 MiB for 1 GiB, and one literal.

use super::local;
use super::source::{Image, Spool, Watched};
use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use api::progress::human;
use delta::rsync::{self, Signature};
use json::Serialize;
use oci::digest::Digest;
use oci::reference::Reference;
use oci::tar;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Seek, Write};
use store::hash::Hashing;
use store::{ImageId, LayerId};

const BASE: &str = "io.resin.delta.base";
const CONFIG: &str = "io.resin.delta.config";
/// The name of a layer's only file.
const FILE: &str = "delta";

/// Makes the delta from an image to another as a new image, and gives it a name.
pub fn make(
    engine: &Engine,
    source: &str,
    target: &str,
    name: Option<&Reference>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ImageId> {
    let (base, new) = (local::find(engine, source)?, local::find(engine, target)?);
    let spool = Spool::new(&engine.store.root().join("tmp"))?;
    let patient = |error: Error| match cancel.is_set() {
        true => Error::cancelled(),
        false => error,
    };
    let signature = fingerprint(&base, progress, cancel).map_err(patient)?;
    let (mut diffs, mut parent) = (Vec::new(), None::<LayerId>);
    let (mut normal, mut small) = (0u64, 0u64);
    let mut common = true;
    for (at, layer) in new.layers.iter().enumerate() {
        let id = layer.diff().short().to_string();
        // The same chain ID: the same layers from the lowest up.
        common = common && base.layers.get(at).is_some_and(|base| base.diff() == layer.diff());
        let staged = engine.store.layers.stage(parent.as_ref().map(LayerId::chain_id))?;
        let unpacked = match common {
            true => {
                progress.status(&id, "Skipping common layer")?;
                staged.unpack(&[0u8; 1024][..])?
            }
            false => {
                let length = layer.length()?;
                let watched = Watched::new(layer.tar()?, (&id, "Computing delta"), length, progress, cancel);
                let made = Made::new(&signature, watched, layer.diff(), &spool).map_err(patient)?;
                normal += length;
                small += made.bytes;
                progress.status(&id, "Delta complete")?;
                staged.unpack(made.tar()?)?
            }
        };
        let layer = unpacked.commit_as_is()?;
        let info = engine.store.layers.info(layer.chain_id());
        diffs.push(
            info.map(|info| info.diff_id.0)
                .ok_or_else(|| Error::internal("a layer went away"))?,
        );
        parent = Some(layer);
    }
    let config = config(&base, &new, &diffs, &api::time::now())?;
    let image = engine.store.images.put(&config, parent.as_ref())?;
    if let Some(name) = name {
        engine.store.images.set_last_updated(&image, &api::time::now())?;
        engine.store.tags.set(name, &image)?;
        let attributes = BTreeMap::from([("name".to_string(), name.familiar())]);
        engine.events.emit("image", "tag", image.0.as_str(), attributes);
    }
    let size = |bytes: u64| human(i64::try_from(bytes).unwrap_or(i64::MAX));
    let ratio = normal as f64 / small.max(1) as f64;
    let text = format!(
        "Normal size: {}, Delta size: {}, {ratio:.2}x improvement",
        size(normal),
        size(small)
    );
    progress.status("", text)?;
    progress.status("", format!("Created delta: {image}"))?;
    let attributes = BTreeMap::from([("name".to_string(), image.to_string())]);
    engine.events.emit("image", "delta", image.0.as_str(), attributes);
    Ok(image)
}

/// The sums of all of the base's layers, one after the other.
fn fingerprint(base: &Image, progress: &Progress, cancel: &Cancel) -> Result<Signature> {
    let mut length = 0;
    for layer in &base.layers {
        length += layer.length()?;
    }
    let id = base.id.short().to_string();
    let all = AllOf {
        image: base,
        next: 0,
        now: None,
    };
    let mut watched = Watched::new(all, (&id, "Fingerprinting"), length, progress, cancel);
    let signature = Signature::read(&mut watched, length).context(format!("read {}", base.name))?;
    progress.status(&id, "Fingerprint complete")?;
    Ok(signature)
}

/// The layers of an image as one stream; each must be the one that it is said to be.
struct AllOf<'a> {
    image: &'a Image,
    next: usize,
    now: Option<(&'a Digest, Hashing<Box<dyn Read + Send>>)>,
}

impl Read for AllOf<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((_, tar)) = &mut self.now {
                match tar.read(into)? {
                    0 if !into.is_empty() => {}
                    n => return Ok(n),
                }
            }
            if let Some((diff, tar)) = self.now.take() {
                check(diff, &tar.finish().0).map_err(io::Error::other)?;
            }
            let Some(layer) = self.image.layers.get(self.next) else {
                return Ok(0);
            };
            self.next += 1;
            let tar = layer.tar().map_err(|e| io::Error::other(e.to_string()))?;
            self.now = Some((layer.diff(), Hashing::new(tar)));
        }
    }
}

fn check(wanted: &Digest, got: &Digest) -> std::result::Result<(), String> {
    match wanted == got {
        true => Ok(()),
        false => Err(format!("layer {wanted} is damaged: its diff ID is {got}")),
    }
}

/// A layer's delta in a file.
struct Made {
    file: std::fs::File,
    bytes: u64,
}

impl Made {
    fn new(signature: &Signature, tar: impl Read, diff: &Digest, spool: &Spool) -> Result<Made> {
        let file = spool.file()?;
        let mut out = BufWriter::with_capacity(64 << 10, &file);
        let mut tar = Hashing::new(tar);
        let bytes = rsync::write(signature, &mut tar, &mut out).context(format!("layer {}", diff.short()))?;
        out.flush().context("write a temporary file")?;
        drop(out);
        check(diff, &tar.finish().0).map_err(Error::internal)?;
        Ok(Made { file, bytes })
    }

    /// The tar that is the layer: one file, nobody's, of no time.
    fn tar(self) -> Result<impl Read> {
        let mut head = Vec::new();
        let mut entry = tar::Entry::new(tar::Kind::Regular, FILE);
        entry.mode = 0o600;
        entry.size = self.bytes;
        tar::Writer::new(&mut head).start(&entry).context("write a header")?;
        let padding = self.bytes.wrapping_neg() % tar::BLOCK as u64;
        let end = io::repeat(0).take(padding + 2 * tar::BLOCK as u64);
        let mut file = self.file;
        file.rewind().context("read a temporary file")?;
        let content = file.take(self.bytes);
        Ok(io::Cursor::new(head).chain(content).chain(end))
    }
}

/// The delta's config, field for field as balenaEngine's.
fn config(base: &Image, target: &Image, diffs: &[Digest], created: &str) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Written<'a> {
        created: &'a str,
        container_config: Run<'a>,
        config: Run<'a>,
        rootfs: Root<'a>,
    }
    #[derive(Serialize)]
    struct Root<'a> {
        r#type: &'a str,
        diff_ids: &'a [Digest],
    }
    /// The zero value of Go's type, but for labels.
    #[derive(Serialize, Default)]
    #[serde(rename_all = "PascalCase")]
    struct Run<'a> {
        hostname: &'a str,
        domainname: &'a str,
        user: &'a str,
        attach_stdin: bool,
        attach_stdout: bool,
        attach_stderr: bool,
        tty: bool,
        open_stdin: bool,
        stdin_once: bool,
        env: Option<bool>,
        cmd: Option<bool>,
        image: &'a str,
        volumes: Option<bool>,
        working_dir: &'a str,
        entrypoint: Option<bool>,
        on_build: Option<bool>,
        labels: Option<BTreeMap<&'a str, String>>,
    }
    let raw = std::str::from_utf8(&target.config).invalid(format!("config of {}", target.name))?;
    let labels = BTreeMap::from([(BASE, base.id.to_string()), (CONFIG, raw.to_string())]);
    let written = Written {
        created,
        container_config: Run::default(),
        config: Run {
            labels: Some(labels),
            ..Run::default()
        },
        rootfs: Root {
            r#type: "layers",
            diff_ids: diffs,
        },
    };
    let json = json::to_string(&written);
    Ok(as_go(&json).into_bytes())
}

/// Escapes what Go's encoder escapes in strings and serde's does not; outside of strings there is none of it.
fn as_go(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_as_go_writes_them() {
        assert_eq!(as_go(r#"{"a":"x && <y>"}"#), r#"{"a":"x \u0026\u0026 \u003cy\u003e"}"#);
    }
}
