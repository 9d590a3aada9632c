//! The push side: does a blob exist, mount it from a neighbour, upload it as a stream, put the manifest.

use std::io::Read;

use oci::digest::Digest;

use crate::Result;
use crate::client::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::hash::{HashState, Sha256};
use crate::http::{Payload, Response, Url};
use crate::repository::{Access, Call, Repository, Target};

/// What an upload turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// Hashes and counts what passes.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    hash: Sha256,
    size: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        self.hash.update(&out[..n]);
        self.size += n as u64;
        Ok(n)
    }
}

impl Repository {
    /// Asks whether the repository has a blob. Its size if so (0 if the registry does not say).
    pub fn blob_exists(&self, digest: &Digest) -> Result<Option<u64>> {
        let found = self.0.somewhere(&self.0.cancel, |endpoint| {
            self.push_call(
                endpoint,
                "HEAD",
                Target::Path(format!("blobs/{digest}")),
                Vec::new(),
                Payload::Empty,
                None,
            )
        });
        match found {
            Ok(response) => Ok(Some(
                response
                    .header("content-length")
                    .and_then(|l| l.parse().ok())
                    .unwrap_or(0),
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a blob over from another repository of the registry. False if it has to be uploaded.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        self.0.somewhere(&self.0.cancel, |endpoint| {
            let path = format!("blobs/uploads/?mount={digest}&from={}", crate::http::encode(from));
            let answer = self.push_call(
                endpoint,
                "POST",
                Target::Path(path),
                Vec::new(),
                Payload::Empty,
                Some(from),
            )?;
            if answer.status == 201 {
                return Ok(true);
            }
            // The registry opened an upload instead; it is not the one we will use.
            if let Ok(location) = location(&answer) {
                answer.body.drain();
                let _ = self.push_call(
                    endpoint,
                    "DELETE",
                    Target::Url(location),
                    Vec::new(),
                    Payload::Empty,
                    None,
                );
            }
            Ok(false)
        })
    }

    /// Uploads a blob as it is made: neither digest nor length need be known before.
    ///
    /// `expected` is checked before the registry is told that the upload is complete. A stream can be sent
    /// once only, so a connection that breaks is the caller's to begin again.
    pub fn upload(&self, source: &mut dyn Read, length: Option<u64>, expected: Option<&Digest>) -> Result<Uploaded> {
        let started = self.0.somewhere(&self.0.cancel, |endpoint| {
            let path = Target::Path("blobs/uploads/".to_owned());
            let answer = self.push_call(endpoint, "POST", path, Vec::new(), Payload::Empty, None)?;
            let location = location(&answer)?;
            answer.body.drain();
            Ok(location)
        })?;
        let endpoint = self.0.endpoint();
        let mut counted = Counted {
            inner: source,
            hash: Sha256::new(),
            size: 0,
        };
        let headers = vec![("Content-Type", "application/octet-stream".to_owned())];
        let payload = Payload::Stream(&mut counted, length);
        let answer = self.push_call(&endpoint, "PATCH", Target::Url(started), headers, payload, None)?;
        let mut finish = location(&answer)?;
        answer.body.drain();
        let digest = Digest::sha256(counted.hash.finish());
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            // Errors of the clean-up change nothing: the registry drops abandoned uploads itself.
            let _ = self.push_call(
                &endpoint,
                "DELETE",
                Target::Url(finish),
                Vec::new(),
                Payload::Empty,
                None,
            );
            return Err(Error::Protocol(format!(
                "upload of {expected}: the source's digest is {digest}"
            )));
        }
        finish.push_query("digest", digest.as_str());
        let answer = self.push_call(&endpoint, "PUT", Target::Url(finish), Vec::new(), Payload::Empty, None)?;
        answer.body.drain();
        Ok(Uploaded {
            digest,
            size: counted.size,
        })
    }

    /// Puts a manifest under a tag or its digest. The digest of the bytes, which the registry has confirmed.
    pub fn put_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        self.0.somewhere(&self.0.cancel, |endpoint| {
            let headers = vec![("Content-Type", media_type.to_owned())];
            let target = Target::Path(format!("manifests/{name}"));
            let answer = self.push_call(endpoint, "PUT", target, headers, Payload::Bytes(bytes), None)?;
            let digest = Sha256::digest(bytes);
            let claimed = answer
                .header("docker-content-digest")
                .and_then(|d| Digest::parse(d.trim()).ok());
            answer.body.drain();
            match claimed {
                Some(got) if got != digest => Err(Error::ManifestDigest { expected: digest, got }),
                _ => Ok(digest),
            }
        })
    }

    pub(crate) fn push_call<'a>(
        &self,
        endpoint: &Endpoint,
        method: &'static str,
        target: Target,
        headers: Vec<(&'static str, String)>,
        payload: Payload<'a>,
        also: Option<&'a str>,
    ) -> Result<Response> {
        let call = Call {
            method,
            target,
            headers,
            payload,
            access: Access::Push,
            also,
        };
        self.0.call(endpoint, call, &self.0.cancel)
    }
}

fn location(response: &Response) -> Result<Url> {
    let value = response.header("location").unwrap_or_default();
    response
        .url
        .join(value)
        .filter(|_| !value.is_empty())
        .ok_or_else(|| Error::Protocol(format!("upload to {}: no usable Location: {value:?}", response.url)))
}
