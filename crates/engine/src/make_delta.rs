//! Making deltas: from images of the store, and without a daemon from registries and archives.
//!
//! There are two formats. balenaEngine's is an image like any other, made in the store ([`balena`]). Ours is a set of
//! deltas, one for each layer that the target has and the base has not ([`set`]), which goes to a registry as an artifact
//! ([`remote`]) or into a file ([`offline`]). What is made waits in files without names until it is complete. Memory:
//! what [`delta::make`] needs for one layer, and the surveys of the layers of both images.

mod alone;
mod archive;
pub mod balena;
mod local;
mod offline;
mod remote;
mod set;
mod source;

pub use alone::main as main_alone;
pub use api::delta::Outcome;

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use api::progress::{Message, human};
use api::stdcopy::{self, Stream};
use oci::reference::Reference;
use offline::Offer;
use registry::{Auth, Repository};
use set::Set;
use source::{Image, Named, Spool, Surveys};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// How many of the dearest files are told of.
const TOLD: usize = 5;

/// What is asked for.
pub struct Request<'a> {
    /// Each of them is a base of its own, unless they are taken together.
    pub sources: &'a [String],
    pub together: bool,
    pub target: &'a str,
    pub outcome: Outcome,
    /// The name that an archive's image gets.
    pub name: Option<Reference>,
    pub auth: Auth,
}

/// Makes deltas of images in the store. The archive, if one is asked for, goes to `out`.
pub fn make(
    engine: &Engine,
    request: Request<'_>,
    progress: &Progress,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<()> {
    let target = local::find(engine, request.target)?;
    let bases: Vec<Image> = request
        .sources
        .iter()
        .map(|name| local::find(engine, name))
        .collect::<Result<_>>()?;
    let spool = Spool::new(&engine.store.root().join("tmp"))?;
    let named = Reference::parse(request.target)
        .ok()
        .filter(|reference| reference.digest().is_none());
    let mut work = Work::new(&spool, progress, cancel, (request.outcome, request.together));
    match request.outcome {
        Outcome::Push => {
            let reference = named
                .ok_or_else(|| Error::invalid("deltas are pushed to a name with a tag"))?
                .or_latest();
            let opened = engine.registry().repository_for_push(&reference, request.auth);
            let repository = opened.map_err(|e| remote::failed(e, request.target))?;
            let handle = repository.cancel_handle();
            cancel.on_set(move || handle.cancel());
            // Before the long work: what it is for must be there.
            let subject = remote::manifest_of(&repository, &reference, &target.id)?;
            let target = Image {
                manifest: Some(subject.clone()),
                ..target
            };
            work.push(&target, &bases, &subject, &repository)?;
        }
        Outcome::Archive => {
            let by_id = request.target.starts_with("sha256:") || engine_id(request.target, &target);
            let name = request.name.or(named.filter(|_| !by_id).map(Reference::or_latest));
            work.gather(target, &bases, name)?;
            work.write(out)?;
        }
        Outcome::Nothing => drop(work.sets(&target, &bases)?),
    }
    for base in request.sources {
        let attributes = BTreeMap::from([("name".to_string(), request.target.to_string())]);
        engine.events.emit("image", "delta", base, attributes);
    }
    Ok(())
}

/// Whether a name is the beginning of the image's ID.
fn engine_id(name: &str, image: &Image) -> bool {
    name.len() >= 4 && image.id.hex().starts_with(name)
}

/// What is common to all ways: sets are made, told of, and go where they should.
struct Work<'a> {
    spool: &'a Spool,
    progress: &'a Progress,
    cancel: &'a Cancel,
    outcome: Outcome,
    together: bool,
    surveys: Surveys,
    offers: Vec<Offer>,
}

impl<'a> Work<'a> {
    fn new(
        spool: &'a Spool,
        progress: &'a Progress,
        cancel: &'a Cancel,
        (outcome, together): (Outcome, bool),
    ) -> Work<'a> {
        Work {
            spool,
            progress,
            cancel,
            outcome,
            together,
            surveys: Surveys::default(),
            offers: Vec::new(),
        }
    }

    /// Makes a set from each base and tells what it came to.
    fn sets(&mut self, target: &Image, bases: &[Image]) -> Result<Vec<Set>> {
        if let Some(same) = bases.iter().find(|base| base.id == target.id) {
            return Err(Error::invalid(format!(
                "{} and {} are the same image",
                same.name, target.name
            )));
        }
        let joined = (self.together && bases.len() > 1).then(|| Image::joined(bases));
        let mut sets = Vec::new();
        for base in joined.as_ref().map_or(bases, std::slice::from_ref) {
            let set = set::make(base, target, &mut self.surveys, self.spool, self.progress, self.cancel)?;
            self.tell(&set, target)?;
            sets.push(set);
        }
        Ok(sets)
    }

    fn tell(&self, set: &Set, target: &Image) -> Result<()> {
        let size = |bytes: u64| human(i64::try_from(bytes).unwrap_or(i64::MAX));
        let platform = format!("{}/{}", target.platform.os, target.platform.architecture);
        let about = format!("Delta from {} to {} ({platform})", set.base, target.name);
        let known = if target.manifest.is_some() { "" } else { " uncompressed" };
        let mut lines = vec![match set.deltas.is_empty() {
            true => format!("{about}: all layers are there already"),
            false => format!(
                "{about}: {} instead of {}{known}, {:.1} times smaller; adds {} to the disk",
                size(set.bytes()),
                size(set.full()),
                set.full() as f64 / set.bytes().max(1) as f64,
                size(set.space())
            ),
        }];
        if self.outcome == Outcome::Nothing {
            for delta in &set.deltas {
                let [same, again, patched, new] = delta.ways;
                lines.push(format!(
                    "  layer {}: {} instead of {} ({} uncompressed); files: {} unchanged, {} touched, {} patched, {} new",
                    delta.target.short(),
                    size(delta.bytes),
                    size(delta.full),
                    size(delta.tar),
                    same.files + again.files - delta.touched.files,
                    delta.touched.files,
                    patched.files,
                    new.files
                ));
                for (name, bytes) in delta.largest.iter().take(TOLD) {
                    lines.push(format!("    {:>8}  {name}", size(*bytes)));
                }
            }
        }
        for line in lines {
            self.progress.status("", line)?;
        }
        self.progress.send(&Message {
            aux: Some(aux(set, target)),
            ..Message::default()
        })
    }

    /// Makes sets and pushes each.
    fn push(&mut self, target: &Image, bases: &[Image], subject: &Named, repository: &Repository) -> Result<()> {
        for mut set in self.sets(target, bases)? {
            set.without_losses();
            if set.deltas.is_empty() {
                let text = format!("No delta from {} is pushed: the layers are as small", set.base);
                self.progress.status("", text)?;
                continue;
            }
            remote::publish(repository, &set, subject, target, self.progress, self.cancel)?;
        }
        Ok(())
    }

    /// Makes sets for the archive.
    fn gather(&mut self, target: Image, bases: &[Image], name: Option<Reference>) -> Result<()> {
        let sets = self.sets(&target, bases)?;
        let subject = offline::subject(&target)?;
        let described = sets.into_iter().map(|set| {
            let artifact = set::describe(&set, &subject, &target)?;
            Ok((set, artifact))
        });
        let sets = described.collect::<Result<_>>()?;
        self.offers.push(Offer {
            target,
            name,
            subject,
            sets,
        });
        Ok(())
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        offline::write(&self.offers, out).map_err(|error| match self.cancel.is_set() {
            true => Error::cancelled(),
            false => error,
        })
    }
}

/// What a set came to, for programs.
fn aux(set: &Set, target: &Image) -> serde_json::Value {
    let layers: Vec<serde_json::Value> = set
        .deltas
        .iter()
        .map(|delta| {
            serde_json::json!({
                "target": json::to_value(&delta.target), "bases": json::to_value(&delta.bases), "digest": json::to_value(&delta.digest),
                "size": delta.bytes, "full": delta.full, "uncompressed": delta.tar, "space": delta.space,
                "largest": delta.largest,
            })
        })
        .collect();
    serde_json::json!({"delta": {
        "source": set.base, "target": target.name, "platform": json::to_value(&target.platform),
        "size": set.bytes(), "full": set.full(), "space": set.space(), "layers": layers,
    }})
}

/// One of the two streams of an answer in frames.
#[derive(Clone)]
pub struct Framed {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    stream: Stream,
}

impl Framed {
    /// The two streams: lines of progress, and an archive.
    pub fn pair(out: Box<dyn Write + Send>) -> (Framed, Framed) {
        let out = Arc::new(Mutex::new(out));
        let stream = |stream| Framed {
            out: out.clone(),
            stream,
        };
        (stream(Stream::Stderr), stream(Stream::Stdout))
    }
}

impl Write for Framed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = self.out.lock().unwrap_or_else(|e| e.into_inner());
        stdcopy::write(&mut *out, self.stream, bytes, u32::MAX)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.lock().unwrap_or_else(|e| e.into_inner()).flush()
    }
}

/// Reads the answer's name for an archive's image.
pub fn name(text: &str) -> Result<Option<Reference>> {
    if text.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse(text).invalid(format!("name {text:?}"))?;
    match reference.digest() {
        None => Ok(Some(reference.or_latest())),
        Some(_) => Err(Error::invalid("refusing to create a tag with a digest reference")),
    }
}
