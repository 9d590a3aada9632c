//! Bodies across the edge: bytes from the runtime to a blocking reader, and from a blocking writer to the runtime.
//!
//! Both ways are bounded to a few chunks: whoever is faster waits.

use crate::serve::Head;
use bytes::{Buf, Bytes};
use engine::cancel::Cancel;
use engine::error::Error;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// Chunks in flight.
const DEPTH: usize = 4;

/// How much of a refused body is taken, bytes. A client that is still sending would find the connection closed, and not
/// read the answer that says why; one that has read it sends no more.
const SPILLED: usize = 32 << 20;

/// A request's body as a blocking reader.
pub fn incoming(body: hyper::body::Incoming) -> Box<dyn Read + Send> {
    if body.is_end_stream() {
        return Box::new(io::empty());
    }
    let (send, receive) = mpsc::channel(DEPTH);
    tokio::spawn(pump(body, send));
    Box::new(Input {
        receive,
        chunk: Bytes::new(),
    })
}

async fn pump(mut body: hyper::body::Incoming, send: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let item = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(e) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, e)),
        };
        let ends = item.is_err();
        if send.send(item).await.is_err() {
            return spill(body).await;
        }
        if ends {
            return;
        }
    }
}

/// Takes the rest of a body that its verb did not want, or much of it.
async fn spill(mut body: hyper::body::Incoming) {
    let mut left = SPILLED;
    while left > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
}

struct Input {
    receive: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receive.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(e)) => return Err(e),
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..n]);
        Ok(n)
    }
}

type HeadSender = Arc<Mutex<Option<oneshot::Sender<Head>>>>;

/// Both ends of an answer's body: for the verb's thread and for the runtime.
pub fn outgoing(cancel: Cancel, head: oneshot::Sender<Head>) -> (Output, OutputBody) {
    let (send, receive) = mpsc::channel(DEPTH);
    let head = Arc::new(Mutex::new(Some(head)));
    (
        Output {
            head,
            kind: "",
            headers: Vec::new(),
            send,
        },
        OutputBody {
            receive,
            cancel: Some(cancel),
        },
    )
}

/// The verb's end. The answer's head goes out with the first byte, or with the first flush.
pub struct Output {
    head: HeadSender,
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    send: mpsc::Sender<Bytes>,
}

/// What a failed stream still can do: fail as a whole while nothing was sent.
pub struct Failure(HeadSender);

impl Failure {
    /// Answers with an empty stream if nothing was sent.
    pub fn nothing(self, kind: &'static str) {
        if let Some(head) = self.0.lock().unwrap_or_else(|e| e.into_inner()).take() {
            drop(head.send(Head::Streaming(kind, Vec::new())));
        }
    }

    /// Answers with the error if nothing was sent, else logs it.
    pub fn send(self, error: Error) {
        match self.0.lock().unwrap_or_else(|e| e.into_inner()).take() {
            Some(head) => drop(head.send(Head::Failed(error))),
            None => log::debug!("stream ended: {error}"),
        }
    }
}

impl Output {
    /// Says of which media type the stream will be, and with which headers more.
    pub fn begins_as(&mut self, kind: &'static str, headers: Vec<(&'static str, String)>) {
        (self.kind, self.headers) = (kind, headers);
    }

    fn begin(&mut self) {
        let headers = std::mem::take(&mut self.headers);
        self.send(Head::Streaming(self.kind, headers));
    }

    /// Keeps a way to report an error after the output itself was given away.
    pub fn failure(&self) -> Failure {
        Failure(self.head.clone())
    }

    /// Sends the head; a client that left makes no difference any more.
    pub fn send(&self, head: Head) {
        if let Some(sender) = self.head.lock().unwrap_or_else(|e| e.into_inner()).take() {
            drop(sender.send(head));
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin();
        if bytes.is_empty() {
            return Ok(0);
        }
        let sent = self.send.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has left"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.begin();
        Ok(())
    }
}

/// The runtime's end.
pub struct OutputBody {
    receive: mpsc::Receiver<Bytes>,
    cancel: Option<Cancel>,
}

impl OutputBody {
    /// Lets it go without a word: the connection goes on in another way.
    pub fn disarm(mut self) {
        self.cancel = None;
    }
}

impl Body for OutputBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.receive
            .poll_recv(cx)
            .map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for OutputBody {
    fn drop(&mut self) {
        if let Some(cancel) = &self.cancel {
            cancel.set();
        }
    }
}
