//! Which requests go through a proxy: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as Go's `net/http` (and so
//! Docker) reads them, upper or lower case.

use std::net::IpAddr;

use oci::base64;

use super::url::{Scheme, Url, split_host_port};
use crate::cidr::Cidr;

/// A proxy that speaks HTTP to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    scheme: Scheme,
    /// Ready value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl Proxy {
    /// Its URL, if it is spoken to by TLS.
    pub fn by_tls(&self) -> Option<Url> {
        (self.scheme == Scheme::Https).then(|| Url {
            scheme: self.scheme,
            host: self.host.clone(),
            port: self.port,
            target: "/".to_owned(),
        })
    }
}

/// The proxies of a client, one per scheme of the target.
///
/// One that was asked for and cannot be used is an error of each request that it is for: nobody who names a proxy wants
/// to be sent past it.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Result<Proxy, String>>,
    https: Option<Result<Proxy, String>>,
    no_proxy: Vec<String>,
}

impl Proxies {
    /// Reads this process's environment.
    pub fn from_env() -> Proxies {
        let [http, https, none] = ["http_proxy", "https_proxy", "no_proxy"].map(Proxies::of_env);
        Proxies::new(&http, &https, &none)
    }

    /// One variable of this process's environment, in capitals before in small letters; empty for none.
    pub fn of_env(name: &str) -> String {
        [name.to_ascii_uppercase(), name.to_ascii_lowercase()]
            .iter()
            .find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()))
            .unwrap_or_default()
    }

    /// Takes the three values as they stand in the environment or in `daemon.json`; empty is none.
    pub fn new(http: &str, https: &str, no_proxy: &str) -> Proxies {
        Proxies {
            http: parse(http),
            https: parse(https),
            no_proxy: no_proxy
                .split(',')
                .map(|p| p.trim().to_ascii_lowercase())
                .filter(|p| !p.is_empty())
                .collect(),
        }
    }

    /// The proxy for a URL, or why the one that was asked for cannot be used. Loopback never goes through one.
    pub fn for_url(&self, url: &Url) -> Result<Option<&Proxy>, String> {
        let proxy = match url.scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        let Some(proxy) = proxy else { return Ok(None) };
        let ip: Option<IpAddr> = url.host.parse().ok();
        let direct = url.host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.no_proxy.iter().any(|pattern| excludes(pattern, url, ip));
        if direct {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(Clone::clone)
    }
}

/// `domain` is itself and what is below it; `.domain` and `*.domain` only what is below.
fn excludes(pattern: &str, url: &Url, ip: Option<IpAddr>) -> bool {
    if pattern == "*" {
        return true;
    }
    if let (Some(cidr), Some(ip)) = (Cidr::parse(pattern), ip) {
        return cidr.contains(ip);
    }
    let Some((name, port)) = split_host_port(pattern) else {
        return false;
    };
    if port.is_some_and(|port| port != url.port) {
        return false;
    }
    let below = |domain: &str| url.host.strip_suffix(domain).is_some_and(|head| head.ends_with('.'));
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => below(domain),
        None => url.host == name || below(&name),
    }
}

fn parse(value: &str) -> Option<Result<Proxy, String>> {
    if value.is_empty() {
        return None;
    }
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    // What is not of the host may be a password, and is not for the log.
    let Some(url) = Url::parse(&format!("{scheme}://{host}")) else {
        return Some(Err(format!(
            "proxy {scheme}://{host} cannot be used: http:// and https:// can"
        )));
    };
    // A proxy URL without a port means that of its scheme, as any URL.
    Some(Ok(Proxy {
        host: url.host,
        port: url.port,
        scheme: url.scheme,
        authorization: user.map(|user| format!("Basic {}", base64::encode(decode_percent(user).as_bytes()))),
    }))
}

fn decode_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[i], hex) {
            (b'%', Some(b)) => {
                out.push(b);
                i += 3;
            }
            (b, _) => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(proxies: &Proxies, url: &str) -> bool {
        proxies.for_url(&Url::parse(url).unwrap()).unwrap().is_some()
    }

    #[test]
    fn no_proxy_patterns() {
        let p = Proxies::new(
            "",
            "u%40x:p@proxy:3128",
            "corp.example, .dot.example,*.star.example,*odd.example,10.0.0.0/8,host:5000",
        );
        for (url, expected) in [
            ("https://registry-1.docker.io/", true),
            ("http://registry-1.docker.io/", false),
            ("https://corp.example/", false),
            ("https://a.corp.example/", false),
            ("https://notcorp.example/", true),
            ("https://a.dot.example/", false),
            ("https://dot.example/", true),
            ("https://a.star.example/", false),
            ("https://star.example/", true),
            ("https://odd.example/", true),
            ("https://10.1.2.3/", false),
            ("https://11.1.2.3/", true),
            ("https://host:5000/", false),
            ("https://host:5001/", true),
            ("https://localhost/", false),
            ("https://127.0.0.2/", false),
        ] {
            assert_eq!(through(&p, url), expected, "{url}");
        }
        let proxy = p.for_url(&Url::parse("https://a/").unwrap()).unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dUB4OnA="));
        assert!(!through(&Proxies::new("", "p:1", "*"), "https://a/"));
    }

    #[test]
    fn what_is_no_proxy_is_not_passed_by() {
        for (value, shown) in [
            ("socks5://u:secret@proxy:1080", "socks5://proxy:1080"),
            ("ftp://proxy", "ftp://proxy"),
            ("http://u:secret@proxy:99999", "http://proxy:99999"),
            ("http://u:secret@", "http://"),
        ] {
            let p = Proxies::new("", value, "direct.example");
            let why = p.for_url(&Url::parse("https://a/").unwrap()).unwrap_err();
            assert_eq!(why, format!("proxy {shown} cannot be used: http:// and https:// can"));
            assert!(!through(&p, "https://direct.example/"));
            assert!(!through(&p, "https://127.0.0.1/"));
        }
        let p = Proxies::new("", "https://u:p/w@proxy", "");
        assert!(
            !format!("{:?}", p.for_url(&Url::parse("https://a/").unwrap())).contains("p/w"),
            "{p:?}"
        );
        let p = Proxies::new("", "https://u:p@proxy", "");
        let url = p.for_url(&Url::parse("https://a/").unwrap()).unwrap().unwrap().by_tls();
        assert_eq!(url.unwrap().to_string(), "https://proxy/");
    }
}
