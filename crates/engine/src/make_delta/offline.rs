//! Deltas as a file: an OCI layout as a tar, with the target's manifest and config, the artifacts and the deltas.
//!
//! It has what an update needs and nothing of the base. A reader gets each description before what it describes.

use super::remote::FromStart;
use super::set::{Artifact, NOTHING, Set, descriptor};
use super::source::{Image, Named};
use crate::error::{Context, Result};
use oci::manifest::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use oci::manifest::{Descriptor, Index, Manifest};
use oci::reference::Reference;
use oci::tar;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use store::hash::sha256;

/// A target with the deltas that lead to it.
pub struct Offer {
    pub target: Image,
    /// The name that loading gives to the target.
    pub name: Option<Reference>,
    pub subject: Named,
    pub sets: Vec<(Set, Artifact)>,
}

/// The manifest of an image: the one that a registry has or had, or one with plain layers, as saving writes it.
pub fn subject(image: &Image) -> Result<Named> {
    if let Some(known) = &image.manifest {
        return Ok(known.clone());
    }
    let mut layers = Vec::new();
    for layer in &image.layers {
        layers.push(descriptor(OCI_LAYER, layer.diff(), layer.length()?));
    }
    let parsed = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_string(),
        config: descriptor(OCI_CONFIG, &image.id, image.config.len() as u64),
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = json::to_vec(&parsed);
    Ok(Named {
        digest: sha256(&bytes),
        media_type: OCI_MANIFEST.to_string(),
        bytes,
        parsed,
    })
}

/// Writes the archive.
pub fn write(offers: &[Offer], out: &mut dyn Write) -> Result<()> {
    put(offers, out).context("write the archive")
}

fn put(offers: &[Offer], out: &mut dyn Write) -> io::Result<()> {
    let mut archive = Archive {
        tar: tar::Writer::new(io::BufWriter::with_capacity(64 << 10, out)),
        written: BTreeSet::new(),
    };
    archive.document("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    let index = json::to_vec(&index(offers));
    archive.document("index.json", &index)?;
    for name in ["blobs/", "blobs/sha256/"] {
        let mut entry = tar::Entry::new(tar::Kind::Directory, name);
        entry.mode = 0o755;
        archive.tar.start(&entry)?;
    }
    for offer in offers {
        archive.document(&blob(&offer.target.id), &offer.target.config)?;
        archive.document(&blob(&offer.subject.digest), &offer.subject.bytes)?;
        for (_, artifact) in &offer.sets {
            archive.document(&blob(&artifact.descriptor.digest), &artifact.bytes)?;
        }
    }
    archive.document(&blob(&sha256(NOTHING)), NOTHING)?;
    for delta in offers
        .iter()
        .flat_map(|offer| &offer.sets)
        .flat_map(|(set, _)| &set.deltas)
    {
        let mut content = FromStart(&delta.file, 0).take(delta.bytes);
        archive.file(&blob(&delta.digest), delta.bytes, &mut content)?;
    }
    archive.tar.finish().map(drop)
}

fn blob(digest: &oci::digest::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn index(offers: &[Offer]) -> Index {
    let mut manifests: Vec<Descriptor> = Vec::new();
    for offer in offers {
        let subject = &offer.subject;
        let mut image = descriptor(&subject.media_type, &subject.digest, subject.bytes.len() as u64);
        image.platform = Some(offer.target.platform.clone());
        if let Some(name) = &offer.name {
            let annotations = [
                ("io.containerd.image.name", name.canonical()),
                (
                    "org.opencontainers.image.ref.name",
                    name.tag().unwrap_or("latest").to_string(),
                ),
            ];
            image.annotations = annotations.map(|(key, value)| (key.to_string(), value)).into();
        }
        manifests.push(image);
        manifests.extend(offer.sets.iter().map(|(_, artifact)| artifact.descriptor.clone()));
    }
    Index {
        schema_version: 2,
        media_type: OCI_INDEX.to_string(),
        manifests,
        annotations: BTreeMap::new(),
    }
}

struct Archive<'a> {
    tar: tar::Writer<io::BufWriter<&'a mut dyn Write>>,
    /// What several have is there once.
    written: BTreeSet<String>,
}

impl Archive<'_> {
    fn document(&mut self, name: &str, mut bytes: &[u8]) -> io::Result<()> {
        self.file(name, bytes.len() as u64, &mut bytes)
    }

    fn file(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        if !self.written.insert(name.to_string()) {
            return Ok(());
        }
        let mut entry = tar::Entry::new(tar::Kind::Regular, name);
        entry.mode = 0o644;
        entry.size = bytes;
        self.tar.append(&entry, content)
    }
}
