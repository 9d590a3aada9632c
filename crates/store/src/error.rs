//! What can go wrong in the store: always what was being done to what, and the reason.

use std::io;
use std::path::Path;

/// The store's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{doing}: {}", plain(source))]
    Io { doing: String, source: io::Error },
    /// There is no such record. The text names it.
    #[error("{0}")]
    NotFound(String),
    /// A record or a stream is not what it must be.
    #[error("{0}")]
    Invalid(String),
    /// Something is in the way: it is in use, or exists already.
    #[error("{0}")]
    Conflict(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Says if the disk is full, or a quota is.
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Says if bytes that were read are not what they must be.
    pub fn is_damage(&self) -> bool {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof))
    }

    /// Says if what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::NotFound(_) => true,
            Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Calls a path in an error by another name.
    pub(crate) fn renamed(self, path: &str, name: &str) -> Error {
        match self {
            Error::Io { doing, source } => Error::Io {
                doing: doing.replace(path, name),
                source,
            },
            Error::NotFound(text) => Error::NotFound(text.replace(path, name)),
            Error::Invalid(text) => Error::Invalid(text.replace(path, name)),
            Error::Conflict(text) => Error::Conflict(text.replace(path, name)),
        }
    }

    /// Puts what was being done in front of an error, keeping its kind.
    pub fn within(self, outer: impl std::fmt::Display) -> Error {
        match self {
            Error::Io { doing, source } => Error::Io {
                doing: format!("{outer}: {doing}"),
                source,
            },
            Error::NotFound(text) => Error::NotFound(format!("{outer}: {text}")),
            Error::Invalid(text) => Error::Invalid(format!("{outer}: {text}")),
            Error::Conflict(text) => Error::Conflict(format!("{outer}: {text}")),
        }
    }
}

/// Leaves out the `(os error 28)` that the standard library adds; the text before it says the same.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let known = if error.raw_os_error().is_some() {
        text.rfind(" (os error")
    } else {
        None
    };
    let text = known.map_or(&text[..], |end| &text[..end]);
    match text.chars().next() {
        Some(first) if error.raw_os_error().is_some() => first.to_lowercase().chain(text.chars().skip(1)).collect(),
        _ => text.to_owned(),
    }
}

/// Adds what was being done to an error.
pub(crate) trait Doing<T> {
    /// `verb` and `path`: `write /var/…/link`.
    fn doing(self, verb: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, verb: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::Io {
            doing: format!("{verb} {}", path.as_ref().display()),
            source: error.into(),
        })
    }
}
