//! What goes wrong between a request for a network and the kernel.

use std::io;

/// The coarse kind of an error: what a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    /// The request cannot be met while something else stands.
    Conflict,
    /// In use, or predefined.
    Forbidden,
    Invalid,
    System,
}

/// An error with its kind. The texts that users of Docker know are Docker's.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    #[source]
    source: Option<io::Error>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    /// Says what was being done to what when the system refused.
    pub fn io(what: impl Into<String>, source: io::Error) -> Error {
        let what = what.into();
        Error {
            kind: ErrorKind::System,
            message: format!("{what}: {source}"),
            source: Some(source),
        }
    }

    /// The system's error number, if it was the system.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

/// Adds what was being done to an I/O error.
pub(crate) trait Context<T> {
    fn what(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn what(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::io(what(), e))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn what(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::io(what(), e.into()))
    }
}
