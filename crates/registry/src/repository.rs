//! A session with one repository: requests with their tokens and redirects, manifests and tags.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use json::Deserialize;
use oci::digest::Digest;
use oci::manifest::media_type;
use oci::reference::{Reference, Repository as Name};

use crate::Result;
use crate::auth::Auth;
use crate::challenge;
use crate::client::{Endpoint, Registry, Shared, Voucher};
use crate::error::{Error, ErrorKind};
use crate::hash::Sha256;
use crate::http::{Cancel, Failure, Payload, Request, Response, Scheme, Url, go_words, tls_error};
use crate::token::Key;

/// Largest manifest taken, bytes. The distribution spec obliges registries to 4 MiB.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// Bytes of a page of tags, and of all tags.
const TAGS_LIMIT: u64 = 16 << 20;
const MOST_PAGES: u32 = 1000;
const MOST_REDIRECTS: u32 = 10;
/// How long a rate limit may make a manifest wait; a longer one is the user's to see.
const PATIENCE: Duration = Duration::from_secs(30);

/// One request to be sent, perhaps several times: after a refusal, along a redirect.
pub(crate) struct Send<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub authorization: Option<String>,
    pub payload: Payload<'a>,
    pub insecure: bool,
    /// The registry that it is for: it vouches for those that it sends us to, as in Docker, where all of a registry's
    /// requests have one set of certificates.
    pub registry: Option<Voucher>,
    /// What comes is known by its digest: a redirect may lead to where it comes in the clear.
    pub checked: bool,
}

impl<'a> Send<'a> {
    pub fn get(url: Url, insecure: bool, registry: Option<&Endpoint>) -> Send<'a> {
        Send {
            method: "GET",
            url,
            headers: Vec::new(),
            authorization: None,
            payload: Payload::Empty,
            insecure,
            registry: registry.map(Endpoint::voucher),
            checked: false,
        }
    }

    pub fn authorization(self, value: Option<String>) -> Send<'a> {
        Send {
            authorization: value,
            ..self
        }
    }
}

impl Shared {
    /// Sends a request and follows redirects of reads. The `Authorization` header stays with the first server.
    pub(crate) fn follow(&self, send: &mut Send<'_>, cancel: &Cancel) -> Result<Response> {
        let first = send.url.clone();
        let mut url = first.clone();
        let listed = send.registry.as_ref().is_some_and(|registry| registry.listed);
        for _ in 0..=MOST_REDIRECTS {
            let at_home = url.same_origin(&first);
            let mut headers = send.headers.clone();
            if at_home && let Some(value) = &send.authorization {
                headers.push(("Authorization", value.clone()));
            }
            let payload = match &mut send.payload {
                Payload::Empty => Payload::Empty,
                Payload::Bytes(bytes) => Payload::Bytes(bytes),
                Payload::Stream(reader, length) => Payload::Stream(&mut **reader, *length),
            };
            let insecure = if at_home {
                send.insecure
            } else {
                listed || self.is_insecure(&url.authority())
            };
            let request = Request {
                method: send.method,
                url: url.clone(),
                headers,
                payload,
                insecure,
                behalf: send.registry.as_ref().map(|registry| registry.authority.clone()),
            };
            let response = self
                .client
                .send(request, cancel)
                .map_err(|failure| failed(send.method, &url, failure))?;
            let moved = matches!(response.status, 301 | 302 | 303 | 307 | 308) && matches!(send.method, "GET" | "HEAD");
            if !moved {
                return Ok(response);
            }
            let target = response.header("location").unwrap_or_default().to_owned();
            response.body.drain();
            let next = url
                .join(&target)
                .filter(|_| !target.is_empty())
                .ok_or_else(|| Error::Protocol(format!("{} {url}: redirect to no URL: {target:?}", send.method)))?;
            let exposed = url.scheme == Scheme::Https && next.scheme == Scheme::Http;
            if exposed && !send.checked && !listed && !self.is_insecure(&next.authority()) {
                return Err(Error::Protocol(format!(
                    "{} {url}: redirect from https to {next} refused",
                    send.method
                )));
            }
            url = next;
        }
        Err(Error::Protocol(format!(
            "{} \"{first}\": stopped after {MOST_REDIRECTS} redirects",
            go_method(send.method)
        )))
    }
}

/// A session. Cheap to clone; clones share the endpoint found and the cancel handle.
#[derive(Clone)]
pub struct Repository(pub(crate) Arc<Session>);

pub(crate) struct Session {
    pub registry: Registry,
    pub name: Name,
    endpoints: Vec<Endpoint>,
    /// Index of the endpoint that answered last.
    current: Mutex<usize>,
    pub auth: Auth,
    pub cancel: Cancel,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    /// A pull of what is checked by its digest.
    Checked,
    Push,
}

/// One request to an endpoint of a session.
pub(crate) struct Call<'a> {
    pub method: &'static str,
    /// Under `/v2/<name>/`, or absolute.
    pub target: Target,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload<'a>,
    pub access: Access,
    /// A repository to read from besides: the source of a mount.
    pub also: Option<&'a str>,
}

pub(crate) enum Target {
    Path(String),
    Url(Url),
}

/// A manifest as it came, with its digest checked or computed.
#[derive(Clone, Debug)]
pub struct ManifestResponse {
    pub digest: Digest,
    /// Of the `Content-Type` header, without parameters; the manifest's own where the header says nothing.
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// What a name stands for, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub digest: Digest,
    pub media_type: String,
    /// Bytes of the manifest; 0 if the registry does not say.
    pub size: u64,
}

impl Repository {
    pub(crate) fn new(
        registry: Registry,
        name: Name,
        endpoints: Vec<Endpoint>,
        auth: Auth,
        cancel: Cancel,
    ) -> Repository {
        Repository(Arc::new(Session {
            registry,
            name,
            endpoints,
            current: Mutex::new(0),
            auth,
            cancel,
        }))
    }

    /// The handle that ends everything of this session.
    pub fn cancel_handle(&self) -> Cancel {
        self.0.cancel.clone()
    }

    /// If what answered last is a mirror: a session with those that come after it, for when it gives out what is wrong.
    pub fn past_mirror(&self) -> Option<Repository> {
        let session = &self.0;
        let at = *session.current.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = session.endpoints.get(at + 1..).filter(|rest| !rest.is_empty())?;
        session.endpoints[at].mirror.then(|| {
            Repository::new(
                session.registry.clone(),
                session.name.clone(),
                rest.to_vec(),
                session.auth.clone(),
                Cancel::new(),
            )
        })
    }

    /// The repository's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Fetches the manifest a reference of this repository names, verified where it names a digest.
    pub fn manifest(&self, reference: &Reference) -> Result<ManifestResponse> {
        let name = reference.manifest_name();
        self.patiently(|| {
            self.0.somewhere(&self.0.cancel, |endpoint| {
                let response = self.0.call(endpoint, self.manifest_call("GET", name), &self.0.cancel)?;
                let media_type = content_type(&response);
                let claimed = content_digest(&response);
                let url = response.url.clone();
                let bytes = response
                    .body
                    .read_all(MANIFEST_LIMIT)
                    .map_err(|e| transport_error("GET", &url, &e))?;
                let bytes = bytes.ok_or_else(|| Error::TooLarge {
                    what: "manifest",
                    reference: reference.to_string(),
                    limit: MANIFEST_LIMIT,
                })?;
                let got = Sha256::digest(&bytes);
                if let Some(expected) = reference
                    .digest()
                    .or(claimed.as_ref())
                    .filter(|expected| **expected != got)
                {
                    return Err(Error::ManifestDigest {
                        expected: expected.clone(),
                        got,
                    });
                }
                let media_type = if is_vague(&media_type) {
                    own_media_type(&bytes)
                } else {
                    media_type
                };
                Ok(ManifestResponse {
                    digest: got,
                    media_type,
                    bytes,
                })
            })
        })
    }

    /// Asks what a reference stands for (HEAD); servers that do not say are asked for the manifest.
    pub fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        match self.glance(reference) {
            Ok(Some(resolved)) if !is_vague(&resolved.media_type) => Ok(resolved),
            // A HEAD has no body and so no reason: the GET brings both.
            Ok(_) | Err(Error::Api { .. } | Error::Unparsable { .. }) => {
                let manifest = self.manifest(reference)?;
                let size = manifest.bytes.len() as u64;
                Ok(Resolved {
                    digest: manifest.digest,
                    media_type: manifest.media_type,
                    size,
                })
            }
            Err(e) => Err(e),
        }
    }

    /// The same by a HEAD alone, which registries that limit pulls do not count. Nothing where the server does not say.
    pub fn glance(&self, reference: &Reference) -> Result<Option<Resolved>> {
        let name = reference.manifest_name();
        self.patiently(|| {
            self.0.somewhere(&self.0.cancel, |endpoint| {
                let response = self
                    .0
                    .call(endpoint, self.manifest_call("HEAD", name), &self.0.cancel)?;
                let media_type = content_type(&response);
                let size = response
                    .header("content-length")
                    .and_then(|l| l.parse().ok())
                    .unwrap_or(0);
                Ok(content_digest(&response).map(|digest| Resolved {
                    digest,
                    media_type,
                    size,
                }))
            })
        })
    }

    /// Lists the tags, in the registry's order.
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        self.0.somewhere(&self.0.cancel, |endpoint| {
            let mut tags: Vec<String> = Vec::new();
            let mut target = Target::Path("tags/list".to_owned());
            let mut left = TAGS_LIMIT;
            let too_large = || Error::TooLarge {
                what: "list of tags",
                reference: self.0.name.familiar(),
                limit: TAGS_LIMIT,
            };
            for _ in 0..MOST_PAGES {
                let call = Call {
                    method: "GET",
                    target,
                    headers: vec![("Accept", "application/json".to_owned())],
                    payload: Payload::Empty,
                    access: Access::Pull,
                    also: None,
                };
                let response = self.0.call(endpoint, call, &self.0.cancel)?;
                let url = response.url.clone();
                let next = response
                    .header("link")
                    .and_then(next_page)
                    .and_then(|link| url.join(&link));
                let bytes = response
                    .body
                    .read_all(left)
                    .map_err(|e| transport_error("GET", &url, &e))?;
                let bytes = bytes.ok_or_else(too_large)?;
                left -= bytes.len() as u64;
                let page: Page = json::from_slice(&bytes)
                    .map_err(|e| Error::Protocol(format!("parse tags of {}: {e}", self.0.name.familiar())))?;
                let page = page.tags.unwrap_or_default();
                let empty = page.is_empty();
                tags.extend(page);
                match next {
                    Some(next) if !empty && next.same_origin(&endpoint.url) => target = Target::Url(next),
                    _ => return Ok(tags),
                }
            }
            Err(too_large())
        })
    }

    fn manifest_call(&self, method: &'static str, name: &str) -> Call<'static> {
        let accept = [
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_LIST,
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_SCHEMA1_SIGNED,
        ];
        Call {
            method,
            target: Target::Path(format!("manifests/{name}")),
            headers: accept.iter().map(|t| ("Accept", (*t).to_owned())).collect(),
            payload: Payload::Empty,
            access: Access::Pull,
            also: None,
        }
    }

    /// Waits out short rate limits and hiccups, twice at most.
    pub(crate) fn patiently<T>(&self, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            let error = match ask() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let backoff = self.0.registry.0.config.backoff;
            let wait = match (&error, error.kind(), error.retry_after()) {
                (_, ErrorKind::RateLimited | ErrorKind::Unavailable, Some(wait)) if wait <= PATIENCE => wait,
                // It did not say how long, or not so that one could read it.
                (_, ErrorKind::RateLimited, None) => backoff * (tries + 1),
                (Error::Status { status: 500..=504, .. }, _, None) => backoff / 2,
                _ => return Err(error),
            };
            tries += 1;
            if tries > 2 {
                return Err(error);
            }
            log::info!("registry answers {error}: asking again in {wait:?}");
            if !self.0.cancel.sleep(wait) {
                return Err(Error::Cancelled);
            }
        }
    }
}

impl Session {
    /// Runs `ask` against the endpoint that answered last, and the ones after it while it does not.
    pub fn somewhere<T>(&self, cancel: &Cancel, mut ask: impl FnMut(&Endpoint) -> Result<T>) -> Result<T> {
        let start = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = start;
        let mut https: Option<Error> = None;
        loop {
            let endpoint = &self.endpoints[at];
            let error = match ask(endpoint) {
                Ok(value) => {
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = at;
                    return Ok(value);
                }
                Err(error) => error,
            };
            // A mirror may lack what the registry has. An insecure registry may not speak TLS. Everything
            // else is the registry's word, or about somebody that it sent us to.
            let its_own = matches!(&error, Error::Transport { url, .. } if url.starts_with(&endpoint.url.to_string()));
            let go_on = endpoint.mirror || its_own && endpoint.insecure;
            if !go_on || at + 1 == self.endpoints.len() || cancel.is_cancelled() {
                // "Client sent an HTTP request to an HTTPS server": what went wrong is what TLS said.
                return Err(match (https, &error) {
                    (Some(first), Error::Unparsable { status: 400, .. }) => first,
                    _ => error,
                });
            }
            log::info!(
                "{} does not answer, trying {}: {error}",
                endpoint.url,
                self.endpoints[at + 1].url
            );
            if !endpoint.mirror {
                https = Some(error);
            }
            at += 1;
        }
    }

    /// The endpoint that answered last.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoints[*self.current.lock().unwrap_or_else(PoisonError::into_inner)].clone()
    }

    fn key(&self, endpoint: &Endpoint, call: &Call<'_>) -> Key {
        let actions = match call.access {
            Access::Pull | Access::Checked => "pull",
            Access::Push => "pull,push",
        };
        let mut scope = format!("repository:{}:{actions}", self.name.path());
        if let Some(other) = call.also {
            scope.push_str(&format!(" repository:{other}:pull"));
        }
        // A mirror is not the registry the user logged in to: it gets no secrets.
        let auth = if endpoint.mirror {
            Auth::Anonymous
        } else {
            self.auth.clone()
        };
        Key {
            authority: endpoint.url.host_port(),
            scope,
            auth,
        }
    }

    /// Sends a request, answers one refusal, and turns every answer but success into an error.
    pub fn call(&self, endpoint: &Endpoint, mut call: Call<'_>, cancel: &Cancel) -> Result<Response> {
        let shared = &self.registry.0;
        let url = match &call.target {
            Target::Path(path) => endpoint.url.with_target(format!("/v2/{}/{path}", self.name.path())),
            Target::Url(url) => url.clone(),
        };
        let key = self.key(endpoint, &call);
        // An upload's location may lie on another server: our token is not for it, and what we let pass on loopback neither.
        let ours = url.same_origin(&endpoint.url);
        let mut send = Send {
            method: call.method,
            url: url.clone(),
            headers: std::mem::take(&mut call.headers),
            authorization: None,
            payload: call.payload,
            insecure: match ours {
                true => endpoint.insecure,
                false => endpoint.listed || shared.is_insecure(&url.authority()),
            },
            registry: Some(endpoint.voucher()),
            checked: call.access == Access::Checked,
        };
        if ours {
            send.authorization = shared.grant(endpoint, &key, cancel)?;
        }
        let once = matches!(send.payload, Payload::Stream(..));
        let response = shared.follow(&mut send, cancel).map_err(|e| at_base(e, endpoint))?;
        let response = if response.status == 401 && ours && response.url.same_origin(&url) && !once {
            let challenges: Vec<_> = response
                .headers("www-authenticate")
                .flat_map(challenge::parse)
                .collect();
            match shared.authorize(endpoint, &key, &challenges, (go_method(call.method), &url), cancel)? {
                None => response,
                Some(header) => {
                    response.body.drain();
                    send.authorization = Some(header);
                    shared.follow(&mut send, cancel)?
                }
            }
        } else {
            response
        };
        if response.status == 401 {
            // Whatever was sent is not good any more.
            shared.tokens.forget(&key);
        }
        if (200..300).contains(&response.status) {
            Ok(response)
        } else {
            Err(Error::from_response(response))
        }
    }
}

/// `docker login`: `/v2/` with the credentials given. The token that stands for them from now on, if there is one.
pub(crate) fn login(registry: &Registry, endpoints: &[Endpoint], auth: Auth) -> Result<Option<String>> {
    let shared = &registry.0;
    let cancel = Cancel::new();
    let mut last = Error::Protocol("no endpoint to log in to".to_owned());
    for endpoint in endpoints {
        let url = endpoint.url.with_target("/v2/".to_owned());
        let key = Key {
            authority: endpoint.url.host_port(),
            scope: String::new(),
            auth: auth.clone(),
        };
        shared.tokens.forget(&key);
        let mut send = Send::get(url.clone(), endpoint.insecure, Some(endpoint));
        let response = match shared.follow(&mut send, &cancel) {
            Ok(response) => response,
            Err(e) => {
                last = e;
                continue;
            }
        };
        if response.status != 401 {
            return if response.status == 200 {
                Ok(None)
            } else {
                Err(Error::from_response(response))
            };
        }
        let challenges: Vec<_> = response
            .headers("www-authenticate")
            .flat_map(challenge::parse)
            .collect();
        let Some(header) = shared.authorize(endpoint, &key, &challenges, ("Get", &url), &cancel)? else {
            return Err(Error::from_response(response));
        };
        let mut send = Send::get(url.clone(), endpoint.insecure, Some(endpoint)).authorization(Some(header));
        let response = shared.follow(&mut send, &cancel)?;
        return match response.status {
            200 => Ok(shared.tokens.refresh(&key)),
            status => Err(Error::Login {
                status,
                url: url.to_string(),
                reason: response.reason.clone(),
            }),
        };
    }
    Err(last)
}

fn failed(method: &'static str, url: &Url, failure: Failure) -> Error {
    match failure {
        Failure::Cancelled => Error::Cancelled,
        Failure::Certificates(message) => Error::Protocol(message),
        Failure::Io(e) => transport_error(method, url, &e),
        Failure::Dial(e) => Error::Transport {
            method: go_method(method),
            url: url.to_string(),
            message: e.message,
            tls: e.tls,
        },
    }
}

pub(crate) fn transport_error(method: &'static str, url: &Url, error: &std::io::Error) -> Error {
    let message = match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            "net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned()
        }
        _ => go_words(error),
    };
    Error::Transport {
        method: go_method(method),
        url: url.to_string(),
        message,
        tls: tls_error(error).is_some(),
    }
}

/// Docker pings `/v2/` before anything else, so that is the URL its users see when nobody answers.
fn at_base(error: Error, endpoint: &Endpoint) -> Error {
    match error {
        Error::Transport { url, message, tls, .. } if url.starts_with(&endpoint.url.to_string()) => {
            let url = endpoint.url.with_target("/v2/".to_owned()).to_string();
            Error::Transport {
                method: "Get",
                url,
                message,
                tls,
            }
        }
        other => other,
    }
}

/// `GET` as Go's errors write it.
pub(crate) fn go_method(method: &str) -> &'static str {
    match method {
        "GET" => "Get",
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        _ => "Delete",
    }
}

fn content_type(response: &Response) -> String {
    let value = response.header("content-type").unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Says whether a content type tells nothing about a manifest.
fn is_vague(media_type: &str) -> bool {
    matches!(
        media_type,
        "" | "application/json" | "text/plain" | "application/octet-stream" | "text/html"
    )
}

fn own_media_type(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        #[serde(default)]
        media_type: String,
    }
    json::from_slice::<Typed>(bytes)
        .map(|typed| typed.media_type)
        .unwrap_or_default()
}

fn content_digest(response: &Response) -> Option<Digest> {
    response
        .header("docker-content-digest")
        .and_then(|value| Digest::parse(value.trim()).ok())
}

/// The target of a `Link: <…>; rel="next"` header (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| target.to_owned())
}
