//! A registry's double: serves one image, wrongly where it is told to.

use crate::delta::{self, Artifact};
use crate::image::{INDEX, Image, MANIFEST, sha256};
use std::borrow::Cow;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every blob's middle byte is another.
    Corrupt,
    /// Every answer with a layer ends in the middle, always at the same byte.
    Truncated,
    /// Every answer with a layer ends after so many bytes; `Range` goes on from anywhere.
    CutEvery(usize),
    /// Layers come at this many bytes a second.
    Slow(u64),
    /// Every request for a manifest has this status.
    Status(u16),
    /// Deltas, and nothing else, are gone.
    NoDeltas,
    /// Deltas, and nothing else, come at this many bytes a second.
    SlowDeltas(u64),
    /// Every answer with a delta ends after so many bytes; `Range` goes on from anywhere.
    CutDeltas(usize),
    /// A part of a layer is asked for in vain: all of it comes.
    NoParts,
    /// Parts of layers are gone, but for the first so many that are asked for.
    PartsGone(usize),
    /// Parts of layers come as so many bytes, and go on from anywhere.
    CutParts(usize),
}

/// What it serves.
struct Served {
    image: Arc<Image>,
    /// What its referrers API lists; without any it has no such API.
    deltas: Vec<Artifact>,
}

/// A running double; it ends with the process.
pub struct Double {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<Mutex<u64>>,
}

impl Double {
    /// Serves an image under any name and tag.
    pub fn start(image: impl Into<Arc<Image>>, fault: Fault) -> Result<Double> {
        Double::with_deltas(image, Vec::new(), fault)
    }

    /// The same with the referrers API, which lists these.
    pub fn with_deltas(image: impl Into<Arc<Image>>, deltas: Vec<Artifact>, fault: Fault) -> Result<Double> {
        let image = image.into();
        let image = Served { image, deltas };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let sent: Arc<Mutex<u64>> = Arc::default();
        let (image, kept, count) = (Arc::new(image), requests.clone(), sent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (image, kept, count) = (image.clone(), kept.clone(), count.clone());
                // A client that hangs up is the client's business.
                std::thread::spawn(move || drop(serve(stream, &image, fault, &kept, &count)));
            }
        });
        Ok(Double { port, requests, sent })
    }

    pub fn reference(&self) -> String {
        format!("127.0.0.1:{}/me/app:1", self.port)
    }

    /// Bytes of layers sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.lock().map_or(0, |sent| *sent)
    }

    /// Request lines so far, each with its `Range`.
    pub fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .map(|requests| requests.clone())
            .unwrap_or_default()
    }
}

fn serve(
    stream: TcpStream,
    served: &Served,
    fault: Fault,
    requests: &Mutex<Vec<String>>,
    sent: &Mutex<u64>,
) -> Result<()> {
    if let Fault::Slow(_) | Fault::SlowDeltas(_) = fault {
        // What waits in the kernel to be sent was not sent.
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, 64 << 10)?;
    }
    // A head and its body are two writes: the second would wait for the client to acknowledge the first, 40 ms.
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let (mut from, mut to) = (None, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("range: bytes=") {
                let (start, last) = range.split_once('-').unwrap_or((range, ""));
                from = start.parse::<usize>().ok();
                to = last.parse::<usize>().ok().map(|last| last + 1);
            }
        }
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let mut parts = 0;
        if let Ok(mut requests) = requests.lock() {
            requests.push(format!("{} {from:?} {to:?}", first.trim_end()));
            parts = requests.iter().filter(|line| !line.ends_with("None")).count();
        }
        let fault = match fault {
            Fault::PartsGone(some) if parts > some && to.is_some() => Fault::PartsGone(0),
            Fault::PartsGone(_) => Fault::None,
            other => other,
        };
        answer(&mut out, method, target, (from, to), served, fault, sent)?;
    }
}

fn answer(
    out: &mut TcpStream,
    method: &str,
    target: &str,
    (mut from, mut to): (Option<usize>, Option<usize>),
    served: &Served,
    fault: Fault,
    sent: &Mutex<u64>,
) -> Result<()> {
    if target == "/v2/" {
        return whole(out, method, 200, "application/json", b"{}");
    }
    let Served { image, deltas } = served;
    if target.contains("/referrers/") && !deltas.is_empty() {
        return whole(out, method, 200, INDEX, &delta::index(deltas));
    }
    if let Some(artifact) = deltas.iter().find(|artifact| target.ends_with(&artifact.digest())) {
        return whole(out, method, 200, MANIFEST, &artifact.manifest);
    }
    if target.contains("/manifests/") {
        if let Fault::Status(status) = fault {
            let body = br#"{"errors":[{"code":"UNKNOWN","message":"said the double"}]}"#;
            return whole(out, method, status, "application/json", body);
        }
        return whole(out, method, 200, &image.media_type, &image.manifest);
    }
    let digest = target.rsplit('/').next().unwrap_or("");
    if digest == sha256(&image.config) {
        return whole(out, method, 200, "application/octet-stream", &image.config);
    }
    let layer = image.layers.iter().find(|layer| layer.digest == digest);
    let mut blobs = deltas.iter().flat_map(|artifact| &artifact.blobs);
    let delta = blobs.find(|blob| layer.is_none() && fault != Fault::NoDeltas && sha256(blob) == digest);
    let Some(blob) = layer.map(|layer| &layer.blob).or(delta) else {
        return whole(
            out,
            method,
            404,
            "application/json",
            br#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#,
        );
    };
    if fault == Fault::PartsGone(0) {
        return whole(out, method, 404, "application/json", b"{}");
    }
    if fault == Fault::NoParts && to.is_some() {
        (from, to) = (None, None);
    }
    let fault = match (fault, delta) {
        (Fault::CutParts(bytes), None) if to.is_some() => Fault::CutEvery(bytes),
        (Fault::SlowDeltas(rate), Some(_)) => Fault::Slow(rate),
        (Fault::CutDeltas(bytes), Some(_)) => Fault::CutEvery(bytes),
        (fault, _) => fault,
    };
    let mut blob = Cow::from(blob);
    if fault == Fault::Corrupt {
        let middle = blob.len() / 2;
        blob.to_mut()[middle] ^= 1;
    }
    let all = blob.len();
    let start = from.unwrap_or(0).min(all);
    let last = to.unwrap_or(all).clamp(start, all);
    let status = if from.is_some() { 206 } else { 200 };
    let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", last - start);
    if from.is_some() {
        head.push_str(&format!("Content-Range: bytes {start}-{}/{all}\r\n", last - 1));
    }
    out.write_all(format!("{head}\r\n").as_bytes())?;
    if method == "HEAD" {
        return Ok(());
    }
    let end = match fault {
        Fault::Truncated => (all / 2).clamp(start, last),
        Fault::CutEvery(bytes) => (start + bytes).min(last),
        _ => last,
    };
    match fault {
        Fault::Slow(rate) => {
            // As a network gives it: little at a time.
            let piece = usize::try_from(rate / 200).unwrap_or(1).max(1);
            for piece in blob[start..end].chunks(piece) {
                out.write_all(piece)?;
                if let Ok(mut sent) = sent.lock() {
                    *sent += piece.len() as u64;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        _ => {
            out.write_all(&blob[start..end])?;
            if let Ok(mut sent) = sent.lock() {
                *sent += (end - start) as u64;
            }
        }
    }
    match end == last {
        true => Ok(()),
        false => out.shutdown(std::net::Shutdown::Both),
    }
}

fn whole(out: &mut TcpStream, method: &str, status: u16, media_type: &str, body: &[u8]) -> Result<()> {
    let digest = sha256(body);
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.write_all(head.as_bytes())?;
    match method {
        "HEAD" => Ok(()),
        _ => out.write_all(body),
    }
}
