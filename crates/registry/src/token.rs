//! Access tokens: how they are asked for, and the cache of those that still hold.
//!
//! Lifetimes are measured on the monotonic clock from the moment of the answer: a device's wall clock is often
//! wrong before its first contact with the network, so `issued_at` is not looked at.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use json::Deserialize;

use crate::auth::Auth;
use crate::challenge::Challenge;
use crate::client::{Endpoint, Shared};
use crate::error::Error;
use crate::http::{Cancel, Payload, Scheme, Url, encode};
use crate::repository::{Send, transport_error};

/// Shortest lifetime assumed, as Docker does: some services say less, or nothing.
const LIFETIME_FLOOR: u64 = 60;
/// Longest lifetime believed, seconds: `Instant` arithmetic must not overflow on a service's whim.
const LIFETIME_CEILING: u64 = 24 * 3600;
const ANSWER_LIMIT: u64 = 256 << 10;
/// Most grants kept.
const MOST: usize = 64;

/// What a token is good for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub authority: String,
    /// `repository:library/busybox:pull`, or several, separated by spaces.
    pub scope: String,
    pub auth: Auth,
}

/// A ready `Authorization` header.
#[derive(Clone)]
pub(crate) struct Grant {
    pub header: String,
    expires: Option<Instant>,
    /// What the service gave to ask with from now on, in place of a password.
    pub refresh: Option<String>,
    /// Where to get the next one without being refused first.
    challenge: Option<Challenge>,
}

/// The grants of a client.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Grant>>);

impl Tokens {
    pub fn clear(&self) {
        self.map().clear();
    }

    /// The refresh token that came with a grant.
    pub fn refresh(&self, key: &Key) -> Option<String> {
        self.map().get(key).and_then(|grant| grant.refresh.clone())
    }

    pub fn forget(&self, key: &Key) {
        self.map().remove(key);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Key, Grant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: Key, grant: Grant) {
        let mut map = self.map();
        // A daemon sees few repositories; one that sees many drops what has expired.
        if map.len() >= MOST {
            map.retain(|_, g| g.expires.is_some_and(|at| at > Instant::now()));
        }
        // All of them hold still: the next request asks again.
        if map.len() >= MOST {
            map.clear();
        }
        map.insert(key, grant);
    }
}

impl Shared {
    /// The header to send with the next request, if one is known; an expired token is renewed.
    pub(crate) fn grant(&self, endpoint: &Endpoint, key: &Key, cancel: &Cancel) -> Result<Option<String>, Error> {
        if let Auth::RegistryToken(token) = &key.auth {
            return Ok(Some(format!("Bearer {token}")));
        }
        let known = self.tokens.map().get(key).cloned();
        match known {
            None => Ok(None),
            Some(Grant {
                expires: Some(at),
                challenge: Some(challenge),
                ..
            }) if at <= Instant::now() => self.fetch(endpoint, key, &challenge, cancel).map(Some),
            Some(grant) => Ok(Some(grant.header)),
        }
    }

    /// Answers a refusal. `Ok(None)` when its challenges are none we can answer.
    pub(crate) fn authorize(
        &self,
        endpoint: &Endpoint,
        key: &Key,
        challenges: &[Challenge],
        refused: (&'static str, &Url),
        cancel: &Cancel,
    ) -> Result<Option<String>, Error> {
        self.tokens.forget(key);
        if matches!(key.auth, Auth::RegistryToken(_)) {
            return Ok(None);
        }
        let (method, url) = refused;
        if let Some(bearer) = challenges
            .iter()
            .find(|c| c.scheme == "bearer" && c.parameter("realm").is_some())
        {
            return match self.fetch(endpoint, key, bearer, cancel) {
                Ok(header) => Ok(Some(header)),
                Err(Error::Cancelled) => Err(Error::Cancelled),
                Err(source) => Err(Error::Token {
                    method,
                    url: url.to_string(),
                    source: Box::new(source),
                }),
            };
        }
        if !challenges.iter().any(|c| c.scheme == "basic") {
            return Ok(None);
        }
        let Some(header) = key.auth.basic() else {
            return Err(Error::NoCredentials {
                method,
                url: url.to_string(),
            });
        };
        self.tokens.keep(
            key.clone(),
            Grant {
                header: header.clone(),
                expires: None,
                refresh: None,
                challenge: None,
            },
        );
        Ok(Some(header))
    }

    fn fetch(&self, endpoint: &Endpoint, key: &Key, challenge: &Challenge, cancel: &Cancel) -> Result<String, Error> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let url = Url::parse(realm)
            .or_else(|| endpoint.url.join(realm))
            .ok_or_else(|| Error::Protocol(format!("unable to parse realm {realm:?} of the token challenge")))?;
        let insecure = endpoint.listed || self.is_insecure(&url.authority());
        let secret = key.auth != Auth::Anonymous;
        if secret && url.scheme == Scheme::Http && endpoint.url.scheme == Scheme::Https && !insecure {
            return Err(Error::Protocol(format!(
                "credentials not sent: token service {url} is not https"
            )));
        }
        let service = challenge.parameter("service").unwrap_or_default();
        let answer = match &key.auth {
            Auth::IdentityToken(token) => self.post((url, insecure, endpoint), service, &key.scope, token, cancel)?,
            auth => self.get((url, insecure, endpoint), service, &key.scope, auth, cancel)?,
        };
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|t| !t.is_empty());
        let token = token.ok_or_else(|| {
            Error::Protocol("authorization server did not include a token in the response".to_owned())
        })?;
        let lifetime = answer.expires_in.unwrap_or(0).clamp(LIFETIME_FLOOR, LIFETIME_CEILING);
        let header = format!("Bearer {token}");
        let grant = Grant {
            header: header.clone(),
            // Renewed a little early: the request still has to get there.
            expires: Some(Instant::now() + Duration::from_secs(lifetime) * 9 / 10),
            refresh: answer.refresh_token.filter(|token| !token.is_empty()),
            challenge: Some(challenge.clone()),
        };
        self.tokens.keep(key.clone(), grant);
        Ok(header)
    }

    fn get(
        &self,
        (mut url, insecure, endpoint): (Url, bool, &Endpoint),
        service: &str,
        scope: &str,
        auth: &Auth,
        cancel: &Cancel,
    ) -> Result<Answer, Error> {
        if !service.is_empty() {
            url.push_query("service", service);
        }
        for scope in scope.split(' ').filter(|s| !s.is_empty()) {
            url.push_query("scope", scope);
        }
        if let Auth::Basic { user, .. } = auth {
            url.push_query("account", user);
            // Only a login asks for nothing in particular, and keeps what it gets.
            if scope.is_empty() {
                url.push_query("client_id", "docker");
                url.push_query("offline_token", "true");
            }
        }
        self.ask(
            Send::get(url, insecure, Some(endpoint)).authorization(auth.basic()),
            cancel,
        )
    }

    fn post(
        &self,
        (url, insecure, endpoint): (Url, bool, &Endpoint),
        service: &str,
        scope: &str,
        token: &str,
        cancel: &Cancel,
    ) -> Result<Answer, Error> {
        let mut form = String::new();
        for (name, value) in [
            ("client_id", "docker"),
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("scope", scope),
            ("service", service),
        ] {
            form.push_str(&format!(
                "{}{name}={}",
                if form.is_empty() { "" } else { "&" },
                encode(value)
            ));
        }
        let mut send = Send::get(url, insecure, Some(endpoint));
        send.method = "POST";
        send.payload = Payload::Bytes(form.as_bytes());
        send.headers
            .push(("Content-Type", "application/x-www-form-urlencoded".to_owned()));
        self.ask(send, cancel)
    }

    fn ask(&self, mut send: Send<'_>, cancel: &Cancel) -> Result<Answer, Error> {
        let (method, url) = (send.method, send.url.clone());
        let response = self.follow(&mut send, cancel)?;
        if !(200..300).contains(&response.status) {
            return Err(Error::from_response(response));
        }
        let body = response
            .body
            .read_all(ANSWER_LIMIT)
            .map_err(|e| transport_error(method, &url, &e))?;
        let body = body.unwrap_or_default();
        json::from_slice(&body).map_err(|e| Error::Protocol(format!("unable to decode token response: {e}")))
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default, deserialize_with = "lenient_seconds")]
    expires_in: Option<u64>,
}

/// Services write the lifetime as a number or as a string.
fn lenient_seconds(field: &mut Option<u64>, reader: &mut json::Reader<'_>) -> json::Result<()> {
    let value = serde_json::Value::read(reader)?;
    *field = value
        .as_u64()
        .or_else(|| value.as_f64().map(|f| f as u64))
        .or_else(|| value.as_str().and_then(|s| s.parse().ok()));
    Ok(())
}
