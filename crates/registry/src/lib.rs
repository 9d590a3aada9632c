//! OCI distribution client: auth, manifests, resumable verified blobs, mirrors, push.
//!
//! A [`Registry`] is the client with its connections and tokens; a [`Repository`] is one session with one
//! repository under one set of credentials. Everything blocks; a [`Cancel`] handle ends it from another thread.
//!
//! Source: OCI distribution spec v1.1; the token protocol of Docker's registry ("Token Authentication
//! Specification"); the error texts are those of dockerd 20.10-28.

mod attach;
mod auth;
mod blob;
mod challenge;
mod cidr;
mod client;
mod error;
mod fetch;
mod hash;
mod http;
mod referrers;
mod repository;
mod retry_after;
mod search;
mod token;
mod upload;

pub use attach::{Kept, fallback_tag};
pub use auth::{Auth, AuthHeaderError};
pub use blob::{BlobError, BlobReader, Retry};
pub use client::{Config, Registry};
pub use error::{ApiError, Error, ErrorKind};
pub use fetch::Fetched;
pub use hash::{HashState, Sha256};
pub use http::{Cancel, Proxies};
pub use repository::{ManifestResponse, Repository, Resolved};
pub use search::Found;
pub use upload::{Upload, Uploaded};

pub type Result<T, E = Error> = std::result::Result<T, E>;
