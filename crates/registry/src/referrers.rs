//! What refers to a manifest: deltas, signatures, and whatever else was attached to it.
//!
//! Source: OCI distribution spec 1.1, "Listing Referrers". A registry without that API has the list, if there is one,
//! as an index under the tag `sha256-<hex>`, which is asked for then; so a list costs two requests at most.

use oci::digest::Digest;
use oci::manifest::{AnyManifest, Descriptor, Index};
use oci::reference::Reference;

use crate::Result;
use crate::attach::fallback_tag;
use crate::error::{Error, ErrorKind};
use crate::http::Payload;
use crate::repository::{Access, Call, Repository, Target, transport_error};

/// Largest list that is read, bytes.
const LIST_LIMIT: u64 = 4 << 20;

impl Repository {
    /// Lists what refers to a manifest and is of a type. The first page of a long list; nothing where there is none.
    pub fn referrers(&self, subject: &Digest, artifact_type: &str) -> Result<Vec<Descriptor>> {
        let mut list = match self.list_by_api(subject, artifact_type)? {
            Some(index) => index.manifests,
            None => self.list_by_tag(subject)?,
        };
        // A registry may filter, and does not have to.
        list.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(artifact_type));
        Ok(list)
    }

    /// Nothing from a registry that has no such API.
    fn list_by_api(&self, subject: &Digest, artifact_type: &str) -> Result<Option<Index>> {
        let answer = self.0.somewhere(&self.0.cancel, |endpoint| {
            let call = Call {
                method: "GET",
                target: Target::Path(format!(
                    "referrers/{subject}?artifactType={}",
                    artifact_type.replace('+', "%2B")
                )),
                headers: vec![("Accept", oci::manifest::media_type::OCI_INDEX.to_owned())],
                payload: Payload::Empty,
                access: Access::Pull,
                also: None,
            };
            let response = self.0.call(endpoint, call, &self.0.cancel)?;
            let url = response.url.clone();
            let bytes = response.body.read_all(LIST_LIMIT);
            let bytes = bytes.map_err(|e| transport_error("GET", &url, &e))?;
            bytes
                .ok_or_else(|| Error::Protocol(format!("the referrers of {subject} have more than {LIST_LIMIT} bytes")))
        });
        match answer {
            // Not every 200 is that API's: a proxy's page of welcome is none.
            Ok(bytes) => Ok(json::from_slice(&bytes).ok()),
            Err(Error::Api { status, .. } | Error::Unparsable { status, .. } | Error::Status { status, .. })
                if matches!(status, 400 | 404 | 405 | 501) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn list_by_tag(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let tag = fallback_tag(subject);
        let reference = Reference::parse(&format!("{}:{tag}", self.name().canonical()))
            .map_err(|e| Error::Protocol(format!("tag {tag} of {}: {e}", self.name().familiar())))?;
        let found = match self.manifest(&reference) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        match AnyManifest::parse(&found.media_type, &found.bytes) {
            Ok(AnyManifest::Index(index)) => Ok(index.manifests),
            _ => Ok(Vec::new()),
        }
    }
}
