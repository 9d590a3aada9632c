//! The content of a container's `/etc/hosts` and `/etc/hostname`, pure; as Docker writes them.

use std::net::IpAddr;

const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: the loopback names, `--add-host` entries, and the container's own names for each address.
pub fn hosts(hostname: &str, domain: &str, addresses: &[IpAddr], extra: &[(String, String)]) -> String {
    let mut text = LOCAL.to_owned();
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    let names = if domain.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domain} {hostname}")
    };
    if !hostname.is_empty() {
        for address in addresses {
            text.push_str(&format!("{address}\t{names}\n"));
        }
    }
    text
}

/// `/etc/hostname`
pub fn hostname(hostname: &str, domain: &str) -> String {
    if domain.is_empty() {
        format!("{hostname}\n")
    } else {
        format!("{hostname}.{domain}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content() {
        let text = hosts(
            "web",
            "lan",
            &["172.17.0.2".parse().unwrap()],
            &[("db".into(), "10.0.0.1".into())],
        );
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"));
        assert!(text.ends_with("ff02::2\tip6-allrouters\n10.0.0.1\tdb\n172.17.0.2\tweb.lan web\n"));
        assert_eq!(hosts("", "", &[], &[]), LOCAL);
        assert_eq!(hostname("web", ""), "web\n");
    }
}
