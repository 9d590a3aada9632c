//! What can go wrong in a verb: a kind to branch on, one sentence for people, and the cause.
//!
//! The sentence is what a client prints behind `Error response from daemon: `; where scripts match on it, it is
//! Docker's to the letter.

use std::fmt;

/// What a client may want to branch on; one file of the daemon maps it to an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It cannot be done in the state that things are in.
    Conflict,
    /// There is nothing to do.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// It is not allowed.
    Forbidden,
    /// It is not supported here.
    NotImplemented,
    /// Something that it needs is out of reach.
    Unavailable,
    /// The client went away.
    Cancelled,
    /// Anything else.
    Internal,
}

/// An error of a verb.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with its sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same with what it came of.
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Box::new(source));
        self
    }

    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, message)
    }

    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Error {
        Error::new(Kind::Conflict, message)
    }

    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Kind::Internal, message)
    }

    pub fn not_supported(what: impl fmt::Display) -> Error {
        Error::new(Kind::NotImplemented, format!("{what} is not supported by balena"))
    }

    pub fn cancelled() -> Error {
        Error::new(Kind::Cancelled, "context canceled")
    }

    /// `No such container: web`, in Docker's words.
    pub fn no_such_container(name: &str) -> Error {
        Error::not_found(format!("No such container: {name}"))
    }

    /// `No such image: app:v1`, in Docker's words.
    pub fn no_such_image(name: &str) -> Error {
        Error::not_found(format!("No such image: {name}"))
    }

    /// The same error, and more to say of it: `message: more`.
    pub fn adding(mut self, more: impl fmt::Display) -> Error {
        self.message = format!("{}: {more}", self.message);
        self
    }

    /// The same error about something larger: `what: message`.
    pub fn context(mut self, what: impl fmt::Display) -> Error {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Gives foreign errors a sentence about what was being done.
pub trait Context<T> {
    /// Wraps the error as internal: `what: cause`.
    fn context(self, what: impl fmt::Display) -> Result<T>;
    /// Wraps the error as a bad request: `what: cause`.
    fn invalid(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error {
            kind: Kind::Internal,
            message: format!("{what}: {e}"),
            source: Some(Box::new(e)),
        })
    }

    fn invalid(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error {
            kind: Kind::Invalid,
            message: format!("{what}: {e}"),
            source: Some(Box::new(e)),
        })
    }
}
