//! The runtime's error: one sentence that says what was being done to what.
//!
//! runc's texts are matched by scripts and by daemons, so the sentence is the contract; callers branch on
//! [`Kind`] only.

use std::fmt;

/// What a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything else.
    Other,
    /// There is no container (or exec) of that name.
    NotExist,
    /// The container is in a state that forbids the request.
    State,
    /// The shim is gone; its exit record may say how.
    Gone,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// Result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Other,
            message: message.into(),
        }
    }

    pub fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Puts `context: ` before the message.
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The text of an OS error as Go prints it: the C library's words in lower case, without a number.
pub fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        // "Is a directory", but "RPC …" stays.
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Adds what was being done to an error on its way up.
pub trait Context<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T>;
    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: IntoError> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into_error().within(doing))
    }

    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into_error().within(doing()))
    }
}

/// What may become an [`Error`].
pub trait IntoError {
    fn into_error(self) -> Error;
}

impl IntoError for Error {
    fn into_error(self) -> Error {
        self
    }
}

impl IntoError for std::io::Error {
    fn into_error(self) -> Error {
        let kind = if self.kind() == std::io::ErrorKind::NotFound {
            Kind::NotExist
        } else {
            Kind::Other
        };
        Error::of(kind, errno_text(&self))
    }
}

impl IntoError for rustix::io::Errno {
    fn into_error(self) -> Error {
        std::io::Error::from(self).into_error()
    }
}

impl IntoError for json::Error {
    fn into_error(self) -> Error {
        Error::new(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(errno_text(&error), "no such file or directory");
        let result: Result<()> = Err(rustix::io::Errno::NOTDIR).context("chdir to /x");
        assert_eq!(result.unwrap_err().to_string(), "chdir to /x: not a directory");
    }
}
