//! Pushing a manifest that refers to another one, so that it is found from there.
//!
//! A registry with the referrers API (distribution spec 1.1) says so by an `OCI-Subject` header in its answer, and keeps
//! the list itself. Others leave it to the client: an index under the tag `sha256-<hex>` lists what refers to that
//! digest ("referrers tag schema"). Two clients that change it at once may lose one's change, and no registry offers a
//! condition for a tag: so the index is read again after it was written, and written again if it lacks what it should
//! have.

use std::time::Duration;

use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Index, media_type};
use oci::reference::Reference;

use crate::Result;
use crate::error::{Error, ErrorKind};
use crate::http::Payload;
use crate::repository::{Repository, Target};

/// How often the index is written before another client is said to have won.
const ROUNDS: u32 = 8;
/// The first wait for another client that writes the same index; each is longer by as much.
const WAIT: Duration = Duration::from_millis(100);
/// Most entries of an index that is written; what was there first stays.
const MOST: usize = 1000;

/// How a registry keeps what refers to a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// By the referrers API.
    Api,
    /// In an index under a tag that the client writes.
    Tag,
}

/// The tag under which a registry without the referrers API has what refers to `subject`.
pub fn fallback_tag(subject: &Digest) -> String {
    let name = format!("{}-{}", subject.algorithm(), subject.hex());
    name.chars().take(128).collect()
}

impl Repository {
    /// Pushes an image manifest whose `subject` is the one given. `descriptor` is what a list of referrers has of it.
    /// `replaced` says which entries of such a list it stands for from now on.
    pub fn attach(
        &self,
        subject: &Digest,
        descriptor: &Descriptor,
        bytes: &[u8],
        replaced: &dyn Fn(&Descriptor) -> bool,
    ) -> Result<Kept> {
        let name = descriptor.digest.to_string();
        let kept = self.0.somewhere(&self.0.cancel, |endpoint| {
            let headers = vec![("Content-Type", descriptor.media_type.clone())];
            let target = Target::Path(format!("manifests/{name}"));
            let answer = self.push_call(endpoint, "PUT", target, headers, Payload::Bytes(bytes), None)?;
            let kept = match answer.header("oci-subject") {
                Some(_) => Kept::Api,
                None => Kept::Tag,
            };
            answer.body.drain();
            Ok(kept)
        })?;
        if kept == Kept::Tag {
            self.list_under_tag(subject, descriptor, replaced)?;
        }
        Ok(kept)
    }

    fn list_under_tag(
        &self,
        subject: &Digest,
        descriptor: &Descriptor,
        replaced: &dyn Fn(&Descriptor) -> bool,
    ) -> Result<()> {
        let tag = fallback_tag(subject);
        let reference = Reference::parse(&format!("{}:{tag}", self.name().canonical()))
            .map_err(|e| Error::Protocol(format!("tag {tag} of {}: {e}", self.name().familiar())))?;
        for round in 0..ROUNDS {
            let mut index = self.listed(&reference)?;
            let others = |known: &Descriptor| known.digest != descriptor.digest && !replaced(known);
            if index.manifests.contains(descriptor)
                && index.manifests.iter().filter(|known| !others(known)).count() == 1
            {
                return Ok(());
            }
            if round > 0 && !self.0.cancel.sleep(WAIT * round) {
                return Err(Error::Cancelled);
            }
            index.manifests.retain(others);
            if index.manifests.len() >= MOST {
                return Err(Error::Protocol(format!(
                    "the list of what refers to {subject} in {} has {MOST} entries already",
                    self.name().familiar()
                )));
            }
            index.manifests.push(descriptor.clone());
            let bytes = json::to_vec(&index);
            self.put_manifest(&tag, media_type::OCI_INDEX, &bytes)?;
        }
        Err(Error::Protocol(format!(
            "the list of what refers to {subject} in {} is being changed by others",
            self.name().familiar()
        )))
    }

    /// The index under a fallback tag; an empty one where there is none.
    fn listed(&self, reference: &Reference) -> Result<Index> {
        let none = Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests: Vec::new(),
            annotations: Default::default(),
        };
        let found = match self.manifest(reference) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(none),
            Err(error) => return Err(error),
        };
        match AnyManifest::parse(&found.media_type, &found.bytes) {
            Ok(AnyManifest::Index(index)) => Ok(index),
            // Somebody's image under that tag is not ours to replace.
            _ => Err(Error::Protocol(format!(
                "{} is no list of referrers",
                reference.familiar()
            ))),
        }
    }
}
