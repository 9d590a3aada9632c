//! Images that deltas are made from and to, and their layers' bytes, wherever they are: in the store, in a file.

use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use api::progress::Message;
use delta::{Contents, FileId, make::Survey};
use oci::config::ImageConfig;
use oci::digest::Digest;
use oci::manifest::Manifest;
use oci::platform::Platform;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::hash::Hashing;
use store::{BaseFiles, LayerId, Layers};

/// Least time between two lines about the same thing.
const PACE: Duration = Duration::from_millis(100);

/// An image for one platform.
pub struct Image {
    /// As it was asked for.
    pub name: String,
    pub id: Digest,
    pub config: Vec<u8>,
    pub platform: Platform,
    /// When it was made, as its config says.
    pub created: String,
    /// The manifest that names it, if there is one that a registry has or had.
    pub manifest: Option<Named>,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

/// A manifest with what its digest is of.
#[derive(Clone)]
pub struct Named {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub parsed: Manifest,
}

impl Image {
    /// An image by its config, whose layers are to be added.
    pub fn new(name: &str, config: Vec<u8>) -> Result<(Image, ImageConfig)> {
        let parsed: ImageConfig = json::from_slice(&config).invalid(format!("config of {name}"))?;
        let image = Image {
            name: name.to_string(),
            id: store::hash::sha256(&config),
            config,
            platform: Platform {
                architecture: parsed.architecture.clone().unwrap_or_default(),
                os: parsed.os.clone().unwrap_or_default(),
                variant: parsed.variant.clone().unwrap_or_default(),
                ..Platform::default()
            },
            created: parsed.created.clone().unwrap_or_default(),
            manifest: None,
            layers: Vec::new(),
        };
        Ok((image, parsed))
    }

    /// All layers of several images, as if they were one's: what comes later is what a name stands for.
    pub fn joined(images: &[Image]) -> Image {
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let all = images.iter().flat_map(|image| &image.layers);
        Image {
            name: names.join(" and "),
            id: store::hash::sha256(b""),
            config: Vec::new(),
            platform: images.first().map(|image| image.platform.clone()).unwrap_or_default(),
            created: String::new(),
            manifest: None,
            layers: all.cloned().collect(),
        }
    }

    /// Bytes of a layer's blob on a registry, by the layer's place; of its tar where no manifest is known.
    pub fn blob_size(&self, at: usize) -> Option<u64> {
        self.manifest
            .as_ref()
            .and_then(|named| named.parsed.layers.get(at))
            .map(|layer| layer.size)
    }
}

/// A layer whose tar can be read, as often as needed.
#[derive(Clone)]
pub enum Layer {
    /// The store has it; its tar is made from its files.
    Stored {
        layers: Layers,
        held: LayerId,
        diff: Digest,
    },
    /// Its plain tar is a part of a file.
    Plain(Plain),
}

/// A plain tar in a file.
#[derive(Clone)]
pub struct Plain {
    pub file: Arc<File>,
    pub start: u64,
    pub bytes: u64,
    pub diff: Digest,
}

impl Layer {
    /// The digest of its tar.
    pub fn diff(&self) -> &Digest {
        match self {
            Layer::Stored { diff, .. } => diff,
            Layer::Plain(plain) => &plain.diff,
        }
    }

    /// Bytes of its tar.
    pub fn length(&self) -> Result<u64> {
        match self {
            Layer::Stored { layers, held, .. } => Ok(layers.tar_length(held)?),
            Layer::Plain(plain) => Ok(plain.bytes),
        }
    }

    /// Its tar, from the beginning.
    pub fn tar(&self) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Layer::Stored { layers, held, .. } => Box::new(Again::start(layers, held)?),
            Layer::Plain(plain) => Box::new(Part {
                plain: plain.clone(),
                at: 0,
            }),
        })
    }
}

/// A stored layer's tar, made by a thread while it is read.
struct Again {
    from: Option<PipeReader>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Again {
    fn start(layers: &Layers, held: &LayerId) -> Result<Again> {
        let (from, mut to) = io::pipe().context("make a pipe")?;
        let (layers, held) = (layers.clone(), held.clone());
        let thread = std::thread::Builder::new()
            .name("layer-tar".into())
            .stack_size(512 << 10)
            .spawn(move || Ok(layers.write_tar(&held, &mut to)?))
            .context("start a thread to read a layer")?;
        Ok(Again {
            from: Some(from),
            thread: Some(thread),
        })
    }
}

impl Read for Again {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(from) = &mut self.from else { return Ok(0) };
        match from.read(into) {
            Ok(0) if !into.is_empty() => {
                self.from = None;
                match self.thread.take().map(JoinHandle::join) {
                    None | Some(Ok(Ok(()))) => Ok(0),
                    Some(Ok(Err(error))) => Err(io::Error::other(error.to_string())),
                    Some(Err(_)) => Err(io::Error::other("the thread that reads a layer panicked")),
                }
            }
            other => other,
        }
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        // Closed first: the thread's next write fails.
        self.from = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A part of a file as a stream. It is read more than once: its pages go when the file does.
struct Part {
    plain: Plain,
    at: u64,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.plain.bytes - self.at;
        let most = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let n = self.plain.file.read_at(&mut into[..most], self.plain.start + self.at)?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// Reads with the client's patience, and tells how far it is.
pub struct Watched<'a, R> {
    inner: R,
    cancel: &'a Cancel,
    progress: &'a Progress,
    id: &'a str,
    text: &'static str,
    at: u64,
    bytes: u64,
    told: Option<Instant>,
}

impl<'a, R> Watched<'a, R> {
    /// `id` and `text` are what lines of progress say; `bytes` is how many there are.
    pub fn new(
        inner: R,
        (id, text): (&'a str, &'static str),
        bytes: u64,
        progress: &'a Progress,
        cancel: &'a Cancel,
    ) -> Watched<'a, R> {
        Watched {
            inner,
            cancel,
            progress,
            id,
            text,
            at: 0,
            bytes,
            told: None,
        }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::Error::other(Error::cancelled().to_string()));
        }
        let n = self.inner.read(into)?;
        self.at += n as u64;
        if self.told.is_none_or(|at| at.elapsed() >= PACE) {
            self.told = Some(Instant::now());
            let line = Message::bytes(self.id, self.text, self.at.min(self.bytes), self.bytes);
            self.progress.send(&line).map_err(|e| io::Error::other(e.to_string()))?;
        }
        Ok(n)
    }
}

/// Surveys of layers, each made once.
#[derive(Default)]
pub struct Surveys(HashMap<Digest, Rc<Survey>>);

impl Surveys {
    /// The survey of a layer, which is read if that has not been done, and must be the one that it is said to be.
    pub fn of(&mut self, layer: &Layer, progress: &Progress, cancel: &Cancel) -> Result<Rc<Survey>> {
        if let Some(known) = self.0.get(layer.diff()) {
            return Ok(known.clone());
        }
        let id = layer.diff().short().to_string();
        let tar = Watched::new(layer.tar()?, (&id, "Fingerprinting"), layer.length()?, progress, cancel);
        let survey = Survey::read(tar).map_err(|error| match cancel.is_set() {
            true => Error::cancelled(),
            false => Error::invalid(format!("read layer {}: {error}", layer.diff())),
        })?;
        if survey.diff_id() != layer.diff() {
            return Err(Error::invalid(format!(
                "layer {} is damaged: its diff ID is {}",
                layer.diff(),
                survey.diff_id()
            )));
        }
        progress.status(&id, "Fingerprint complete")?;
        let survey = Rc::new(survey);
        self.0.insert(layer.diff().clone(), survey.clone());
        Ok(survey)
    }
}

/// The contents of the base's files.
pub struct Files<'a>(Vec<Place<'a>>);

enum Place<'a> {
    Stored(Box<BaseFiles>),
    Plain(&'a Plain, Rc<Survey>),
}

impl<'a> Files<'a> {
    /// Prepares to read files of layers, each with its survey.
    pub fn new(layers: &[(&'a Layer, Rc<Survey>)]) -> Result<Files<'a>> {
        let place = |(layer, survey): &(&'a Layer, Rc<Survey>)| match layer {
            Layer::Stored { layers, held, .. } => {
                let files = BaseFiles::new(vec![layers.base(held.clone())?]);
                Ok(Place::Stored(Box::new(files)))
            }
            Layer::Plain(plain) => Ok(Place::Plain(plain, survey.clone())),
        };
        layers.iter().map(place).collect::<Result<_>>().map(Files)
    }
}

impl Contents for Files<'_> {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let place = usize::try_from(file.layer).ok().and_then(|at| self.0.get_mut(at));
        match place.ok_or(io::ErrorKind::NotFound)? {
            Place::Stored(files) => files.read_base(FileId { layer: 0, ..file }, offset, into),
            Place::Plain(plain, survey) => {
                let start = survey.offset(file.entry).ok_or(io::ErrorKind::NotFound)?;
                plain.file.read_exact_at(into, plain.start + start + offset)
            }
        }
    }

    fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Where what is made waits until it is complete: files without a name in a directory, which no crash leaves behind.
#[derive(Clone)]
pub struct Spool(std::path::PathBuf);

impl Spool {
    /// Files in a directory that is made if it is missing.
    pub fn new(directory: &std::path::Path) -> Result<Spool> {
        std::fs::create_dir_all(directory).context(format!("make {}", directory.display()))?;
        Ok(Spool(directory.to_owned()))
    }

    /// A new file, open for reading and writing.
    pub fn file(&self) -> Result<File> {
        let path = self.0.join(format!(".delta-{}", crate::id::random_hex(16)?));
        let open = || {
            let mut options = File::options();
            let file = options.read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path).map(|()| file)
        };
        open().context(format!("make a file in {}", self.0.display()))
    }

    /// Takes a stream to its end: the file, its bytes and their digest.
    pub fn take(&self, from: &mut dyn Read, limit: u64) -> Result<(File, u64, Digest)> {
        let mut file = self.file()?;
        let mut hashing = Hashing::new(from.take(limit.saturating_add(1)));
        let mut buffer = vec![0; 128 << 10];
        loop {
            match hashing.read(&mut buffer).context("read layer")? {
                0 => break,
                n => file.write_all(&buffer[..n]).context("write a temporary file")?,
            }
        }
        let (digest, bytes) = hashing.finish();
        match bytes > limit {
            true => Err(Error::invalid(format!("layer is larger than {limit} bytes"))),
            false => Ok((file, bytes, digest)),
        }
    }
}
