//! Holding a host port: a socket bound and never listened on.
//!
//! The kernel forwards published ports, so nobody would notice that two programs want the same one. A bound
//! socket makes the second `bind` fail, here or in any other program of the host; as it does not listen, what
//! the forwarding rules leave (IPv6, for one) is refused at once instead of hanging. Docker listens, and runs
//! a process per port; this costs a descriptor.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::portmap::{Binding, Protocol};

/// A host port that is ours while this lives.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "owned for its Drop")] OwnedFd);

impl Held {
    pub fn bind(binding: &Binding) -> io::Result<Held> {
        let socket = open(binding)?;
        match rustix::net::bind(&socket, &binding.host()) {
            Ok(()) => Ok(Held(socket)),
            // Connections of an earlier owner in TIME_WAIT also count as in use. A listening socket may share
            // with those, though not with a live one.
            Err(rustix::io::Errno::ADDRINUSE) if binding.protocol == Protocol::Tcp => {
                let socket = open(binding)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                rustix::net::bind(&socket, &binding.host())?;
                rustix::net::listen(&socket, 0)?;
                Ok(Held(socket))
            }
            Err(e) => Err(e.into()),
        }
    }
}

fn open(binding: &Binding) -> io::Result<OwnedFd> {
    let (family, v6) = if binding.host_ip.is_ipv4() {
        (AddressFamily::INET, false)
    } else {
        (AddressFamily::INET6, true)
    };
    let (kind, protocol) = match binding.protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    if v6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
