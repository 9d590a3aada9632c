//! The client: its settings, and which servers stand for a registry's name.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci::reference::Reference;

use crate::auth::Auth;
use crate::cidr::Cidr;
use crate::error::Error;
use crate::http::{Cancel, Client, Proxies, Settings, Url, split_host_port};
use crate::repository::Repository;
use crate::token::Tokens;

/// Where `docker.io` really answers.
const HUB: &str = "registry-1.docker.io";

/// The settings of a [`Registry`], as `daemon.json` has them.
#[derive(Clone, Debug)]
pub struct Config {
    /// `insecure-registries`: `host`, `host:port` or a range of addresses, `10.0.0.0/8`. A host without a port is that of
    /// its own name: the same host at another port is another registry. Loopback always is.
    pub insecure: Vec<String>,
    /// Nothing but what `insecure` lists by name is spoken to in the clear; loopback may still have any certificate.
    pub tls_only: bool,
    /// `registry-mirrors` of Docker Hub: `https://host[:port]`, tried first, in order.
    pub mirrors: Vec<String>,
    /// Directories that hold a `<host:port>` each with certificates.
    pub certs_dirs: Vec<PathBuf>,
    pub user_agent: String,
    /// How often a blob is tried without progress (`max-download-attempts`).
    pub max_attempts: u32,
    pub proxies: Proxies,
    pub connect_timeout: Duration,
    /// Longest wait for a single read: then the connection counts as stalled.
    pub stall_timeout: Duration,
    /// Bytes a second that are read at most, all transfers together, if there is such a limit: the kernel then receives no more ahead of
    /// us than that takes, for what was not read when a pull is cut comes again with the next.
    pub read_rate: Option<u64>,
    /// First wait before a blob is tried again; doubles up to 30 seconds.
    pub backoff: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            insecure: Vec::new(),
            tls_only: false,
            mirrors: Vec::new(),
            certs_dirs: vec!["/etc/balena-engine/certs.d".into(), "/etc/docker/certs.d".into()],
            user_agent: concat!("balena-engine/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_attempts: 5,
            proxies: Proxies::from_env(),
            connect_timeout: Duration::from_secs(30),
            read_rate: None,
            stall_timeout: Duration::from_secs(60),
            backoff: Duration::from_secs(1),
        }
    }
}

/// One server that may have what a reference names.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// With `/` as its target.
    pub url: Url,
    pub insecure: bool,
    /// The user says so, it is not only on loopback: whoever it sends us to, for tokens or blobs, may be insecure as well.
    pub listed: bool,
    pub mirror: bool,
}

/// A registry that vouches for the servers that it sends us to.
pub(crate) struct Voucher {
    /// `host[:port]`, whose certificates count.
    pub authority: String,
    /// See [`Endpoint::listed`].
    pub listed: bool,
}

impl Endpoint {
    pub fn voucher(&self) -> Voucher {
        Voucher {
            authority: self.url.authority(),
            listed: self.listed,
        }
    }
}

/// Why a server may be spoken to in the clear, or with any certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Insecure {
    No,
    Loopback,
    Listed,
}

/// A registry client. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub config: Config,
    pub client: Client,
    pub tokens: Tokens,
}

impl Registry {
    pub fn new(config: Config) -> Registry {
        let client = Client::new(Settings {
            user_agent: config.user_agent.clone(),
            certs_dirs: config.certs_dirs.clone(),
            proxies: config.proxies.clone(),
            connect_timeout: config.connect_timeout,
            stall_timeout: config.stall_timeout,
            read_rate: config.read_rate,
        });
        Registry(Arc::new(Shared {
            config,
            client,
            tokens: Tokens::default(),
        }))
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Opens a session with the repository a reference names. Does not connect yet.
    pub fn repository(&self, reference: &Reference, auth: Auth) -> Result<Repository, Error> {
        let domain = reference.repository().domain();
        let endpoints = self.0.endpoints(domain, true)?;
        Ok(Repository::new(
            self.clone(),
            reference.repository().clone(),
            endpoints,
            auth,
            Cancel::new(),
        ))
    }

    /// The same for a push, which never goes to a mirror.
    pub fn repository_for_push(&self, reference: &Reference, auth: Auth) -> Result<Repository, Error> {
        let domain = reference.repository().domain();
        let endpoints = self.0.endpoints(domain, false)?;
        Ok(Repository::new(
            self.clone(),
            reference.repository().clone(),
            endpoints,
            auth,
            Cancel::new(),
        ))
    }

    /// Checks credentials against a registry (`docker login`): asks `/v2/` and the token service.
    ///
    /// `server` is a host, a host and port, or a URL, as clients write it. Gives the identity token, where a token
    /// service hands one out.
    pub fn login(&self, server: &str, auth: Auth) -> Result<Option<String>, Error> {
        let stripped = server.split_once("://").map_or(server, |(_, rest)| rest);
        let domain = stripped.split('/').next().unwrap_or(stripped);
        let endpoints = self
            .0
            .endpoints(if domain.is_empty() { "docker.io" } else { domain }, false)?;
        crate::repository::login(self, &endpoints, auth)
    }

    /// Forgets idle connections, certificates and tokens, for a configuration reload.
    pub fn reset(&self) {
        self.0.client.reset();
        self.0.tokens.clear();
    }
}

impl Shared {
    /// The servers to ask for a registry, in order.
    pub fn endpoints(&self, domain: &str, mirrors: bool) -> Result<Vec<Endpoint>, Error> {
        let hub = matches!(domain, "docker.io" | "index.docker.io" | HUB);
        let mut found = Vec::new();
        if hub && mirrors {
            for mirror in &self.config.mirrors {
                let Some(url) = Url::parse(mirror.trim_end_matches('/')) else {
                    return Err(Error::Protocol(format!(
                        "invalid mirror: {mirror:?} is not a valid URI"
                    )));
                };
                let insecure = self.insecure(&url.authority());
                found.push(Endpoint {
                    url: url.with_target("/".to_owned()),
                    insecure: insecure != Insecure::No,
                    listed: insecure == Insecure::Listed,
                    mirror: true,
                });
            }
        }
        let host = if hub { HUB } else { domain };
        let why = self.insecure(host);
        let insecure = why != Insecure::No;
        let clear = insecure && (!self.config.tls_only || self.is_listed(host));
        let schemes: &[&str] = if clear { &["https", "http"] } else { &["https"] };
        for scheme in schemes {
            let url = Url::parse(&format!("{scheme}://{host}/"))
                .ok_or_else(|| Error::Protocol(format!("invalid registry name {host:?}")))?;
            found.push(Endpoint {
                url,
                insecure,
                listed: why == Insecure::Listed,
                mirror: false,
            });
        }
        Ok(found)
    }

    /// Says whether a host (with or without port) may be spoken to in the clear, or with any certificate.
    pub fn is_insecure(&self, authority: &str) -> bool {
        self.insecure(authority) != Insecure::No
    }

    fn insecure(&self, authority: &str) -> Insecure {
        let Some((host, port)) = split_host_port(authority) else {
            return Insecure::No;
        };
        if self.is_listed(authority) {
            return Insecure::Listed;
        }
        if host == "localhost" {
            return Insecure::Loopback;
        }
        let ranges: Vec<Cidr> = self
            .config
            .insecure
            .iter()
            .filter(|entry| entry.contains('/'))
            .filter_map(|entry| Cidr::parse(entry))
            .collect();
        let of = |ip: IpAddr| match ip.is_loopback() {
            true => Insecure::Loopback,
            false if ranges.iter().any(|range| range.contains(ip)) => Insecure::Listed,
            false => Insecure::No,
        };
        match host.parse() {
            Ok(ip) => of(ip),
            // Names are resolved only where ranges were configured: a look-up costs a round trip.
            Err(_) if ranges.is_empty() => Insecure::No,
            Err(_) => match (host.as_str(), port.unwrap_or(443)).to_socket_addrs() {
                Ok(addresses) => addresses
                    .map(|address| of(address.ip()))
                    .find(|why| *why != Insecure::No)
                    .unwrap_or(Insecure::No),
                Err(_) => Insecure::No,
            },
        }
    }

    /// Says whether a host is among the insecure ones by its name.
    fn is_listed(&self, authority: &str) -> bool {
        self.config.insecure.iter().any(|entry| entry == authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: Config, domain: &str) -> Vec<String> {
        let registry = Registry::new(config);
        registry
            .0
            .endpoints(domain, true)
            .unwrap()
            .iter()
            .map(|e| e.url.to_string())
            .collect()
    }

    #[test]
    fn endpoints_of_names() {
        let config = Config {
            insecure: vec![
                "plain.example:5000".into(),
                "named.example".into(),
                "12.1.1.1".into(),
                "10.0.0.0/8".into(),
            ],
            mirrors: vec!["https://mirror.example/".into()],
            ..Config::default()
        };
        for (domain, expected) in [
            (
                "docker.io",
                &["https://mirror.example/", "https://registry-1.docker.io/"][..],
            ),
            ("ghcr.io", &["https://ghcr.io/"]),
            ("127.0.0.1:5000", &["https://127.0.0.1:5000/", "http://127.0.0.1:5000/"]),
            ("[::1]:5000", &["https://[::1]:5000/", "http://[::1]:5000/"]),
            ("localhost", &["https://localhost/", "http://localhost/"]),
            (
                "plain.example:5000",
                &["https://plain.example:5000/", "http://plain.example:5000/"],
            ),
            ("plain.example", &["https://plain.example/"]),
            ("named.example", &["https://named.example/", "http://named.example/"]),
            ("named.example:5000", &["https://named.example:5000/"]),
            ("12.1.1.1", &["https://12.1.1.1/", "http://12.1.1.1/"]),
            ("12.1.1.1:5000", &["https://12.1.1.1:5000/"]),
            ("10.1.1.1", &["https://10.1.1.1/", "http://10.1.1.1/"]),
            ("10.1.1.1:5000", &["https://10.1.1.1:5000/", "http://10.1.1.1:5000/"]),
            ("11.1.1.1", &["https://11.1.1.1/"]),
        ] {
            assert_eq!(shown(config.clone(), domain), expected, "{domain}");
        }
        let listed = |domain: &str| {
            let registry = Registry::new(config.clone());
            let endpoints = registry.0.endpoints(domain, true).unwrap();
            endpoints.iter().any(|endpoint| endpoint.listed)
        };
        for (domain, expected) in [
            ("plain.example:5000", true),
            ("10.1.1.1", true),
            ("127.0.0.1:5000", false),
            ("localhost", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(listed(domain), expected, "{domain}");
        }
        let config = Config {
            tls_only: true,
            ..config
        };
        for (domain, expected) in [
            ("127.0.0.1:5000", &["https://127.0.0.1:5000/"][..]),
            ("localhost", &["https://localhost/"]),
            (
                "plain.example:5000",
                &["https://plain.example:5000/", "http://plain.example:5000/"],
            ),
        ] {
            assert_eq!(shown(config.clone(), domain), expected, "{domain}");
        }
    }
}
