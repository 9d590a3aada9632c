//! The push side: does a blob exist, mount it from a neighbour, upload it as a stream, put the manifest.

use std::io::Read;

use oci::digest::Digest;

use crate::Result;
use crate::client::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::hash::{HashState, Sha256};
use crate::http::{Payload, Response, Url};
use crate::repository::{Access, Call, Repository, Target, transport_error};

/// What an upload turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// An upload that can be gone on with: what the registry has of it is asked for, and not sent again.
///
/// Registries made of Docker's own (2.8) refuse that for a request that broke in its middle; they are sent all of it
/// again, as they are by Docker.
#[derive(Debug, Default)]
pub struct Upload {
    place: Option<Url>,
    /// Bytes that the registry said it has, when it was last asked.
    kept: u64,
    /// This registry takes an upload in one request only.
    undivided: bool,
}

impl Upload {
    /// Bytes that were there when it was last gone on with.
    pub fn kept(&self) -> u64 {
        self.kept
    }
}

/// Most bytes of one request: proxies limit what they let through, and some registries keep whole requests only.
const PIECE: u64 = 64 << 20;

/// Hashes and counts what passes, and gives it out in pieces.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    hash: Sha256,
    size: u64,
    /// Bytes that may be read until the piece is over.
    left: u64,
    /// Read to see if there is more.
    ahead: Option<u8>,
}

impl Counted<'_> {
    /// Says if there is nothing more.
    fn is_over(&mut self) -> std::io::Result<bool> {
        let mut byte = [0];
        loop {
            match self.ahead.map_or_else(|| self.inner.read(&mut byte), |_| Ok(0)) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    if n > 0 {
                        self.ahead = Some(byte[0]);
                    }
                    return Ok(self.ahead.is_none());
                }
            }
        }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        let n = match (self.ahead, out[..most].first_mut()) {
            (Some(byte), Some(first)) => {
                *first = byte;
                self.ahead = None;
                1
            }
            _ => self.inner.read(&mut out[..most])?,
        };
        self.hash.update(&out[..n]);
        self.size += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Repository {
    /// Asks whether the repository has a blob. Its size if so (0 if the registry does not say).
    pub fn blob_exists(&self, digest: &Digest) -> Result<Option<u64>> {
        let found = self.patiently(|| {
            self.0.somewhere(&self.0.cancel, |endpoint| {
                let target = Target::Path(format!("blobs/{digest}"));
                self.push_call(endpoint, "HEAD", target, Vec::new(), Payload::Empty, None)
            })
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
        self.upload_on(&mut Upload::default(), source, length, expected)
    }

    /// The same, going on where an earlier attempt broke. `source` gives the same bytes each time, from the first.
    pub fn upload_on(
        &self,
        upload: &mut Upload,
        source: &mut dyn Read,
        length: Option<u64>,
        expected: Option<&Digest>,
    ) -> Result<Uploaded> {
        let (mut place, kept) = match self.open(upload)? {
            Some(open) => open,
            None => (self.patiently(|| self.begin())?, 0),
        };
        upload.kept = kept;
        let endpoint = self.0.endpoint();
        let mut counted = Counted {
            inner: source,
            hash: Sha256::new(),
            size: 0,
            left: kept,
            ahead: None,
        };
        let unreadable = |e: std::io::Error, place: &Url| transport_error("PATCH", place, &e);
        let passed = std::io::copy(&mut counted, &mut std::io::sink());
        if passed.map_err(|e| unreadable(e, &place))? < kept {
            return Err(Error::Protocol(format!(
                "upload to {place}: the registry has {kept} bytes, the source {}",
                counted.size
            )));
        }
        let whole = length.is_some() || upload.undivided;
        let mut over = kept > 0 && counted.is_over().map_err(|e| unreadable(e, &place))?;
        while !over {
            counted.left = if whole { u64::MAX } else { PIECE };
            let headers = vec![("Content-Type", "application/octet-stream".to_owned())];
            let before = counted.size;
            let payload = Payload::Stream(&mut counted, length.map(|length| length.saturating_sub(before)));
            let sent = self.push_call(&endpoint, "PATCH", Target::Url(place.clone()), headers, payload, None);
            let answer = match sent {
                Ok(answer) => answer,
                Err(error) => return Err(upload.broke(place, before, error)),
            };
            place = location(&answer)?;
            answer.body.drain();
            over = whole || counted.is_over().map_err(|e| unreadable(e, &place))?;
        }
        let size = counted.size;
        let digest = Digest::sha256(counted.hash.finish());
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            // Errors of the clean-up change nothing: the registry drops abandoned uploads itself.
            let _ = self.push_call(
                &endpoint,
                "DELETE",
                Target::Url(place),
                Vec::new(),
                Payload::Empty,
                None,
            );
            return Err(Error::Protocol(format!(
                "upload of {expected}: the source's digest is {digest}"
            )));
        }
        let mut finish = place.clone();
        finish.push_query("digest", digest.as_str());
        let ended = self.patiently(|| {
            let target = Target::Url(finish.clone());
            self.push_call(&endpoint, "PUT", target, Vec::new(), Payload::Empty, None)
        });
        match ended {
            Ok(answer) => answer.body.drain(),
            Err(error) => return Err(upload.broke(place, size, error)),
        }
        Ok(Uploaded { digest, size })
    }

    /// Opens an upload.
    fn begin(&self) -> Result<Url> {
        self.0.somewhere(&self.0.cancel, |endpoint| {
            let path = Target::Path("blobs/uploads/".to_owned());
            let answer = self.push_call(endpoint, "POST", path, Vec::new(), Payload::Empty, None)?;
            let location = location(&answer)?;
            answer.body.drain();
            Ok(location)
        })
    }

    /// Where an upload that broke can be gone on with, and how much of it is there; nothing if it has to be begun
    /// again.
    fn open(&self, upload: &mut Upload) -> Result<Option<(Url, u64)>> {
        let Some(place) = upload.place.take() else {
            return Ok(None);
        };
        let endpoint = self.0.endpoint();
        let asked = self.patiently(|| {
            let target = Target::Url(place.clone());
            self.push_call(&endpoint, "GET", target, Vec::new(), Payload::Empty, None)
        });
        match asked {
            Ok(answer) => {
                let range = answer.header("range").and_then(kept);
                let next = location(&answer).unwrap_or(place);
                answer.body.drain();
                Ok(range.map(|bytes| (next, bytes)))
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                upload.place = Some(place);
                Err(error)
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                log::info!("upload to {place} is begun again: {error}");
                Ok(None)
            }
        }
    }

    /// Puts a manifest under a tag or its digest. The digest of the bytes, which the registry has confirmed.
    pub fn put_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let answer = self.patiently(|| {
            self.0.somewhere(&self.0.cancel, |endpoint| {
                let headers = vec![("Content-Type", media_type.to_owned())];
                let target = Target::Path(format!("manifests/{name}"));
                self.push_call(endpoint, "PUT", target, headers, Payload::Bytes(bytes), None)
            })
        })?;
        let digest = Sha256::digest(bytes);
        let claimed = answer
            .header("docker-content-digest")
            .and_then(|d| Digest::parse(d.trim()).ok());
        answer.body.drain();
        match claimed {
            Some(got) if got != digest => Err(Error::ManifestDigest { expected: digest, got }),
            _ => Ok(digest),
        }
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

impl Upload {
    /// Notes where to go on after an error, if that can be.
    fn broke(&mut self, place: Url, before: u64, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::RateLimited => self.place = Some(place),
            ErrorKind::Invalid | ErrorKind::NotFound if before > 0 && !self.undivided => {
                self.undivided = true;
                return Error::Transport {
                    method: "Patch",
                    url: place.to_string(),
                    message: format!("the registry does not take an upload in pieces: {error}"),
                    tls: false,
                };
            }
            _ => {}
        }
        error
    }
}

/// Bytes that the `Range` of an upload's status tells of: `0-<last>`. Nothing for `0-0`, which stands for one byte and,
/// in Docker's registry, for none.
fn kept(range: &str) -> Option<u64> {
    let range = range.trim();
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    last.parse()
        .ok()
        .filter(|last| *last > 0)
        .and_then(|last: u64| last.checked_add(1))
}

fn location(response: &Response) -> Result<Url> {
    let value = response.header("location").unwrap_or_default();
    response
        .url
        .join(value)
        .filter(|_| !value.is_empty())
        .ok_or_else(|| Error::Protocol(format!("upload to {}: no usable Location: {value:?}", response.url)))
}
