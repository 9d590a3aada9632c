//! Registries as `manifest` asks them, without a daemon and none's settings, as docker's client does. We know none: a
//! process of this binary asks, and tells what goes wrong in the words of docker's client.

use crate::cli::Cli;
use crate::command::Failure;
use crate::manifests::Image;
use crate::process::{self, Process};
use api::manifest::{self, ANSWER, Ask, Elsewhere, JOB, Job};
use api::stdcopy::{self, Stream};
use oci::reference::Reference;

/// The name of the process.
const PROCESS: &str = "balena-engine-manifest";

/// What a name stands for.
pub enum Found {
    Image(Box<Image>),
    List(Vec<Image>),
}

/// Answers that are still to come.
pub struct Answers(Process);

/// Asks for something that is about some names, `insecure` as the user says it.
fn ask(cli: &Cli, ask: Ask, names: &[&Reference], insecure: bool) -> Result<Answers, Failure> {
    let job = Job {
        ask,
        insecure,
        credentials: process::credentials(cli, names.iter().copied()),
    };
    Process::start(PROCESS, &job, JOB).map(Answers)
}

/// Asks for the image that each of the names stands for; [`Answers::image`] gives them in their order.
pub fn images(cli: &Cli, names: &[&Reference], insecure: bool) -> Result<Answers, Failure> {
    let texts = names.iter().map(|name| name.canonical()).collect();
    ask(cli, Ask::Images { names: texts }, names, insecure)
}

/// The image, or all images of the list.
pub fn find(cli: &Cli, name: &Reference, insecure: bool) -> Result<Found, Failure> {
    let wanted = Ask::Find { name: name.canonical() };
    Ok(match ask(cli, wanted, &[name], insecure)?.json()? {
        manifest::Found::Image { image } => Found::Image(Box::new(Image::found(image)?)),
        manifest::Found::List { images } => {
            Found::List(images.into_iter().map(Image::found).collect::<Result<_, _>>()?)
        }
    })
}

/// Has a list put, of a media type and with a text; [`Answers::text`] gives the digests of what was put.
pub fn push(
    cli: &Cli,
    list: &Reference,
    (media_type, text): (&str, String),
    elsewhere: Vec<Elsewhere>,
    insecure: bool,
) -> Result<Answers, Failure> {
    let wanted = Ask::Push {
        name: list.canonical(),
        media_type: media_type.to_string(),
        text,
        elsewhere,
    };
    ask(cli, wanted, &[list], insecure)
}

impl Answers {
    pub fn image(&mut self) -> Result<Image, Failure> {
        Image::found(self.json()?)
    }

    /// The next answer; what went wrong is an error, and so is the end.
    pub fn text(&mut self) -> Result<String, Failure> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| unexpected("no text"));
        match stdcopy::read(&mut self.0, ANSWER)? {
            Some((Stream::SystemError, bytes)) => Err(Failure::new(text(bytes)?)),
            Some((Stream::Stdout, bytes)) => text(bytes),
            Some(_) => Err(unexpected("a frame of no answer")),
            None => Err(unexpected("nothing")),
        }
    }

    fn json<T: json::Deserialize>(&mut self) -> Result<T, Failure> {
        json::from_str(&self.text()?).map_err(unexpected)
    }
}

fn unexpected(what: impl std::fmt::Display) -> Failure {
    Failure::new(format!("the answer of {PROCESS}: {what}"))
}
