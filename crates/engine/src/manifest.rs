//! Asking registries for a client's `manifest`, which needs no daemon and knows none's settings: what is under a name
//! ([`find`]), and a list to be put there ([`push`]).
//!
//! The client runs this in a process of its own, which reads a [`Job`] and answers in frames. What goes wrong is told in the
//! words of docker's client, which are others than its daemon's.

mod find;
mod push;

use crate::error::{Context, Error, Kind, Result};
use crate::job;
use api::manifest::{ANSWER, Ask, JOB, Job};
use api::stdcopy::{self, Stream};
use oci::reference::Reference;
use registry::{Config, Registry, Repository};
use std::io::{self, Write};

/// The process: its exit status.
pub fn main() -> i32 {
    let Err(error) = job::read(JOB).and_then(work) else {
        return 0;
    };
    // A client that is gone need not be told.
    let _ = send(Stream::SystemError, error.to_string().as_bytes());
    1
}

fn work(job: Job) -> Result<()> {
    match &job.ask {
        Ask::Images { names } => {
            let names = names.iter().map(|name| parse(name)).collect::<Result<Vec<_>>>()?;
            let remote = Remote::reading(&job, &names);
            names.iter().try_for_each(|name| answer(&find::image(&remote, name)?))
        }
        Ask::Find { name } => {
            let name = parse(name)?;
            answer(&find::find(&Remote::reading(&job, std::slice::from_ref(&name)), &name)?)
        }
        Ask::Push {
            name,
            media_type,
            text,
            elsewhere,
        } => {
            let list = parse(name)?;
            push::push(&Remote::writing(&job, &list), &list, (media_type, text), elsewhere, say)
        }
    }
}

fn parse(name: &str) -> Result<Reference> {
    Reference::parse(name).invalid(format!("name {name:?}"))
}

fn answer(value: &impl json::Serialize) -> Result<()> {
    say(&json::to_vec(value))
}

fn say(bytes: &[u8]) -> Result<()> {
    send(Stream::Stdout, bytes).context("answer the client")
}

fn send(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    stdcopy::write(&mut out, stream, bytes, ANSWER)?;
    out.flush()
}

/// The way to the registries of some names.
struct Remote<'a> {
    job: &'a Job,
    registry: Registry,
}

impl Remote<'_> {
    /// For reading: in the clear, and from who has no certificate that is trusted, only where the user says `--insecure`.
    /// Loopback may have any certificate, but even it is not read from in the clear.
    fn reading<'a>(job: &'a Job, names: &[Reference]) -> Remote<'a> {
        Remote::new(job, names, !job.insecure)
    }

    /// For writing, where loopback needs no word.
    fn writing<'a>(job: &'a Job, name: &Reference) -> Remote<'a> {
        Remote::new(job, std::slice::from_ref(name), false)
    }

    fn new<'a>(job: &'a Job, names: &[Reference], tls_only: bool) -> Remote<'a> {
        let domains = names.iter().map(|name| name.repository().domain().to_string());
        let config = Config {
            insecure: domains.filter(|_| job.insecure).collect(),
            tls_only,
            ..Config::default()
        };
        let registry = Registry::new(config);
        Remote { job, registry }
    }

    /// The repository of a name. No mirror stands in for it.
    fn repository(&self, name: &Reference) -> Result<Repository> {
        let auth = job::auth(&self.job.credentials, name.repository().domain())?;
        let opened = self.registry.repository_for_push(name, auth);
        opened.map_err(|e| Error::invalid(e.to_string()))
    }
}

/// What is said of a registry that does not answer.
fn unreachable(error: &registry::Error) -> Option<Error> {
    match error {
        registry::Error::Transport { url, .. } if url.ends_with("/v2/") => Some(Error::new(
            Kind::Unavailable,
            format!("failed to configure transport: error pinging v2 registry: {error}"),
        )),
        _ => None,
    }
}
