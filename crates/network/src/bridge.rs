//! A bridge on the host: made, addressed and up.

use std::fs;
use std::net::Ipv4Addr;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::netlink::Netlink;
use crate::random;
use crate::subnet::Subnet;

/// What a bridge is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    /// None for an internal network: the host has no address on it.
    pub address: Option<Ipv4Addr>,
    pub subnet: Subnet,
    pub mtu: u32,
    /// Packets from 127.0.0.1 may leave over it.
    pub route_localnet: bool,
}

/// The IPv4 address a link has, with its network: an existing bridge keeps its own.
pub fn address_of(name: &str) -> Result<Option<(Ipv4Addr, Subnet)>> {
    let what = || format!("look at link {name}");
    let mut netlink = Netlink::open().what(what)?;
    let Some(link) = netlink.link(name).what(what)? else {
        return Ok(None);
    };
    let first = netlink.addresses(link.index).what(what)?.into_iter().next();
    Ok(first.and_then(|(address, prefix)| Subnet::of(address, prefix).map(|subnet| (address, subnet))))
}

/// The destinations the host has routes to, those over `except` left out.
pub fn routes(except: Option<&str>) -> Result<Vec<Subnet>> {
    let what = || "list routes".to_owned();
    let mut netlink = Netlink::open().what(what)?;
    let own = match except {
        Some(name) => netlink.link(name).what(what)?.map(|link| link.index),
        None => None,
    };
    let routes = netlink.routes().what(what)?;
    Ok(routes
        .into_iter()
        .filter(|(_, link)| Some(*link) != own)
        .map(|(subnet, _)| subnet)
        .collect())
}

impl Bridge {
    /// Brings the bridge about, changing as little as possible. Its index.
    pub fn ensure(&self) -> Result<u32> {
        let name = &self.name;
        let what = |step: &'static str| move || format!("{step} bridge {name}");
        let mut netlink = Netlink::open().what(|| "open netlink".to_owned())?;
        let link = match netlink.link(name).what(what("look for"))? {
            Some(link) => link,
            None => {
                let [a, b, c, d] = random::bytes()?;
                netlink
                    .add_bridge(name, [2, 0x42, a, b, c, d], self.mtu)
                    .what(what("create"))?;
                netlink.link(name).what(what("look for"))?.unwrap_or_default()
            }
        };
        if link.kind != "bridge" {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("existing interface {name} is not a bridge"),
            ));
        }
        if let Some(address) = self.address {
            netlink
                .add_address(link.index, address, self.subnet)
                .what(what("address"))?;
        }
        if !link.up {
            netlink.set_up(link.index).what(what("set up"))?;
        }
        if self.route_localnet {
            let file = format!("/proc/sys/net/ipv4/conf/{name}/route_localnet");
            fs::write(&file, "1").what(|| format!("write 1 to {file}"))?;
        }
        Ok(link.index)
    }

    /// Removes the bridge. One that is gone already is no error.
    pub fn remove(&self) -> Result<()> {
        let mut netlink = Netlink::open().what(|| "open netlink".to_owned())?;
        netlink
            .remove_link(&self.name)
            .what(|| format!("remove bridge {}", self.name))
            .map(drop)
    }
}

/// Makes the host forward packets. True if it did not before.
pub fn enable_forwarding() -> Result<bool> {
    const FILE: &str = "/proc/sys/net/ipv4/ip_forward";
    let now = fs::read_to_string(FILE).what(|| format!("read {FILE}"))?;
    if now.trim() == "1" {
        return Ok(false);
    }
    fs::write(FILE, "1").what(|| format!("write 1 to {FILE}"))?;
    Ok(true)
}
