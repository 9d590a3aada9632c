//! Why a document could not be read, in one sentence.

use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// One pointer, so that a result of nothing else fits in a register.
pub struct Error(Box<Message>);

struct Message(String);

impl Error {
    /// Something about the contents.
    pub fn custom(message: impl Into<String>) -> Error {
        Error(Box::new(Message(message.into())))
    }
}

/// A field that must be there is not.
pub fn missing(field: &str) -> Error {
    Error::custom(format!("missing field `{field}`"))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}
