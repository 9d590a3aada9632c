//! A layer's tar as gzip, made while it is read: one thread makes it, whoever reads sends it.

use crate::error::{Context, Error, Result};
use std::io::{self, PipeReader, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use store::gzip::Encoder;
use store::hash::Hashing;
use store::{LayerId, Layers};

/// The gzip of a layer. Its end is `Ok(0)` only when the tar was whole and is the one the layer was made from.
pub struct Gzipped {
    reader: Option<PipeReader>,
    thread: Option<JoinHandle<Result<()>>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Gzipped {
    /// Starts to make it. `count` is told the bytes of the tar so far; its error ends the work.
    pub fn of_layer(
        layers: &Layers,
        layer: &LayerId,
        count: impl FnMut(u64) -> io::Result<()> + Send + 'static,
    ) -> Result<Gzipped> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let (layers, layer) = (layers.clone(), layer.clone());
        let thread = std::thread::Builder::new()
            .name("gzip".into())
            .stack_size(512 << 10)
            .spawn(move || {
                let counted = Counted {
                    inner: Encoder::new(writer),
                    at: 0,
                    count,
                };
                let mut hashing = Hashing::new(counted);
                layers.write_tar(&layer, &mut hashing)?;
                let (counted, digest) = hashing.into_parts();
                let expected = layers.info(layer.chain_id()).map(|info| info.diff_id.0);
                if expected.as_ref() != Some(&digest) {
                    return Err(Error::internal(format!(
                        "layer {} is damaged: its diff ID is {digest}",
                        layer.chain_id().digest()
                    )));
                }
                counted.inner.finish().context("compress a layer")
            })
            .context("start a thread for an upload")?;
        Ok(Gzipped {
            reader: Some(reader),
            thread: Some(thread),
            failure: Arc::default(),
        })
    }

    /// Why the layer could not be read, if that is what went wrong.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    fn end(&mut self) -> io::Result<usize> {
        self.reader = None;
        let Some(thread) = self.thread.take() else { return Ok(0) };
        let made = thread
            .join()
            .unwrap_or_else(|_| Err(Error::internal("the thread that compresses a layer panicked")));
        made.map(|()| 0).map_err(|error| {
            let told = io::Error::other(error.to_string());
            *self.failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(error);
            told
        })
    }
}

impl Read for Gzipped {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        match reader.read(out) {
            Ok(0) if !out.is_empty() => self.end(),
            other => other,
        }
    }
}

impl Drop for Gzipped {
    fn drop(&mut self) {
        // Closed first: the thread's next write fails.
        self.reader = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Counted<W, F> {
    inner: W,
    at: u64,
    count: F,
}

impl<W: Write, F: FnMut(u64) -> io::Result<()>> Write for Counted<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.at += n as u64;
        (self.count)(self.at)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
