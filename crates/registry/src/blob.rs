//! A blob as a stream that survives its connections: verified, resumed, never stored.
//!
//! What a reader sees is the blob's bytes once, in order, whatever happens below: a connection that breaks or
//! stalls is opened again at the offset reached (`Range`, RFC 9110 section 14); a server that ignores ranges
//! is read from its start again and the known part skipped. The end is reported only after the size and the
//! SHA-256 of everything were found right, so a reader that got `Ok(0)` has the blob. Memory: 48 KiB.
//!
//! A part of a blob is the same without the checks, and an error where a server ignores ranges: nobody reads a whole blob
//! for a part of it.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::time::Duration;

use oci::digest::Digest;
use oci::manifest::Descriptor;

use crate::error::{Error, ErrorKind};
use crate::hash::{HashState, Sha256};
use crate::http::{Body, Cancel, Payload, Response};
use crate::repository::{Access, Call, Repository, Target};

const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Longest `Retry-After` followed; a server that wants more gets asked sooner, and counts as an attempt.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Why a blob did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("{0}")]
    Registry(#[from] Error),
    /// Every attempt broke without getting further.
    #[error("download of {digest} stopped at {offset} of {size} bytes after {attempts} attempts: {cause}")]
    Broken {
        digest: Digest,
        offset: u64,
        size: u64,
        attempts: u32,
        cause: String,
    },
    /// Docker's words.
    #[error("filesystem layer verification failed for digest {expected}")]
    DigestMismatch { expected: Digest, got: Digest },
    #[error("blob {digest} has {got} bytes where its descriptor says {expected}")]
    SizeMismatch { digest: Digest, expected: u64, got: u64 },
    #[error("blob {digest} of {size} bytes is larger than {limit} bytes")]
    TooLarge { digest: Digest, size: u64, limit: u64 },
    /// The server gives out whole blobs only.
    #[error("the registry gives no part of blob {0}")]
    NoParts(Digest),
    #[error("context canceled")]
    Cancelled,
}

impl BlobError {
    /// Finds the blob error in what [`BlobReader::read`] returned, also below other readers that pass it on.
    pub fn of(error: &io::Error) -> Option<&BlobError> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// Says whether a new try from the start may end better.
    pub fn is_transient(&self) -> bool {
        match self {
            BlobError::Broken { .. } => true,
            BlobError::Registry(e) => matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited),
            // Damaged on the way by a proxy or a cache: the next copy may be right.
            BlobError::DigestMismatch { .. } | BlobError::SizeMismatch { .. } => true,
            BlobError::TooLarge { .. } | BlobError::NoParts(_) | BlobError::Cancelled => false,
        }
    }

    fn into_io(self) -> io::Error {
        // Never `Interrupted`: std's readers would try again for ever.
        io::Error::other(self)
    }
}

/// Told before each wait for another attempt.
#[derive(Debug)]
pub struct Retry<'a> {
    pub attempt: u32,
    pub wait: Duration,
    pub offset: u64,
    pub cause: &'a str,
}

type OnRetry = Box<dyn FnMut(Retry<'_>) + Send>;

/// A blob being read. See the module's page.
pub struct BlobReader {
    repository: Repository,
    digest: Digest,
    size: u64,
    /// Where a part of it ends; nothing if it is read to its end.
    end: Option<u64>,
    /// Bytes given out, the prefix of an earlier run included.
    offset: u64,
    /// Nothing when the beginning was read by an earlier run: then the caller verifies what the blob holds.
    hash: Option<Box<dyn HashState>>,
    body: Option<Body>,
    failures: u32,
    /// Where the last failure was: further along, the count starts again.
    failed_at: u64,
    cancel: Cancel,
    done: bool,
    on_retry: Option<OnRetry>,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobReader({} at {} of {})", self.digest, self.offset, self.size)
    }
}

/// Why an attempt failed, and whether another makes sense.
enum Attempt {
    Again(String, Option<Duration>),
    Never(BlobError),
}

impl Repository {
    /// Opens a blob. Returns once the registry has begun to answer.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, BlobError> {
        self.blob_at(descriptor, 0, Box::new(Sha256::new()))
    }

    /// Opens a blob in its middle: `hash` is the state after its first `offset` bytes, which the caller has.
    pub fn blob_at(
        &self,
        descriptor: &Descriptor,
        offset: u64,
        hash: Box<dyn HashState>,
    ) -> Result<BlobReader, BlobError> {
        let mut reader = self.blob_reader(descriptor, offset, hash)?;
        reader.connect()?;
        Ok(reader)
    }

    /// Opens a blob in its middle without knowing its beginning, so that its digest cannot be told: only the size is
    /// checked. For who verifies what the blob holds by other means, as a pull does by the diff ID.
    pub fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobReader, BlobError> {
        let mut reader = self.blob_reader(descriptor, offset, Box::new(Sha256::new()))?;
        if offset > 0 {
            reader.hash = None;
        }
        reader.connect()?;
        Ok(reader)
    }

    /// The same without connecting: the first read does. For a retry listener or cancel handle set before.
    pub fn blob_reader(
        &self,
        descriptor: &Descriptor,
        offset: u64,
        hash: Box<dyn HashState>,
    ) -> Result<BlobReader, BlobError> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if offset > size {
            return Err(BlobError::SizeMismatch {
                digest,
                expected: size,
                got: offset,
            });
        }
        Ok(BlobReader {
            repository: self.clone(),
            digest,
            size,
            end: None,
            offset,
            hash: Some(hash),
            body: None,
            failures: 0,
            failed_at: offset,
            cancel: self.0.cancel.child(),
            done: false,
            on_retry: None,
        })
    }

    /// Opens a part of a blob, of which nothing is checked. The first read connects.
    pub fn blob_part(&self, descriptor: &Descriptor, part: Range<u64>) -> Result<BlobReader, BlobError> {
        let mut reader = self.blob_reader(descriptor, part.start, Box::new(Sha256::new()))?;
        reader.hash = None;
        reader.end = Some(part.end.clamp(part.start, descriptor.size));
        Ok(reader)
    }

    /// Reads a small blob, such as an image's config, whole.
    pub fn blob_bytes(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, BlobError> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if size > limit {
            return Err(BlobError::TooLarge { digest, size, limit });
        }
        let mut reader = self.blob_reader(descriptor, 0, Box::new(Sha256::new()))?;
        let mut bytes = Vec::new();
        let mut piece = vec![0; 16 << 10];
        loop {
            match reader.advance(&mut piece)? {
                0 => return Ok(bytes),
                n => bytes.extend_from_slice(&piece[..n]),
            }
        }
    }
}

impl BlobReader {
    /// Bytes given out so far, an earlier run's included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the whole blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends this blob's transfer from another thread.
    pub fn cancel_handle(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The hash of everything given out, if it is known.
    pub fn hash(&self) -> Option<&dyn HashState> {
        self.hash.as_deref()
    }

    /// Calls `listener` before each wait for another attempt.
    pub fn on_retry(&mut self, listener: impl FnMut(Retry<'_>) + Send + 'static) {
        self.on_retry = Some(Box::new(listener));
    }

    /// Gives out the next bytes; 0 is the verified end.
    pub fn advance(&mut self, out: &mut [u8]) -> Result<usize, BlobError> {
        if self.done || out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.cancel.is_cancelled() {
                return Err(BlobError::Cancelled);
            }
            let left = self.end.unwrap_or(self.size) - self.offset;
            if left == 0 && self.end.is_some() {
                // All that was asked for was given: the connection is free for the next part.
                self.body = None;
                self.done = true;
                return Ok(0);
            }
            if left == 0 {
                return self.finish().map(|()| 0);
            }
            self.connect()?;
            let Some(body) = &mut self.body else { continue };
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
            let cause = match body.read(&mut out[..most]) {
                Ok(0) => "unexpected EOF".to_owned(),
                Ok(n) => {
                    if let Some(hash) = &mut self.hash {
                        hash.update(&out[..n]);
                    }
                    self.offset += n as u64;
                    return Ok(n);
                }
                Err(e) => broken(&e),
            };
            self.body = None;
            self.wait(cause, None)?;
        }
    }

    /// Checks the size and the digest of what was given out.
    fn finish(&mut self) -> Result<(), BlobError> {
        if let Some(mut body) = self.body.take() {
            // A body of unknown length may go on. A failure here tells nothing: we have all bytes.
            let mut more = [0];
            if matches!(body.read(&mut more), Ok(n) if n > 0) {
                let digest = self.digest.clone();
                return Err(BlobError::SizeMismatch {
                    digest,
                    expected: self.size,
                    got: self.size + 1,
                });
            }
        }
        let got = self.hash.as_ref().map(|hash| Digest::sha256(hash.finish()));
        if let Some(got) = got.filter(|got| *got != self.digest) {
            return Err(BlobError::DigestMismatch {
                expected: self.digest.clone(),
                got,
            });
        }
        self.done = true;
        Ok(())
    }

    /// Makes `body` stand at `offset`, with as many attempts as it takes and is allowed.
    fn connect(&mut self) -> Result<(), BlobError> {
        while self.body.is_none() && self.offset < self.end.unwrap_or(self.size) {
            match self.open() {
                Ok(body) => self.body = Some(body),
                Err(Attempt::Never(e)) => return Err(e),
                Err(Attempt::Again(cause, wait)) => self.wait(cause, wait)?,
            }
        }
        Ok(())
    }

    /// Counts a failure and sleeps, or gives up.
    fn wait(&mut self, cause: String, asked: Option<Duration>) -> Result<(), BlobError> {
        if self.cancel.is_cancelled() {
            return Err(BlobError::Cancelled);
        }
        if self.offset > self.failed_at {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        self.failures += 1;
        let config = &self.repository.0.registry.0.config;
        if self.failures >= config.max_attempts.max(1) {
            return Err(BlobError::Broken {
                digest: self.digest.clone(),
                offset: self.offset,
                size: self.size,
                attempts: self.failures,
                cause,
            });
        }
        let doubled = config
            .backoff
            .saturating_mul(1 << (self.failures - 1).min(10))
            .min(LONGEST_WAIT);
        let wait = asked.map_or(doubled, |asked| asked.clamp(doubled, LONGEST_RETRY_AFTER));
        log::info!(
            "{}: {cause} at {} of {}: again in {wait:?}",
            self.digest,
            self.offset,
            self.size
        );
        if let Some(listener) = &mut self.on_retry {
            listener(Retry {
                attempt: self.failures,
                wait,
                offset: self.offset,
                cause: &cause,
            });
        }
        if self.cancel.sleep(wait) {
            Ok(())
        } else {
            Err(BlobError::Cancelled)
        }
    }

    fn open(&self) -> Result<Body, Attempt> {
        match self.request(self.offset > 0 || self.end.is_some()) {
            Ok(response) if self.end.is_some() && response.status != 206 => {
                Err(Attempt::Never(BlobError::NoParts(self.digest.clone())))
            }
            Ok(response) => self.position(response),
            // The server thinks the blob ends before: a stale cache, perhaps. The whole of it decides.
            Err(error) if self.offset > 0 && self.end.is_none() && status(&error) == Some(416) => {
                let response = self.request(false).map_err(classify)?;
                self.position(response)
            }
            Err(error) => Err(classify(error)),
        }
    }

    fn request(&self, ranged: bool) -> Result<Response, Error> {
        let session = &self.repository.0;
        session.somewhere(&self.cancel, |endpoint| {
            let mut headers = vec![("Accept", "*/*".to_owned())];
            if ranged {
                let last = self.end.map_or(String::new(), |end| (end - 1).to_string());
                headers.push(("Range", format!("bytes={}-{last}", self.offset)));
            }
            let call = Call {
                method: "GET",
                target: Target::Path(format!("blobs/{}", self.digest)),
                headers,
                payload: Payload::Empty,
                // Nobody asks for the digest of a part.
                access: if self.end.is_none() {
                    Access::Checked
                } else {
                    Access::Pull
                },
                also: None,
            };
            session.call(endpoint, call, &self.cancel)
        })
    }

    /// Brings the body of an answer to `offset`, and checks the length it claims.
    fn position(&self, response: Response) -> Result<Body, Attempt> {
        let (start, total) = match response.status {
            206 => {
                let range = response.header("content-range").unwrap_or_default();
                let Some((start, total)) = content_range(range) else {
                    return Err(Attempt::Again(format!("bad Content-Range {range:?}"), None));
                };
                let by_length = || response.body.length().map(|length| start + length);
                (start, total.or_else(|| by_length().filter(|_| self.end.is_none())))
            }
            _ => (0, response.body.length()),
        };
        if start > self.offset {
            return Err(Attempt::Again(
                format!("server answered from byte {start} on, asked for {}", self.offset),
                None,
            ));
        }
        if let Some(total) = total.filter(|total| *total != self.size) {
            let digest = self.digest.clone();
            return Err(Attempt::Never(BlobError::SizeMismatch {
                digest,
                expected: self.size,
                got: total,
            }));
        }
        let mut body = response.body;
        let skip = self.offset - start;
        if skip > 0 && self.end.is_some() {
            return Err(Attempt::Never(BlobError::NoParts(self.digest.clone())));
        }
        // What is skipped was hashed when it came first; if it differs now, so does the rest, and the end says so.
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        match skipped {
            Ok(n) if n == skip => Ok(body),
            Ok(_) => Err(Attempt::Again("unexpected EOF".to_owned(), None)),
            Err(e) => Err(Attempt::Again(broken(&e), None)),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.advance(out).map_err(BlobError::into_io)
    }
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "connection stalled".to_owned(),
        _ => crate::http::go_words(error),
    }
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::Api { status, .. } | Error::Unparsable { status, .. } | Error::Status { status, .. } => Some(*status),
        _ => None,
    }
}

fn classify(error: Error) -> Attempt {
    match (&error, error.kind()) {
        (Error::Cancelled, _) => Attempt::Never(BlobError::Cancelled),
        // A certificate does not get better by asking again.
        (Error::Transport { tls: true, .. }, _) => Attempt::Never(error.into()),
        (_, ErrorKind::Unavailable | ErrorKind::RateLimited) => {
            let wait = error.retry_after();
            Attempt::Again(error.to_string(), wait)
        }
        _ => Attempt::Never(error.into()),
    }
}

/// `bytes 5-9/10` as start and total; the total may be `*`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, end) = range.trim().split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    (start <= end).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes=5-9/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("", None),
        ] {
            assert_eq!(content_range(value), expected, "{value}");
        }
    }
}
