//! Addresses and routes, IPv4 (`linux/if_addr.h`, `linux/rtnetlink.h`).

use std::io;
use std::net::Ipv4Addr;

use super::Netlink;
use super::message::{CREATE, EXCL, Message, REPLACE, attributes, u32_at};
use crate::subnet::Subnet;

const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const INET: u8 = 2;

/// `struct ifaddrmsg`
fn address_header(prefix: u8, index: u32) -> [u8; 8] {
    let mut bytes = [INET, prefix, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}

fn address_at(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

impl Netlink {
    /// Gives a link an address. One it has already is no error.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, subnet: Subnet) -> io::Result<()> {
        let mut message = Message::new(NEWADDR, CREATE | EXCL, &address_header(subnet.prefix(), index));
        message
            .attribute(IFA_LOCAL, &address.octets())
            .attribute(IFA_ADDRESS, &address.octets());
        message.attribute(IFA_BROADCAST, &subnet.broadcast().octets());
        match self.ask(message) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// The addresses of a link with their prefix lengths.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut found = Vec::new();
        self.dump(GETADDR, &address_header(0, 0), |_, body| {
            let (Some(prefix), Some(of)) = (body.get(1), u32_at(body, 4)) else {
                return;
            };
            if of != index || body[0] != INET {
                return;
            }
            let all = || attributes(body.get(8..).unwrap_or(&[]));
            let local = all()
                .find(|(kind, _)| *kind == IFA_LOCAL)
                .or_else(|| all().find(|(kind, _)| *kind == IFA_ADDRESS));
            found.extend(
                local
                    .and_then(|(_, value)| address_at(value))
                    .map(|address| (address, *prefix)),
            );
        })?;
        Ok(found)
    }

    /// Sends everything else through a gateway.
    pub fn set_default_route(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        let fixed = [INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
        let mut message = Message::new(NEWROUTE, CREATE | REPLACE, &fixed);
        message.attribute(RTA_GATEWAY, &gateway.octets());
        self.ask(message)
    }

    /// The destinations of the main table, but the default one, with the link each goes through.
    pub fn routes(&mut self) -> io::Result<Vec<(Subnet, u32)>> {
        let mut found = Vec::new();
        self.dump(GETROUTE, &[INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_, body| {
            let (Some(INET), Some(prefix), Some(RT_TABLE_MAIN)) =
                (body.first().copied(), body.get(1), body.get(4).copied())
            else {
                return;
            };
            let (mut target, mut link) = (None, 0);
            for (kind, value) in attributes(body.get(12..).unwrap_or(&[])) {
                match kind {
                    RTA_DST => target = address_at(value),
                    RTA_OIF => link = u32_at(value, 0).unwrap_or(0),
                    _ => {}
                }
            }
            let subnet = target
                .and_then(|target| Subnet::of(target, *prefix))
                .filter(|_| *prefix > 0);
            found.extend(subnet.map(|subnet| (subnet, link)));
        })?;
        Ok(found)
    }
}
