//! Why a request failed, in the words of Docker's client.

use super::{Endpoint, escape};
use std::io;

/// What went wrong between a client and the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody.
    #[error("Cannot connect to the Docker daemon at {0}. Is the docker daemon running?")]
    Connect(String),
    /// There is somebody, who is not for us.
    #[error("permission denied while trying to connect to the Docker daemon socket at {0}")]
    Denied(String),
    /// The daemon refused.
    #[error("Error response from daemon: {message}")]
    Status { code: u16, message: String },
    /// What came is not what HTTP or the API say.
    #[error("{0}")]
    Protocol(String),
    /// What was to be sent could not be read.
    #[error("error during connect: {asked}: {source}")]
    Source { asked: String, source: io::Error },
    #[error("error during connect: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Says whether the daemon knows no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Says whether there was no connection at all.
    pub fn is_connect(&self) -> bool {
        matches!(self, Error::Connect(_) | Error::Denied(_))
    }

    pub(super) fn connect(endpoint: &Endpoint, method: &str, target: &str, error: io::Error) -> Error {
        match (error.kind(), endpoint) {
            (io::ErrorKind::PermissionDenied, Endpoint::Unix(path)) => {
                let (asked, path) = (asked(endpoint, method, target), path.display());
                Error::Denied(format!(
                    "{endpoint}: {asked}: dial unix {path}: connect: permission denied"
                ))
            }
            (io::ErrorKind::Unsupported, _) => Error::Protocol(error.to_string()),
            _ => Error::Connect(endpoint.to_string()),
        }
    }
}

/// A request as Go names it: `Post "http://%2Frun%2Fdocker.sock/v1.50/images/load"`.
pub(super) fn asked(endpoint: &Endpoint, method: &str, target: &str) -> String {
    let verb = format!("{}{}", &method[..1], method[1..].to_lowercase());
    let host = match endpoint {
        Endpoint::Unix(path) => escape(&path.display().to_string(), b""),
        Endpoint::Tcp(host) => host.clone(),
    };
    format!("{verb} \"http://{host}{target}\"")
}
