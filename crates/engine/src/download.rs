//! A blob on its way into a layer: a thread fetches it, at most [`AHEAD`] chunks in front of whoever unpacks it.

use crate::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::pace::Pace;
use crate::progress::Meter;
use crate::turn::Turn;
use oci::manifest::Descriptor;
use registry::{BlobError, BlobReader, Repository};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use store::UnpackedLayer;

/// Bytes of a chunk between a download and the unpacking.
const CHUNK: usize = 64 << 10;
/// Chunks that a download may be ahead.
const AHEAD: usize = 8;
/// Chunks that are fetched before the unpacking begins: enough to be on the way, little to come again after a cut.
const BEFORE: usize = 2;

/// A blob that is being fetched. Dropped, it ends the thread at the next chunk.
pub(crate) struct Download {
    chunks: Receiver<Chunk>,
    /// Dropped when the unpacking begins.
    waiting: Sender<()>,
    meter: Arc<Meter>,
    _turn: Turn,
}

impl Download {
    /// Starts to fetch a blob from a byte on, when it is its turn.
    pub fn start(
        engine: &Engine,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
        meter: Arc<Meter>,
        turn: Turn,
    ) -> Result<Download> {
        let pace = engine.pace.clone();
        let (send, receive) = sync_channel(AHEAD);
        let (waiting, begun) = channel::<()>();
        let wanted = turn.clone();
        let (repository, descriptor, told) = (repository.clone(), descriptor.clone(), meter.clone());
        std::thread::Builder::new()
            .name("download".into())
            .stack_size(512 << 10)
            .spawn(move || {
                let network = repository.cancel_handle();
                let is_cancelled = std::iter::from_fn(|| turn.wait()).any(|wait| !network.sleep(wait));
                let reader = match is_cancelled {
                    true => Err(BlobError::Cancelled),
                    false => repository.blob_from(&descriptor, offset),
                };
                let mut count = 0;
                let deliver = |bytes| {
                    count += 1;
                    if count > BEFORE {
                        // Nothing is ever sent: it waits for the other end to go.
                        let _ = begun.recv();
                    }
                    send.send(Chunk::Bytes(bytes)).is_ok()
                };
                let end = match reader {
                    Ok(reader) => download(reader, &pace, &told, &turn, deliver),
                    Err(e) => Chunk::Failed(e),
                };
                // A receiver that is gone has failed already, and says why.
                let _ = send.send(end);
            })
            .context("start a thread for a download")?;
        Ok(Download {
            chunks: receive,
            waiting,
            meter,
            _turn: wanted,
        })
    }

    /// Has a layer made of what arrives.
    pub fn unpack(
        self,
        layer: &Descriptor,
        make: impl FnOnce(&mut Watched<'_>) -> store::Result<UnpackedLayer>,
    ) -> Result<UnpackedLayer, Failure> {
        let mut failure = None;
        drop(self.waiting);
        let mut watched = Watched {
            inner: Chunks {
                receive: self.chunks,
                chunk: Box::default(),
                at: 0,
                done: false,
            },
            failure: &mut failure,
        };
        let unpacked = make(&mut watched);
        let unpacked = match (unpacked, failure) {
            (Ok(unpacked), None) => unpacked,
            // The network's word explains more than what became of it further up.
            (_, Some(e)) => {
                return Err(Failure {
                    error: Error::new(e.kind, e.text),
                    is_about_content: e.is_about_content,
                    is_final: false,
                });
            }
            (Err(e), None) => return Err(about(layer, e)),
        };
        self.meter.extracting();
        Ok(unpacked)
    }
}

/// Bytes of a blob, or why there are no more. The end of the channel is the end of a verified blob only after `Done`.
enum Chunk {
    Bytes(Box<[u8]>),
    Done,
    Failed(BlobError),
}

/// Gives what comes to `deliver` in chunks, which says if there is still somebody who wants them.
fn download(
    mut reader: BlobReader,
    pace: &Pace,
    meter: &Meter,
    turn: &Turn,
    mut deliver: impl FnMut(Box<[u8]>) -> bool,
) -> Chunk {
    let cancel = reader.cancel_handle();
    let mut noticed = meter.clone_for_retry();
    reader.on_retry(move |retry| noticed(retry.wait));
    loop {
        let mut buffer = vec![0u8; CHUNK].into_boxed_slice();
        let mut filled = 0;
        while filled < CHUNK {
            match reader.advance(&mut buffer[filled..]) {
                Ok(0) => {
                    if filled > 0 {
                        let rest = Box::from(&buffer[..filled]);
                        if !deliver(rest) {
                            return Chunk::Failed(BlobError::Cancelled);
                        }
                    }
                    meter.downloaded();
                    return Chunk::Done;
                }
                Ok(n) => {
                    filled += n;
                    let wait = pace.take(n);
                    if !wait.is_zero() && !cancel.sleep(wait) {
                        return Chunk::Failed(BlobError::Cancelled);
                    }
                }
                Err(e) => return Chunk::Failed(e),
            }
            meter.advance(reader.offset());
            turn.left(reader.size() - reader.offset());
        }
        if !deliver(buffer) {
            return Chunk::Failed(BlobError::Cancelled);
        }
    }
}

/// The chunks of a download as a reader. Its end is `Ok(0)` only for a blob that was verified.
struct Chunks {
    receive: Receiver<Chunk>,
    chunk: Box<[u8]>,
    at: usize,
    done: bool,
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.done {
                return Ok(0);
            }
            match self.receive.recv() {
                Ok(Chunk::Bytes(bytes)) => (self.chunk, self.at) = (bytes, 0),
                Ok(Chunk::Done) => self.done = true,
                Ok(Chunk::Failed(e)) => return Err(io::Error::other(e)),
                Err(_) => return Err(io::Error::other("the download's thread ended without a word")),
            }
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Why a layer did not come to be.
pub(crate) struct Failure {
    pub error: Error,
    /// Not the network's fault, and not the disk's: another copy may be better.
    pub is_about_content: bool,
    /// Nothing else will do better: the disk is full.
    pub is_final: bool,
}

pub(crate) fn about(layer: &Descriptor, e: store::Error) -> Failure {
    Failure {
        is_about_content: matches!(&e, store::Error::Invalid(_)) || e.is_damage(),
        is_final: e.is_no_space(),
        error: Error::from(e.within(format!("layer {}", layer.digest.short()))),
    }
}

/// Keeps the blob's own error, which readers above turn into theirs.
pub(crate) struct Watched<'a> {
    inner: Chunks,
    failure: &'a mut Option<BlobFailure>,
}

struct BlobFailure {
    text: String,
    kind: Kind,
    is_about_content: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let error = match self.inner.read(out) {
            Ok(n) => return Ok(n),
            Err(error) => error,
        };
        let failure = match BlobError::of(&error) {
            Some(blob) => BlobFailure {
                text: blob.to_string(),
                kind: blob_kind(blob),
                is_about_content: matches!(blob, BlobError::DigestMismatch { .. } | BlobError::SizeMismatch { .. }),
            },
            None => BlobFailure {
                text: error.to_string(),
                kind: Kind::Internal,
                is_about_content: false,
            },
        };
        let damaged = failure.is_about_content;
        *self.failure = Some(failure);
        // To the store an interruption is what can be gone on after, and this is not.
        Err(if damaged {
            io::ErrorKind::InvalidData.into()
        } else {
            error
        })
    }
}

pub(crate) fn blob_kind(error: &BlobError) -> Kind {
    match error {
        BlobError::Registry(e) => kind_of(e),
        BlobError::Cancelled => Kind::Cancelled,
        _ => Kind::Internal,
    }
}

pub(crate) fn kind_of(error: &registry::Error) -> Kind {
    match error.kind() {
        registry::ErrorKind::NotFound | registry::ErrorKind::Denied => Kind::NotFound,
        registry::ErrorKind::Cancelled => Kind::Cancelled,
        _ => Kind::Internal,
    }
}
