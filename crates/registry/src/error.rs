//! Why a registry did not give what was asked, in the words Docker prints.

use std::time::{Duration, SystemTime};

use json::Deserialize;
use oci::digest::Digest;
use oci::reference::Reference;

use crate::challenge;
use crate::http::Response;

/// Largest error body read, bytes.
const BODY_LIMIT: u64 = 64 << 10;

/// One error of a registry's answer (distribution spec, "Error codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN`
    pub code: String,
    pub message: String,
}

/// What went wrong between a registry and us. Its text is what `docker` prints after
/// `Error response from daemon: `, except where the name matters: see [`Error::for_pull`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer at all.
    #[error("{method} {url:?}: {message}")]
    Transport {
        method: &'static str,
        url: String,
        message: String,
        tls: bool,
    },
    /// An answer that says why not.
    #[error("{}", join(.errors))]
    Api {
        status: u16,
        errors: Vec<ApiError>,
        retry_after: Option<Duration>,
    },
    /// An answer below 500 that does not say why not.
    #[error("error parsing HTTP {status} response body: {reason}: {body:?}")]
    Unparsable {
        status: u16,
        reason: String,
        body: String,
        retry_after: Option<Duration>,
    },
    /// `500 Internal Server Error`
    #[error("received unexpected HTTP status: {reason}")]
    Status {
        status: u16,
        reason: String,
        retry_after: Option<Duration>,
    },
    /// The registry wants a user and password.
    #[error("{method} {url:?}: no basic auth credentials")]
    NoCredentials { method: &'static str, url: String },
    /// No token was given out.
    #[error("{method} {url:?}: {source}")]
    Token {
        method: &'static str,
        url: String,
        source: Box<Error>,
    },
    /// Credentials that the registry does not take.
    #[error("login attempt to {url} failed with status: {reason}")]
    Login { status: u16, url: String, reason: String },
    #[error("{0}")]
    Protocol(String),
    #[error("manifest verification failed for digest {expected}: got {got}")]
    ManifestDigest { expected: Digest, got: Digest },
    #[error("{what} of {reference} is larger than {limit} bytes")]
    TooLarge {
        what: &'static str,
        reference: String,
        limit: u64,
    },
    #[error("context canceled")]
    Cancelled,
}

/// The coarse kind of an error: what a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    /// Credentials are missing, wrong, or not enough.
    Denied,
    RateLimited,
    /// The network or the registry may recover.
    Unavailable,
    /// The registry answered nonsense.
    Invalid,
    Cancelled,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Transport { .. } => ErrorKind::Unavailable,
            Error::Api { status, errors, .. } => match errors.first().map(|e| e.code.as_str()) {
                Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN" | "MANIFEST_BLOB_UNKNOWN") => {
                    ErrorKind::NotFound
                }
                Some("DENIED" | "UNAUTHORIZED") => ErrorKind::Denied,
                Some("TOOMANYREQUESTS") => ErrorKind::RateLimited,
                _ => kind_of(*status),
            },
            Error::Unparsable { status, .. } | Error::Status { status, .. } | Error::Login { status, .. } => {
                kind_of(*status)
            }
            Error::NoCredentials { .. } => ErrorKind::Denied,
            Error::Token { source, .. } => source.kind(),
            Error::Protocol(_) | Error::ManifestDigest { .. } | Error::TooLarge { .. } => ErrorKind::Invalid,
            Error::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Says whether it is who we are that the registry does not know, rather than what we may that it refuses.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Error::Api { status, errors, .. } => match errors.first() {
                Some(first) => first.code == "UNAUTHORIZED",
                None => *status == 401,
            },
            Error::Unparsable { status, .. } | Error::Login { status, .. } => *status == 401,
            Error::NoCredentials { .. } => true,
            Error::Token { source, .. } => source.is_unauthorized(),
            _ => false,
        }
    }

    /// How long the server asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Api { retry_after, .. }
            | Error::Unparsable { retry_after, .. }
            | Error::Status { retry_after, .. } => *retry_after,
            Error::Token { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// The text for a pull of `reference`, which names it where Docker's does.
    pub fn for_pull(&self, reference: &Reference) -> String {
        let code = match self {
            Error::Api { errors, .. } => errors.first(),
            _ => None,
        };
        let Some(first) = code else { return self.to_string() };
        let name = reference.repository().familiar();
        let cause = first.text();
        match first.code.as_str() {
            "DENIED" => {
                format!(
                    "pull access denied for {name}, repository does not exist or may require 'docker login': {cause}"
                )
            }
            "MANIFEST_UNKNOWN" => format!("manifest for {} not found: {cause}", reference.familiar()),
            "NAME_UNKNOWN" => format!("repository {name} not found: {cause}"),
            // Docker logs the others and shows the first.
            _ => cause,
        }
    }

    /// Reads why an answer is none.
    pub(crate) fn from_response(response: Response) -> Error {
        let status = response.status;
        let retry_after = response
            .header("retry-after")
            .and_then(|value| crate::retry_after::read(value, SystemTime::now()));
        if !(400..500).contains(&status) {
            let reason = response.reason.clone();
            response.body.drain();
            return Error::Status {
                status,
                reason,
                retry_after,
            };
        }
        let first = response
            .headers("www-authenticate")
            .flat_map(challenge::parse)
            .find_map(oauth_error);
        let body = response.body.read_all(BODY_LIMIT).ok().flatten().unwrap_or_default();
        let mut parsed = parse_body(status, &body);
        if status == 401 && parsed.is_err() {
            parsed = Ok(vec![ApiError::of("UNAUTHORIZED")]);
        }
        match (first, parsed) {
            (Some(first), rest) => {
                let mut errors = vec![first];
                errors.extend(rest.unwrap_or_default());
                Error::Api {
                    status,
                    errors,
                    retry_after,
                }
            }
            (None, Ok(errors)) => Error::Api {
                status,
                errors,
                retry_after,
            },
            (None, Err(reason)) => {
                let body = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
                Error::Unparsable {
                    status,
                    reason,
                    body,
                    retry_after,
                }
            }
        }
    }
}

fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        429 => ErrorKind::RateLimited,
        408 | 500.. => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    }
}

/// RFC 6750 section 3.1: a bearer challenge may carry the reason of the refusal.
fn oauth_error(challenge: challenge::Challenge) -> Option<ApiError> {
    if challenge.scheme != "bearer" {
        return None;
    }
    let mut error = match challenge.parameter("error")? {
        "invalid_token" => ApiError::of("UNAUTHORIZED"),
        "insufficient_scope" => ApiError::of("DENIED"),
        _ => return None,
    };
    if let Some(text) = challenge.parameter("error_description").filter(|text| !text.is_empty()) {
        error.message = text.to_owned();
    }
    Some(error)
}

fn parse_body(status: u16, body: &[u8]) -> Result<Vec<ApiError>, String> {
    #[derive(Deserialize)]
    struct Answer {
        /// Docker Hub's authorization service answers so.
        #[serde(default)]
        details: Option<serde_json::Value>,
        #[serde(default)]
        errors: Option<Vec<Entry>>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: Option<serde_json::Value>,
        #[serde(default)]
        message: Option<String>,
    }
    if body.trim_ascii().is_empty() {
        return Err("unexpected end of JSON input".to_owned());
    }
    let answer: Answer = json::from_slice(body).map_err(|e| go_json_error(body, &e))?;
    if let Some(text) = answer
        .details
        .as_ref()
        .and_then(|d| d.as_str())
        .filter(|text| !text.is_empty())
    {
        let code = match status {
            401 => "UNAUTHORIZED",
            429 => "TOOMANYREQUESTS",
            _ => "UNKNOWN",
        };
        return Ok(vec![ApiError {
            code: code.to_owned(),
            message: text.to_owned(),
        }]);
    }
    let entries = answer.errors.unwrap_or_default();
    if entries.is_empty() {
        return Err("no error details found in HTTP response body".to_owned());
    }
    let read = |entry: Entry| {
        let code = entry.code.as_ref().and_then(|c| c.as_str()).unwrap_or("UNKNOWN");
        let mut error = ApiError::of(code);
        if let Some(message) = entry.message.filter(|m| !m.is_empty()) {
            error.message = message;
        }
        error
    };
    Ok(entries.into_iter().map(read).collect())
}

/// The one JSON failure seen in the field, an HTML page, in Go's words.
fn go_json_error(body: &[u8], error: &json::Error) -> String {
    match body.trim_ascii_start().first() {
        Some(b'{' | b'[' | b'"' | b'0'..=b'9' | b't' | b'f' | b'n') | None => error.to_string(),
        Some(b) => format!("invalid character {:?} looking for beginning of value", char::from(*b)),
    }
}

impl ApiError {
    /// The error with its standard message (distribution's `errcode` registry).
    fn of(code: &str) -> ApiError {
        let message = match code {
            "UNAUTHORIZED" => "authentication required",
            "DENIED" => "requested access to the resource is denied",
            "TOOMANYREQUESTS" => "too many requests",
            "UNAVAILABLE" => "service unavailable",
            "UNSUPPORTED" => "The operation is unsupported.",
            "MANIFEST_UNKNOWN" => "manifest unknown",
            "MANIFEST_INVALID" => "manifest invalid",
            "MANIFEST_BLOB_UNKNOWN" => "blob unknown to registry",
            "NAME_UNKNOWN" => "repository name not known to registry",
            "NAME_INVALID" => "invalid repository name",
            "BLOB_UNKNOWN" => "blob unknown to registry",
            "DIGEST_INVALID" => "provided digest did not match uploaded content",
            "SIZE_INVALID" => "provided length did not match content length",
            "TAG_INVALID" => "manifest tag did not match URI",
            // Go's client knows these codes; any other is `UNKNOWN` to it, with the message as sent.
            _ => {
                return ApiError {
                    code: "UNKNOWN".to_owned(),
                    message: "unknown error".to_owned(),
                };
            }
        };
        ApiError {
            code: code.to_ascii_uppercase(),
            message: message.to_owned(),
        }
    }

    /// `manifest unknown: manifest unknown`
    fn text(&self) -> String {
        format!("{}: {}", self.code.to_ascii_lowercase().replace('_', " "), self.message)
    }
}

fn join(errors: &[ApiError]) -> String {
    match errors {
        [] => "<nil>".to_owned(),
        [one] => one.text(),
        many => many
            .iter()
            .fold("errors:\n".to_owned(), |text, e| text + &e.text() + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, body: &str) -> Error {
        Error::Api {
            status,
            errors: parse_body(status, body.as_bytes()).unwrap(),
            retry_after: None,
        }
    }

    #[test]
    fn words_of_a_pull() {
        let reference = Reference::parse("me/app:1").unwrap();
        for (body, kind, text) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"},{"code":"UNAUTHORIZED"}]}"#,
                ErrorKind::Denied,
                "pull access denied for me/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}"#,
                ErrorKind::NotFound,
                "manifest for me/app:1 not found: manifest unknown: manifest unknown",
            ),
            (
                r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
                ErrorKind::NotFound,
                "repository me/app not found: name unknown: repository name not known to registry",
            ),
            (
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
                ErrorKind::RateLimited,
                "toomanyrequests: slow down",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                ErrorKind::Denied,
                "unauthorized: incorrect username or password",
            ),
        ] {
            let status = if kind == ErrorKind::Denied { 401 } else { 400 };
            let error = api(status, body);
            assert_eq!(error.kind(), kind, "{body}");
            assert_eq!(error.for_pull(&reference), text);
        }
    }

    #[test]
    fn bodies_that_say_nothing() {
        assert_eq!(parse_body(404, b"").unwrap_err(), "unexpected end of JSON input");
        assert_eq!(
            parse_body(404, b"{}").unwrap_err(),
            "no error details found in HTTP response body"
        );
        assert_eq!(
            parse_body(404, b"<html>").unwrap_err(),
            "invalid character '<' looking for beginning of value"
        );
    }
}
