//! Route netlink: a socket that asks and waits, and the few requests a container's network takes.
//!
//! Our own encoder, not a crate: seven kinds of request and three of answer, some 300 lines against 20,000 of
//! `netlink-packet-route`, and the same encoder would serve nf_tables, which that crate does not.

mod batch;
mod link;
mod message;
mod route;

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

pub use batch::Batch;
pub use link::Veth;
pub use message::Message;
use message::{DUMP, HEADER, u16_at, u32_at};

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel's dumps come in pieces of at most 32 KiB.
const PIECE: usize = 32 << 10;

/// A socket of the network namespace of the thread that opened it.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        // Protocol 0 is NETLINK_ROUTE.
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends a request and waits for the kernel's verdict.
    fn ask(&mut self, message: Message) -> io::Result<()> {
        self.exchange(message, |_, _| {}).map(drop)
    }

    /// Sends a dump request; each answer's kind and body (behind the header) goes to `each`.
    fn dump(&mut self, kind: u16, fixed: &[u8], each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(Message::new(kind, DUMP, fixed), each)
    }

    fn exchange(&mut self, message: Message, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0; PIECE];
        loop {
            let (got, full) = match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if full > got {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "netlink answer was cut"));
            }
            let mut rest = &buffer[..got];
            while let Some(length) = u32_at(rest, 0) {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let Some(one) = rest.get(..length).filter(|one| one.len() >= HEADER) else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "netlink answer makes no sense",
                    ));
                };
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
                // Answers to a request that was given up before.
                if u32_at(one, 8) != Some(self.sequence) {
                    continue;
                }
                let body = &one[HEADER..];
                match u16_at(one, 4).unwrap_or(0) {
                    ERROR | DONE => {
                        let code = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return if code == 0 {
                            Ok(())
                        } else {
                            Err(io::Error::from_raw_os_error(-code))
                        };
                    }
                    kind => each(kind, body),
                }
            }
        }
    }
}
