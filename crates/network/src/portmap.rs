//! Published ports, pure: what a user asks for, and which host port it gets.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use json::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where ports are taken from when none is asked for: Linux's default `ip_local_port_range`.
pub const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Protocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(Error::invalid(format!("invalid proto: {text}"))),
        }
    }
}

/// A port of a container: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
}

impl FromStr for Port {
    type Err = Error;

    /// `80` is `80/tcp`.
    fn from_str(text: &str) -> Result<Port> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|_| !number.starts_with('+'));
        let number = number.ok_or_else(|| Error::invalid(format!("invalid containerPort: {text}")))?;
        Ok(Port {
            number,
            protocol: protocol.parse()?,
        })
    }
}

/// One port to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub port: Port,
    /// `None`: the daemon's default address.
    pub host_ip: Option<IpAddr>,
    /// `None`: any free one.
    pub host_ports: Option<RangeInclusive<u16>>,
}

impl Publish {
    /// Takes the strings of the API's `PortBindings`: `HostIp` and `HostPort`, either may be empty.
    pub fn parse(port: &str, host_ip: &str, host_port: &str) -> Result<Publish> {
        let host_ip = match host_ip.trim_start_matches('[').trim_end_matches(']') {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| Error::invalid(format!("invalid IP address: {host_ip}")))?,
            ),
        };
        let bad = || Error::invalid(format!("invalid hostPort: {host_port}"));
        let host_ports = match host_port.split_once('-') {
            _ if host_port.is_empty() || host_port == "0" => None,
            None => {
                let number: u16 = host_port.parse().map_err(|_| bad())?;
                Some(number..=number)
            }
            Some((first, last)) => {
                let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
                if first == 0 || first > last {
                    return Err(bad());
                }
                Some(first..=last)
            }
        };
        Ok(Publish {
            port: port.parse()?,
            host_ip,
            host_ports,
        })
    }
}

/// A port that is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Binding {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_ip: IpAddr,
    pub host_port: u16,
}

impl Binding {
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip, self.host_port)
    }

    /// Says whether both want the same packets.
    fn collides(&self, other: &Binding) -> bool {
        let same_family = self.host_ip.is_ipv4() == other.host_ip.is_ipv4();
        let same_address =
            self.host_ip == other.host_ip || self.host_ip.is_unspecified() || other.host_ip.is_unspecified();
        self.protocol == other.protocol && self.host_port == other.host_port && same_family && same_address
    }
}

/// The host's ports in use by containers.
#[derive(Clone, Debug, Default)]
pub struct HostPorts {
    used: BTreeSet<Binding>,
    /// Where the search for a free port goes on, so that a port just released is not the next one given.
    next: u16,
}

impl HostPorts {
    /// Candidates for a request, in the order to try them; those in use by containers left out.
    ///
    /// A port may still be taken by another program of the host: whoever binds it tries one after the other.
    pub fn candidates(&self, publish: &Publish, default_ip: Ipv4Addr) -> Result<Vec<Binding>> {
        let host_ip = publish.host_ip.unwrap_or(IpAddr::V4(default_ip));
        let binding = |host_port| Binding {
            protocol: publish.port.protocol,
            container_port: publish.port.number,
            host_ip,
            host_port,
        };
        let free = |b: &Binding| !self.used.iter().any(|used| used.collides(b));
        let ports: Vec<u16> = match &publish.host_ports {
            Some(range) => range.clone().collect(),
            None => {
                let next = self.next.clamp(*EPHEMERAL.start(), *EPHEMERAL.end());
                (next..=*EPHEMERAL.end()).chain(*EPHEMERAL.start()..next).collect()
            }
        };
        // 64 occupied in a row: something else is wrong.
        let found: Vec<Binding> = ports.into_iter().map(binding).filter(free).take(64).collect();
        if found.is_empty() {
            let text = match &publish.host_ports {
                Some(range) if range.start() == range.end() => {
                    let host = SocketAddr::new(host_ip, *range.start());
                    format!("Bind for {host} failed: port is already allocated")
                }
                _ => "all ports are allocated".to_owned(),
            };
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        Ok(found)
    }

    pub fn claim(&mut self, binding: Binding, ephemeral: bool) {
        if ephemeral {
            self.next = binding.host_port.saturating_add(1);
        }
        self.used.insert(binding);
    }

    pub fn release(&mut self, binding: &Binding) {
        self.used.remove(binding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    #[test]
    fn requests() {
        let publish = Publish::parse("80", "", "8080").unwrap();
        assert_eq!(
            (publish.port.protocol, publish.host_ports),
            (Protocol::Tcp, Some(8080..=8080))
        );
        assert_eq!(
            Publish::parse("53/UDP", "127.0.0.1", "").unwrap().port.protocol,
            Protocol::Udp
        );
        assert_eq!(
            Publish::parse("80", "", "8000-8010").unwrap().host_ports,
            Some(8000..=8010)
        );
        assert_eq!(
            Publish::parse("80", "[::1]", "0").unwrap().host_ip,
            Some("::1".parse().unwrap())
        );
        for (port, ip, host) in [
            ("x", "", ""),
            ("80/x", "", ""),
            ("80", "y", ""),
            ("80", "", "70000"),
            ("80", "", "9-8"),
            ("+80", "", ""),
        ] {
            assert!(Publish::parse(port, ip, host).is_err(), "{port} {ip} {host}");
        }
    }

    #[test]
    fn conflicts() {
        let mut ports = HostPorts::default();
        let ask = |ip: &str, port: &str| Publish::parse("80", ip, port).unwrap();
        let first = ports.candidates(&ask("127.0.0.1", "8080"), ANY).unwrap()[0];
        ports.claim(first, false);
        let error = ports.candidates(&ask("", "8080"), ANY).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        assert!(ports.candidates(&ask("127.0.0.2", "8080"), ANY).is_ok());
        assert!(ports.candidates(&ask("::1", "8080"), ANY).is_ok());
        assert!(
            ports
                .candidates(&Publish::parse("80/udp", "", "8080").unwrap(), ANY)
                .is_ok()
        );
        assert_eq!(ports.candidates(&ask("", "8079-8081"), ANY).unwrap().len(), 2);
        ports.release(&first);
        assert!(ports.candidates(&ask("", "8080"), ANY).is_ok());
    }

    #[test]
    fn ephemeral_ports_go_round() {
        let mut ports = HostPorts::default();
        let any = Publish::parse("80", "", "").unwrap();
        for expected in [32768, 32769] {
            let found = ports.candidates(&any, ANY).unwrap()[0];
            assert_eq!(found.host_port, expected);
            ports.claim(found, true);
            ports.release(&found);
        }
        let last = Binding {
            host_port: 60999,
            ..ports.candidates(&any, ANY).unwrap()[0]
        };
        ports.claim(last, true);
        assert_eq!(ports.candidates(&any, ANY).unwrap()[0].host_port, 32768);
    }
}
