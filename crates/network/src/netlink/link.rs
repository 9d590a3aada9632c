//! Links: bridges, veth pairs, and their state (`linux/if_link.h`, `linux/veth.h`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Netlink;
use super::message::{CREATE, EXCL, Message, attributes, u32_at};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const AF_BRIDGE: u8 = 7;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

/// What the kernel says of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    pub index: u32,
    /// `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    pub mtu: u32,
    pub up: bool,
}

/// A pair of interfaces to be made.
pub struct Veth<'a> {
    /// The end that stays here.
    pub name: &'a str,
    /// Index of the bridge it is put on.
    pub master: u32,
    pub mtu: u32,
    /// The end in the other namespace.
    pub peer: &'a str,
    pub peer_mac: [u8; 6],
    pub peer_namespace: BorrowedFd<'a>,
}

/// `struct ifinfomsg`
fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

impl Netlink {
    /// Finds a link by name. `None` if there is none.
    pub fn link(&mut self, name: &str) -> io::Result<Option<LinkInfo>> {
        let mut message = Message::new(GETLINK, 0, &header(0, 0, 0));
        message.text(IFLA_IFNAME, name);
        let mut found = LinkInfo::default();
        let result = self.exchange(message, |_, body| {
            found.index = u32_at(body, 4).unwrap_or(0);
            found.up = u32_at(body, 8).unwrap_or(0) & IFF_UP != 0;
            for (kind, value) in attributes(body.get(16..).unwrap_or(&[])) {
                match kind {
                    IFLA_MTU => found.mtu = u32_at(value, 0).unwrap_or(0),
                    IFLA_LINKINFO => {
                        let kind = attributes(value)
                            .find(|(kind, _)| *kind == INFO_KIND)
                            .map_or(&b""[..], |(_, v)| v);
                        found.kind = String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned();
                    }
                    _ => {}
                }
            }
        });
        match result {
            Ok(()) => Ok(Some(found)),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a bridge, up, with a MAC of its own: a bridge without one changes it with its ports.
    pub fn add_bridge(&mut self, name: &str, mac: [u8; 6], mtu: u32) -> io::Result<()> {
        let mut message = Message::new(NEWLINK, CREATE | EXCL, &header(0, IFF_UP, IFF_UP));
        message
            .text(IFLA_IFNAME, name)
            .attribute(IFLA_ADDRESS, &mac)
            .number(IFLA_MTU, mtu);
        message.nested(IFLA_LINKINFO, &[], |m| {
            m.text(INFO_KIND, "bridge");
        });
        self.ask(message)
    }

    /// Makes a veth pair in one request: this end up and on its bridge, the other down in its namespace.
    pub fn add_veth(&mut self, veth: &Veth<'_>) -> io::Result<()> {
        let mut message = Message::new(NEWLINK, CREATE | EXCL, &header(0, IFF_UP, IFF_UP));
        message
            .text(IFLA_IFNAME, veth.name)
            .number(IFLA_MTU, veth.mtu)
            .number(IFLA_MASTER, veth.master);
        message.nested(IFLA_LINKINFO, &[], |m| {
            m.text(INFO_KIND, "veth").nested(INFO_DATA, &[], |m| {
                // Not up yet: the peer is opened before the pair is joined, and refuses (ENOTCONN).
                m.nested(VETH_INFO_PEER, &header(0, 0, 0), |m| {
                    m.text(IFLA_IFNAME, veth.peer)
                        .number(IFLA_MTU, veth.mtu)
                        .attribute(IFLA_ADDRESS, &veth.peer_mac);
                    m.attribute(IFLA_NET_NS_FD, &veth.peer_namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask(message)
    }

    /// Lets a bridge's port send out what came in by it.
    pub fn set_hairpin(&mut self, port: &str) -> io::Result<()> {
        let index = self.link(port)?.ok_or(io::ErrorKind::NotFound)?.index;
        let mut fixed = header(index, 0, 0);
        fixed[0] = AF_BRIDGE;
        let mut message = Message::new(SETLINK, 0, &fixed);
        message.nested(IFLA_PROTINFO, &[], |m| {
            m.attribute(IFLA_BRPORT_MODE, &[1]);
        });
        self.ask(message)
    }

    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.ask(Message::new(NEWLINK, 0, &header(index, IFF_UP, IFF_UP)))
    }

    /// Removes a link by name, a veth with its other end. True if there was one.
    pub fn remove_link(&mut self, name: &str) -> io::Result<bool> {
        let mut message = Message::new(DELLINK, 0, &header(0, 0, 0));
        message.text(IFLA_IFNAME, name);
        match self.ask(message) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
