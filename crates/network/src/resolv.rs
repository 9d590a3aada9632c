//! The content of a container's `/etc/resolv.conf`, pure; as Docker makes it from the host's.

use std::net::IpAddr;

/// Used when the host has no name server that a container can reach.
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// What systemd-resolved writes for everybody behind its stub on 127.0.0.53.
pub const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// What a container asks for; empty means the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// Which file of the host to start from: its `/etc/resolv.conf`, unless that names only systemd-resolved's stub.
pub fn is_resolved_stub(host: &str) -> bool {
    let servers = values(host, "nameserver");
    servers.len() == 1 && servers[0] == "127.0.0.53"
}

/// Makes the content for a container with a network namespace of its own.
///
/// Name servers on the host's loopback are left out, as they cannot be reached; if none remains, public ones
/// stand in. `search` of `.` means none.
pub fn resolv_conf(host: &str, dns: &Dns) -> String {
    let given = !dns.servers.is_empty();
    let mut servers = if given { dns.servers.clone() } else { reachable(host) };
    if servers.is_empty() {
        servers = PUBLIC.iter().map(|s| (*s).to_owned()).collect();
    }
    let words = |name: &str| -> Vec<String> {
        let last = values(host, name).pop().unwrap_or_default();
        last.split_ascii_whitespace().map(str::to_owned).collect()
    };
    let mut search = if dns.search.is_empty() {
        words("search")
    } else {
        dns.search.clone()
    };
    if dns.search == ["."] {
        search.clear();
    }
    let options = if dns.options.is_empty() {
        words("options")
    } else {
        dns.options.clone()
    };
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn reachable(host: &str) -> Vec<String> {
    let loopback = |server: &String| {
        let address: Option<IpAddr> = server.split('%').next().and_then(|text| text.parse().ok());
        address.is_none_or(|address| address.is_loopback() || address.is_ipv6())
    };
    // IPv6 servers too: the container has no IPv6 address to ask from.
    values(host, "nameserver")
        .into_iter()
        .filter(|server| !loopback(server))
        .collect()
}

/// All servers that a `resolv.conf` names, reachable from a container or not.
pub fn servers(text: &str) -> Vec<String> {
    values(text, "nameserver")
}

/// The options in force: those given, else the host's.
pub fn options(host: &str, dns: &Dns) -> Vec<String> {
    if !dns.options.is_empty() {
        return dns.options.clone();
    }
    let last = values(host, "options").pop().unwrap_or_default();
    last.split_ascii_whitespace().map(str::to_owned).collect()
}

fn values(text: &str, name: &str) -> Vec<String> {
    let value = |line: &str| {
        let line = line.split(['#', ';']).next().unwrap_or(line).trim();
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '\t']).then(|| rest.trim().to_owned())
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_hosts() {
        let host = "# c\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # x\nnameserver ::1\nnameserver fd00::1\nsearch a b\noptions edns0\n";
        assert_eq!(
            resolv_conf(host, &Dns::default()),
            "search a b\nnameserver 192.0.2.1\noptions edns0\n"
        );
        assert_eq!(
            resolv_conf("nameserver 127.0.0.1\n", &Dns::default()),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
        );
        let dns = Dns {
            servers: vec!["127.0.0.1".into()],
            search: vec![".".into()],
            options: vec!["ndots:2".into()],
        };
        assert_eq!(resolv_conf(host, &dns), "nameserver 127.0.0.1\noptions ndots:2\n");
        assert!(is_resolved_stub("nameserver 127.0.0.53\noptions trust-ad\n"));
        assert!(!is_resolved_stub(host));
    }
}
