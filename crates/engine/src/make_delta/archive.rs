//! Images of archives, for deltas: what `docker save` writes, and OCI layouts. Nothing is unpacked: layers that are
//! plain tars are read where they lie.

use super::remote::{Pool, TAR, plain};
use super::source::{Image, Layer, Named, Plain, Spool};
use crate::error::{Context, Error, Result};
use json::Deserialize;
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Index};
use oci::tar::{Kind, Reader};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use store::Decompressed;
use store::decompress::{Compression, sniff};
use store::hash::{Hashing, sha256};

/// Most files of an archive.
const MEMBERS: usize = 65_536;
/// Most bytes of a description.
const DOCUMENT: u64 = 8 << 20;
/// Links in a row, and indexes in each other.
const DEPTH: usize = 8;

/// An archive by its members.
pub struct Archive {
    name: String,
    file: Arc<File>,
    /// Where each file's content is: place and bytes.
    members: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

/// Says if a name is an archive's path, which no reference is.
pub fn is_path(name: &str) -> bool {
    name.starts_with(['/', '.'])
}

impl Archive {
    /// Reads which files an archive has; one that is compressed is kept plain meanwhile.
    pub fn open(path: &str, spool: &Spool) -> Result<Archive> {
        let mut file = File::open(Path::new(path)).invalid(path)?;
        let mut head = [0; 6];
        let n = file.read_at(&mut head, 0).context(path)?;
        if sniff(&head[..n]) != Compression::None {
            let mut stream = Decompressed::open(file).invalid(path)?;
            file = spool.take(&mut stream, TAR).map_err(|e| e.context(path))?.0;
        }
        let file = Arc::new(file);
        let mut archive = Archive {
            name: path.to_string(),
            file: file.clone(),
            members: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let mut reader = Reader::new(super::remote::FromStart(&file, 0));
        while let Some(entry) = reader.next_entry().map_err(|e| archive.wrong(&e))? {
            let Ok(name) = String::from_utf8(entry.name.clone()) else {
                continue;
            };
            let name = name.trim_start_matches("./").to_string();
            if archive.members.len() + archive.links.len() >= MEMBERS {
                return Err(archive.wrong(&"too many files"));
            }
            match entry.kind {
                Kind::Regular if entry.sparse.is_none() => {
                    archive.members.insert(name, (reader.position(), entry.size));
                }
                Kind::Symlink | Kind::HardLink => {
                    let link = String::from_utf8_lossy(&entry.link).into_owned();
                    let directory = match entry.kind {
                        Kind::Symlink => name.rsplit_once('/').map_or("", |(directory, _)| directory),
                        _ => "",
                    };
                    // It is looked up among the members only, so that it leads out of the archive is no danger.
                    let target = joined(directory, &link);
                    archive.links.insert(name, target);
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    /// Its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn wrong(&self, why: &dyn std::fmt::Display) -> Error {
        Error::invalid(format!("{}: invalid archive: {why}", self.name))
    }

    /// Says if it is one of deltas, for `load` on a device that has what they are made from.
    fn has_deltas(&self) -> bool {
        let index = self.document("index.json").ok();
        let index = index.and_then(|index| json::from_slice::<Index>(&index).ok());
        let is_one = |entry: &Descriptor| entry.artifact_type.as_deref() == Some(oci::delta::ARTIFACT);
        index.is_some_and(|index| index.manifests.iter().any(is_one))
    }

    fn member(&self, name: &str) -> Result<(u64, u64)> {
        let mut name = name.trim_start_matches("./");
        for _ in 0..DEPTH {
            if let Some(found) = self.members.get(name) {
                return Ok(*found);
            }
            match self.links.get(name) {
                Some(next) => name = next,
                None => break,
            }
        }
        Err(self.wrong(&format!("it has no {name}")))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (start, bytes) = self.member(name)?;
        let size = usize::try_from(bytes).ok().filter(|_| bytes <= DOCUMENT);
        let mut document = vec![0; size.ok_or_else(|| self.wrong(&format!("{name} is too large")))?];
        self.file
            .read_exact_at(&mut document, start)
            .map_err(|e| self.wrong(&e))?;
        Ok(document)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = path_of(&descriptor.digest);
        let bytes = self.document(&name)?;
        match sha256(&bytes) == descriptor.digest {
            true => Ok(bytes),
            false => Err(self.wrong(&format!("{name} has another digest"))),
        }
    }

    /// The names of its images, if it says any: of the first.
    pub fn images(&self, spool: &Spool, pool: &mut Pool) -> Result<Vec<(Image, Option<String>)>> {
        // The layout tells more: it has the manifests.
        if self.members.contains_key("index.json") {
            let index: Index = json::from_slice(&self.document("index.json")?).map_err(|e| self.wrong(&e))?;
            let mut images = Vec::new();
            self.of_index(&index, None, spool, pool, &mut images, 0)?;
            return Ok(images);
        }
        self.of_docker(spool, pool)
    }

    fn of_index(
        &self,
        index: &Index,
        name: Option<&str>,
        spool: &Spool,
        pool: &mut Pool,
        images: &mut Vec<(Image, Option<String>)>,
        depth: usize,
    ) -> Result<()> {
        for entry in &index.manifests {
            let beside = entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
            // An index may name images that were not put into the archive.
            if beside || entry.artifact_type.is_some() || self.member(&path_of(&entry.digest)).is_err() {
                continue;
            }
            let own = entry.annotations.get("io.containerd.image.name").map(String::as_str);
            let name = own.or(name);
            let bytes = self.blob(entry)?;
            match AnyManifest::parse(&entry.media_type, &bytes).map_err(|e| self.wrong(&e))? {
                AnyManifest::Index(next) if depth < DEPTH => {
                    self.of_index(&next, name, spool, pool, images, depth + 1)?;
                }
                AnyManifest::Index(_) => return Err(self.wrong(&"its index is nested too deeply")),
                AnyManifest::Image(manifest) => {
                    let (mut image, config) = Image::new(&self.name, self.blob(&manifest.config)?)?;
                    if images.iter().any(|(known, _)| known.id == image.id) {
                        continue;
                    }
                    let names = manifest.layers.iter().map(|layer| path_of(&layer.digest));
                    self.layers(&mut image, &config, names.collect(), spool, pool)?;
                    image.manifest = Some(Named {
                        digest: entry.digest.clone(),
                        media_type: entry.media_type.clone(),
                        bytes,
                        parsed: *manifest,
                    });
                    images.push((image, name.map(str::to_string)));
                }
            }
        }
        Ok(())
    }

    fn of_docker(&self, spool: &Spool, pool: &mut Pool) -> Result<Vec<(Image, Option<String>)>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Item {
            config: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            #[serde(default)]
            layers: Option<Vec<String>>,
        }
        let items: Vec<Item> = json::from_slice(&self.document("manifest.json")?).map_err(|e| self.wrong(&e))?;
        let mut images = Vec::new();
        for item in items {
            let (mut image, config) = Image::new(&self.name, self.document(&item.config)?)?;
            self.layers(&mut image, &config, item.layers.unwrap_or_default(), spool, pool)?;
            images.push((image, item.repo_tags.and_then(|tags| tags.into_iter().next())));
        }
        Ok(images)
    }

    fn layers(
        &self,
        image: &mut Image,
        config: &ImageConfig,
        names: Vec<String>,
        spool: &Spool,
        pool: &mut Pool,
    ) -> Result<()> {
        let diffs = &config.rootfs.diff_ids;
        if names.len() != diffs.len() || names.is_empty() || names.len() > oci::manifest::MAX_LAYERS {
            return Err(self.wrong(&"config and manifest name different layers"));
        }
        for (name, diff) in names.iter().zip(diffs) {
            if let Some(known) = pool.get(diff) {
                image.layers.push(known.clone());
                continue;
            }
            let layer = self
                .layer(name, diff, spool)
                .map_err(|e| self.wrong(&format!("{name}: {e}")))?;
            pool.insert(diff.clone(), layer.clone());
            image.layers.push(layer);
        }
        Ok(())
    }

    fn layer(&self, name: &str, diff: &Digest, spool: &Spool) -> Result<Layer> {
        let (start, bytes) = self.member(name).map_err(|error| match self.has_deltas() {
            true => Error::invalid("deltas stand in its place: take an archive of the image itself"),
            false => error,
        })?;
        let mut head = [0; 6];
        let n = self.file.read_at(&mut head, start).context("read layer")?;
        let compressed = sniff(&head[..n.min(usize::try_from(bytes).unwrap_or(n))]) != Compression::None;
        let mut content = super::remote::FromStart(&self.file, start).take(bytes);
        if compressed {
            return plain(content, diff, spool);
        }
        let mut hashing = Hashing::new(&mut content);
        std::io::copy(&mut hashing, &mut std::io::sink()).context("read layer")?;
        let (digest, _) = hashing.finish();
        if digest != *diff {
            return Err(Error::invalid(format!("its diff ID is {digest}, not {diff}")));
        }
        Ok(Layer::Plain(Plain {
            file: self.file.clone(),
            start,
            bytes,
            diff: digest,
        }))
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = sys::fs::drop_cache(&*self.file);
    }
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// The name that a link in a directory has within the archive.
fn joined(directory: &str, link: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(link.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links() {
        assert_eq!(joined("a/b", "../c/layer.tar"), "a/c/layer.tar");
        assert_eq!(joined("", "../../etc/passwd"), "etc/passwd");
        assert!(is_path("./a.tar") && is_path("/a.tar") && !is_path("a.tar") && !is_path("registry/a"));
    }
}
