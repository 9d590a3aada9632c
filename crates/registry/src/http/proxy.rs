//! Which requests go through a proxy: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as Go's `net/http` (and so
//! Docker) reads them, upper or lower case.

use std::net::IpAddr;

use super::url::{Scheme, Url, split_host_port};
use crate::base64;
use crate::cidr::Cidr;

/// A proxy that speaks plain HTTP to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// Ready value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// The proxies of a client, one per scheme of the target.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
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

    /// The proxy for a URL. Loopback never goes through one.
    pub fn for_url(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }?;
        let ip: Option<IpAddr> = url.host.parse().ok();
        let direct = url.host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.no_proxy.iter().any(|pattern| excludes(pattern, url, ip));
        (!direct).then_some(proxy)
    }
}

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
    let name = name.trim_start_matches('*');
    match name.strip_prefix('.') {
        Some(domain) => url.host.ends_with(name) || (pattern.starts_with('.') && url.host == domain),
        None => url.host == name || url.host.strip_suffix(name).is_some_and(|head| head.ends_with('.')),
    }
}

fn parse(value: &str) -> Option<Proxy> {
    if value.is_empty() {
        return None;
    }
    let url = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let parsed = Url::parse(&url).filter(|u| u.scheme == Scheme::Http);
    let Some(parsed) = parsed else {
        log::warn!("proxy {value:?} is not an http:// URL: not used");
        return None;
    };
    let authority = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap_or("");
    let authorization = authority
        .rsplit_once('@')
        .map(|(user, _)| format!("Basic {}", base64::encode(decode_percent(user).as_bytes())));
    // A proxy URL without a port means port 80, as for any http URL.
    Some(Proxy {
        host: parsed.host,
        port: parsed.port,
        authorization,
    })
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
        proxies.for_url(&Url::parse(url).unwrap()).is_some()
    }

    #[test]
    fn no_proxy_patterns() {
        let p = Proxies::new(
            "",
            "u%40x:p@proxy:3128",
            "corp.example, .dot.example,10.0.0.0/8,host:5000",
        );
        for (url, expected) in [
            ("https://registry-1.docker.io/", true),
            ("http://registry-1.docker.io/", false),
            ("https://corp.example/", false),
            ("https://a.corp.example/", false),
            ("https://notcorp.example/", true),
            ("https://a.dot.example/", false),
            ("https://10.1.2.3/", false),
            ("https://11.1.2.3/", true),
            ("https://host:5000/", false),
            ("https://host:5001/", true),
            ("https://localhost/", false),
            ("https://127.0.0.2/", false),
        ] {
            assert_eq!(through(&p, url), expected, "{url}");
        }
        let proxy = p.for_url(&Url::parse("https://a/").unwrap()).unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dUB4OnA="));
        assert!(!through(&Proxies::new("", "p:1", "*"), "https://a/"));
    }
}
