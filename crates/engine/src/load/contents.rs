//! One pass over an archive: descriptions are kept, layers unpacked, links noted, everything else let go.
//!
//! What a member is, its content says: the archives of Docker, podman, skopeo and buildkit agree in no names. A tar,
//! plain or compressed, is a layer; JSON is a description. A layer that is there already is read and hashed, no more.

use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::progress::{Metered, Progress};
use crate::{Engine, apply_delta};
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::tar::{Entry, Kind, Reader};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read};
use store::decompress::{Compression, Decompressed, sniff};
use store::hash::{Hashing, sha256};
use store::{ChainId, DiffId, LayerId, UnpackedLayer};

/// Most bytes of descriptions and names that are kept.
pub const MEMORY: u64 = 16 << 20;
/// A description that is longer is none that we need.
const DOCUMENT: u64 = 8 << 20;
/// Most layers that wait for their place; more images than that are loaded in two goes.
const LAYERS: usize = 4096;
/// Links in a row.
const LINKS: usize = 16;
const BUFFER: usize = 64 * 1024;
const LOADING: &str = "Loading layer";

/// A layer of the archive.
pub enum Layer {
    /// Unpacked, and on nothing yet.
    Unpacked(Box<UnpackedLayer>),
    /// The same as one that was there before.
    There(LayerId),
}

/// What an archive had. Dropped, it takes with it the layers that were not taken.
#[derive(Default)]
pub struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    layers: BTreeMap<String, Layer>,
    links: BTreeMap<String, String>,
    /// Also of layers that were taken.
    diffs: BTreeMap<String, Digest>,
    has_deltas: bool,
    /// Why a delta of a layer could not be applied.
    refused: BTreeMap<Digest, String>,
    memory: u64,
}

impl Contents {
    /// A description, by its name in the archive or that of a link to it.
    pub fn document(&self, name: &str) -> Result<Option<&[u8]>> {
        Ok(self.documents.get(&self.resolve(name)?).map(Vec::as_slice))
    }

    /// Follows links to the name that has content.
    pub fn resolve(&self, name: &str) -> Result<String> {
        let mut name = clean("", name).ok_or_else(|| outside(name))?;
        for _ in 0..LINKS {
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => return Ok(name),
            }
        }
        Err(Error::invalid(format!(
            "invalid archive: too many levels of symbolic links at {name}"
        )))
    }

    /// The diff ID of what the archive has under a resolved name.
    pub fn diff_of(&self, name: &str) -> Option<&Digest> {
        self.diffs.get(name)
    }

    /// Takes a layer by its resolved name.
    pub fn take(&mut self, name: &str) -> Option<Layer> {
        self.layers.remove(name)
    }

    /// Says if the archive makes layers of other images'.
    pub fn has_deltas(&self) -> bool {
        self.has_deltas
    }

    /// Takes the layer of a diff ID that a delta made; or says why none did.
    pub fn take_by_delta(&mut self, diff: &Digest) -> Result<Layer, Option<&str>> {
        let made = self.layers.remove(&delta_name(diff));
        made.ok_or_else(|| self.refused.get(diff).map(String::as_str))
    }

    fn remember(&mut self, bytes: usize) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes as u64 + 64);
        match self.memory > MEMORY {
            true => Err(Error::invalid(format!(
                "invalid archive: its descriptions are larger than {MEMORY} bytes"
            ))),
            false => Ok(()),
        }
    }
}

fn outside(name: &str) -> Error {
    Error::invalid(format!("invalid archive: {name:?} leads out of it"))
}

/// The name that `name` means in `directory`, without `.`, `..` and doubled slashes; nothing for one outside.
fn clean(directory: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let from = if name.starts_with('/') { "" } else { directory };
    for part in from.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Reads an archive to its end.
pub fn read(engine: &Engine, archive: &mut dyn Read, progress: &Progress, cancel: &Cancel) -> Result<Contents> {
    let mut known = HashMap::new();
    // A damaged layer counts as absent: a good copy takes its place.
    let layers = engine.store.layers.list();
    for (chain, info) in layers
        .into_iter()
        .filter(|(chain, _)| !engine.store.layers.is_damaged(chain))
    {
        known.entry(info.diff_id).or_insert(chain);
    }
    let mut pass = Pass {
        engine,
        progress,
        known,
        expected: None,
        looked: 0,
        contents: Contents::default(),
    };
    let mut stream = Decompressed::open(archive)?;
    let mut reader = Reader::with_tap(BufReader::with_capacity(BUFFER, &mut stream as &mut dyn Read), ());
    let broken = |e: oci::tar::TarError| Error::invalid(format!("invalid archive: {e}"));
    while let Some(entry) = reader.next_entry().map_err(broken)? {
        if cancel.is_set() {
            return Err(Error::cancelled());
        }
        pass.member(&entry, &mut reader)?;
    }
    reader.finish().map_err(broken)?;
    stream
        .drain()
        .map_err(|e| Error::invalid(format!("invalid archive: {e}")))?;
    Ok(pass.contents)
}

struct Pass<'a> {
    engine: &'a Engine,
    progress: &'a Progress,
    /// A layer for each diff ID that is there.
    known: HashMap<DiffId, ChainId>,
    /// Diff IDs by names of layers, once the archive has told them.
    expected: Option<HashMap<String, Digest>>,
    /// How many descriptions there were when that was last looked for.
    looked: usize,
    contents: Contents,
}

impl Pass<'_> {
    fn member(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let Ok(name) = std::str::from_utf8(&entry.name) else {
            return Ok(());
        };
        let name = clean("", name).ok_or_else(|| outside(name))?;
        match entry.kind {
            Kind::Regular => self.file(name, entry.size, content),
            Kind::Symlink | Kind::HardLink => {
                let Ok(link) = std::str::from_utf8(&entry.link) else {
                    return Ok(());
                };
                let directory = match entry.kind {
                    Kind::Symlink => name.rsplit_once('/').map_or("", |(directory, _)| directory),
                    _ => "",
                };
                let target = clean(directory, link).ok_or_else(|| outside(link))?;
                self.contents.remember(name.len() + target.len())?;
                self.contents.links.insert(name, target);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: String, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut head = Vec::with_capacity(oci::tar::BLOCK);
        let read = content.take(oci::tar::BLOCK as u64).read_to_end(&mut head);
        read.invalid("invalid archive")?;
        let mut content = io::Cursor::new(head.clone()).chain(content);
        if head.starts_with(&delta::MAGIC) {
            return self.delta(&name, size, &head, &mut content);
        }
        // A tar of nothing at all is one, as for Docker.
        if is_layer(&head) || head.is_empty() && name.ends_with(".tar") {
            let compressed = sniff(&head) != Compression::None;
            return self.layer(name, size, compressed, &mut content);
        }
        let first = head.iter().find(|b| !b.is_ascii_whitespace());
        if matches!(first, Some(b'{' | b'[')) && size <= DOCUMENT {
            self.contents
                .remember(name.len() + usize::try_from(size).unwrap_or(usize::MAX))?;
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).invalid("invalid archive")?;
            verify(&name, &sha256(&bytes))?;
            if self.contents.documents.insert(name.clone(), bytes).is_some() {
                return Err(Error::invalid(format!("invalid archive: two files named {name}")));
            }
        }
        Ok(())
    }

    fn layer(&mut self, name: String, size: u64, compressed: bool, content: &mut dyn Read) -> Result<()> {
        self.contents.remember(name.len())?;
        if self.contents.diffs.contains_key(&name) || self.contents.diffs.len() >= LAYERS {
            return Err(Error::invalid(format!(
                "invalid archive: too many layers, or two named {name}"
            )));
        }
        let layer = match self.find(&name) {
            Some((layer, diff)) => {
                let digest = match digest_of(&name) {
                    Some(_) => digest(content)?,
                    // A name that promises nothing: what counts is the tar in it.
                    None => digest(&mut Decompressed::open(content)?)?,
                };
                verify(&name, &digest)?;
                if digest_of(&name).is_none_or(|named| named != digest) && digest != diff {
                    return Err(Error::invalid(format!(
                        "invalid archive: {name} is {digest}, expected {diff}"
                    )));
                }
                self.contents.diffs.insert(name.clone(), diff);
                Layer::There(layer)
            }
            None => {
                let mut metered = Metered::new(content, self.progress, short(&name), LOADING, size);
                let unpacked = unpack(self.engine, &mut metered, &name, compressed)?;
                metered.tell(true)?;
                let diff = unpacked.outcome().diff_id.0.clone();
                self.contents.diffs.insert(name.clone(), diff);
                Layer::Unpacked(Box::new(unpacked))
            }
        };
        self.contents.layers.insert(name, layer);
        Ok(())
    }

    /// Makes a layer of its delta as that is read. One that cannot be applied here is let go: another may follow, for
    /// another base.
    fn delta(&mut self, name: &str, size: u64, head: &[u8], content: &mut dyn Read) -> Result<()> {
        let target = head.get(8..40).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(target) = target.map(Digest::sha256) else {
            return Ok(());
        };
        let key = delta_name(&target);
        self.contents.has_deltas = true;
        if self.contents.layers.contains_key(&key) || self.known.contains_key(&DiffId(target.clone())) {
            return Ok(());
        }
        self.contents.remember(key.len())?;
        let mut metered = Metered::new(content, self.progress, short(name), LOADING, size);
        let mut hashing = Hashing::new(&mut metered);
        let made = apply_delta::unpack_alone(self.engine, &target, &mut hashing);
        match made {
            Ok(unpacked) => {
                verify(name, &hashing.finish().0)?;
                self.contents
                    .layers
                    .insert(key.clone(), Layer::Unpacked(Box::new(unpacked)));
                self.contents.diffs.insert(key, target);
            }
            Err(error) if error.is_no_space() => return Err(error.into()),
            Err(error) => {
                log::warn!("delta {name}: {error}");
                // What is wrong with the file is to be said first: with a base, there may be another delta for it.
                io::copy(&mut hashing, &mut io::sink()).invalid("invalid archive")?;
                let why = match verify(name, &hashing.finish().0) {
                    Err(_) => format!("{name} is damaged in the archive: copy it here once more"),
                    Ok(()) => error.to_string(),
                };
                let has_base = !matches!(error, store::Error::NotFound(_));
                if has_base || !self.contents.refused.contains_key(&target) {
                    self.contents.refused.insert(target, why);
                }
            }
        }
        Ok(())
    }

    /// The layer that is there already and is what a name promises.
    fn find(&mut self, name: &str) -> Option<(LayerId, Digest)> {
        let mut diffs = Vec::new();
        if let Some(digest) = digest_of(name) {
            diffs.extend(self.engine.store.distribution.diff_id(&digest).map(|diff| diff.0));
            diffs.push(digest);
        } else {
            if self.expected.is_none() && self.looked < self.contents.documents.len() {
                self.looked = self.contents.documents.len();
                self.expected = expected(&self.contents);
            }
            diffs.extend(self.expected.as_ref()?.get(name).cloned());
        }
        diffs.into_iter().find_map(|diff| {
            let chain = self.known.get(&DiffId(diff.clone()))?;
            Some((self.engine.store.layers.get(chain)?, diff))
        })
    }
}

/// What the layer is called that a delta made.
fn delta_name(target: &Digest) -> String {
    format!("delta of {target}")
}

/// Diff IDs by names of layers, as `manifest.json` and the configs tell them; nothing while one is missing.
fn expected(contents: &Contents) -> Option<HashMap<String, Digest>> {
    let items = super::plan::docker_items(contents).ok()??;
    let mut names = HashMap::new();
    for item in items {
        let config = ImageConfig::parse(contents.document(&item.config).ok()??).ok()?;
        names.extend(item.layers.into_iter().zip(config.rootfs.diff_ids));
    }
    Some(names)
}

/// The digest that is part of a name: `blobs/sha256/<hex>`, or `<hex>.tar` as skopeo names layers by their diff IDs.
fn digest_of(name: &str) -> Option<Digest> {
    let hex = match name.strip_prefix("blobs/sha256/") {
        Some(hex) => hex,
        None => name.strip_suffix(".tar").filter(|hex| !hex.contains('/'))?,
    };
    Digest::from_hex(hex).ok()
}

/// Refuses content that is not what its name says.
fn verify(name: &str, got: &Digest) -> Result<()> {
    let named = name
        .strip_prefix("blobs/sha256/")
        .and_then(|hex| Digest::from_hex(hex).ok());
    match named {
        Some(named) if named != *got => Err(Error::invalid(format!(
            "invalid archive: the digest of {name} is {got}"
        ))),
        _ => Ok(()),
    }
}

fn digest(content: &mut dyn Read) -> Result<Digest> {
    let mut hashing = Hashing::new(content);
    io::copy(&mut hashing, &mut io::sink()).invalid("invalid archive")?;
    Ok(hashing.finish().0)
}

fn unpack(engine: &Engine, content: &mut dyn Read, name: &str, compressed: bool) -> Result<UnpackedLayer> {
    let about = |e: store::Error| Error::from(e.within(format!("layer {name}")));
    let staged = engine.store.layers.stage(None).map_err(about)?;
    if !compressed {
        // Hashed once: what is unpacked is all that there is.
        let unpacked = staged.unpack(content).map_err(about)?;
        verify(name, &unpacked.outcome().diff_id.0)?;
        return Ok(unpacked);
    }
    let mut hashing = Hashing::new(content);
    let mut stream = Decompressed::open(&mut hashing as &mut dyn Read).map_err(about)?;
    let unpacked = staged.unpack(&mut stream as &mut dyn Read).map_err(about)?;
    stream
        .drain()
        .map_err(|e| Error::invalid(format!("invalid archive: {e}")))?;
    verify(name, &hashing.finish().0)?;
    Ok(unpacked)
}

/// Whether a file that begins like this is a tar, whatever compresses it.
fn is_layer(head: &[u8]) -> bool {
    if sniff(head) != Compression::None {
        return true;
    }
    let Some(block) = head.get(..oci::tar::BLOCK) else {
        return false;
    };
    // An archive of nothing is two blocks of zeros.
    block.iter().all(|b| *b == 0) || oci::tar::is_header(block)
}

/// What stands for a layer in lines of progress: twelve digits of whatever its name has.
fn short(name: &str) -> String {
    let part = name
        .split('/')
        .map(|part| part.trim_end_matches(".tar"))
        .find(|part| part.len() >= 12 && part.bytes().all(|b| b.is_ascii_hexdigit()));
    match part {
        Some(hex) => hex[..12].to_string(),
        None => name.chars().take(12).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(clean("", "./a//b/../c").as_deref(), Some("a/c"));
        assert_eq!(clean("a", "../b/layer.tar").as_deref(), Some("b/layer.tar"));
        assert_eq!(clean("a", "/b").as_deref(), Some("b"));
        assert_eq!(clean("", "../etc/passwd"), None);
        assert_eq!(clean("a", "../../x"), None);
        assert_eq!(short(&format!("{}/layer.tar", "ab".repeat(32))), "abababababab");
        assert_eq!(short("layer.tar"), "layer.tar");
    }

    #[test]
    fn links_that_go_in_circles() {
        let mut contents = Contents::default();
        contents.links.insert("a".into(), "b".into());
        contents.links.insert("b".into(), "a".into());
        contents.links.insert("c".into(), "d".into());
        assert!(
            contents
                .resolve("a")
                .unwrap_err()
                .to_string()
                .contains("too many levels")
        );
        assert_eq!(contents.resolve("./c").unwrap(), "d");
        assert!(contents.resolve("../c").is_err());
    }
}
