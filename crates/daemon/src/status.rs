//! The one place that maps what went wrong to an HTTP status.

use engine::error::Kind;

/// The status that Docker answers with for this kind of error.
pub fn of(kind: Kind) -> u16 {
    match kind {
        Kind::NotModified => 304,
        Kind::Invalid => 400,
        Kind::Unauthorized => 401,
        Kind::Forbidden => 403,
        Kind::NotFound => 404,
        Kind::Conflict => 409,
        Kind::Cancelled => 499,
        Kind::Internal => 500,
        Kind::NotImplemented => 501,
        Kind::Unavailable => 503,
    }
}
