//! `docker search`: the old index API, which Docker Hub still has and few others.

use crate::Result;
use crate::auth::Auth;
use crate::client::Registry;
use crate::error::Error;
use crate::http::{Cancel, Url, encode};
use crate::repository::{Send, transport_error};
use json::{Deserialize, Serialize};

/// Where Docker Hub's index answers.
const INDEX: &str = "index.docker.io";
const ANSWER_LIMIT: u64 = 4 << 20;

/// A repository that was found, as the index and the Engine API write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Option<Vec<Found>>,
}

impl Registry {
    /// Asks an index for a term; `host/term` asks that host's.
    pub fn search(&self, term: &str, limit: u32, auth: &Auth, cancel: &Cancel) -> Result<Vec<Found>> {
        let (host, term) = match term.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => match host {
                "docker.io" | INDEX => (INDEX, rest),
                host => (host, rest),
            },
            _ => (INDEX, term),
        };
        let insecure = self.0.is_insecure(host);
        let schemes: &[&str] = if insecure { &["https", "http"] } else { &["https"] };
        let mut last = Error::Protocol(format!("invalid index name {host:?}"));
        for scheme in schemes {
            let target = format!("{scheme}://{host}/v1/search?q={}&n={limit}", encode(term));
            let Some(url) = Url::parse(&target) else { continue };
            let mut send = Send::get(url.clone(), insecure, None).authorization(auth.basic());
            let response = match self.0.follow(&mut send, cancel) {
                Ok(response) => response,
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            if response.status != 200 {
                return Err(Error::Protocol(format!("Unexpected status code {}", response.status)));
            }
            let body = response
                .body
                .read_all(ANSWER_LIMIT)
                .map_err(|e| transport_error("GET", &url, &e))?;
            let answer: Answer = json::from_slice(&body.unwrap_or_default())
                .map_err(|e| Error::Protocol(format!("error decoding registry search results: {e}")))?;
            return Ok(answer.results.unwrap_or_default());
        }
        Err(last)
    }
}
