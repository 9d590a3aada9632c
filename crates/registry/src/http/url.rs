//! The little of URLs a registry client needs: absolute `http` and `https` URLs, references resolved
//! against them (RFC 3986 section 5.3 without fragments), and percent encoding of query values.

use std::fmt;

/// Says whether a URL's bytes travel in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// An absolute URL without user info and fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    pub scheme: Scheme,
    /// Name or address, lower case; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Begins with `/`; holds the query, if any.
    pub target: String,
}

impl Url {
    /// Parses an absolute URL. `None` for anything a request cannot be sent to.
    pub fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(at);
        // User info in a URL is not sent anywhere: credentials come from `Auth` alone.
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = split_host_port(authority)?;
        let target = match tail.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{tail}"),
            Some(_) => tail.to_owned(),
        };
        if host.is_empty() || !printable(&host) || !printable(&target) {
            return None;
        }
        Some(Url {
            scheme,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(scheme.default_port()),
            target,
        })
    }

    /// Resolves a `Location` header against this URL.
    pub fn join(&self, location: &str) -> Option<Url> {
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let folder = &path[..=path.rfind('/').unwrap_or(0)];
            format!("{folder}{location}")
        };
        let target = target.split('#').next().unwrap_or(&target).to_owned();
        printable(&target).then(|| Url { target, ..self.clone() })
    }

    /// The same server with another path and query.
    pub fn with_target(&self, target: String) -> Url {
        Url { target, ..self.clone() }
    }

    /// `host` or `host:port`, as in the `Host` header: the port is left out where it is the scheme's own.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            bracketed(&self.host)
        } else {
            self.host_port()
        }
    }

    /// `host:port`, always with the port.
    pub fn host_port(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// Adds a query parameter, percent encoded.
    pub fn push_query(&mut self, name: &str, value: &str) {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&encode(value));
    }

    /// Says whether both are the same server in the same clear text or TLS.
    pub fn same_origin(&self, other: &Url) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }
}

/// Splits `host[:port]`; IPv6 addresses are in brackets. `None` for a port that is no number.
pub fn split_host_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        (host, tail.strip_prefix(':').unwrap_or(""))
    } else {
        match authority.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return None,
            Some((host, port)) => (host, port),
            None => (authority, ""),
        }
    };
    let port = if port.is_empty() {
        None
    } else {
        Some(port.parse().ok()?)
    };
    Some((host.to_owned(), port))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// No spaces, controls or bytes above ASCII: nothing that could end a request line early.
fn printable(text: &str) -> bool {
    text.bytes().all(|b| (0x21..0x7f).contains(&b))
}

/// Percent encodes for a query value or a form field.
pub fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, shown) in [
            ("https://registry-1.docker.io/v2/", "https://registry-1.docker.io/v2/"),
            ("HTTP://Host:80?x=1", "http://host/?x=1"),
            ("https://[::1]:5000/a#frag", "https://[::1]:5000/a"),
            ("https://user:pw@h/a", "https://h/a"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "ftp://h/",
            "https://",
            "https://h:70000/",
            "https://h/a b",
            "h/a",
            "https://h/\r\nX: y",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn resolves_locations() {
        let base = Url::parse("https://h:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, shown) in [
            ("/v2/b", "https://h:5000/v2/b"),
            ("c?d=e", "https://h:5000/v2/a/blobs/uploads/c?d=e"),
            ("?d=e", "https://h:5000/v2/a/blobs/uploads/?d=e"),
            ("//o/p", "https://o/p"),
            ("http://o:81/p?u=https://q/", "http://o:81/p?u=https://q/"),
            ("/p?u=https://q/", "https://h:5000/p?u=https://q/"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn query_values_are_encoded() {
        let mut url = Url::parse("https://a/token?x=1").unwrap();
        url.push_query("scope", "repository:a/b:pull,push");
        assert_eq!(url.target, "/token?x=1&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    }
}
