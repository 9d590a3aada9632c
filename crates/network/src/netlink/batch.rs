//! A netfilter transaction: messages that the kernel takes together or not at all.

use std::io;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::message::{HEADER, Message, u16_at, u32_at};

const BEGIN: u16 = 16;
const END: u16 = 17;
const ERROR: u16 = 2;
/// The subsystem a batch is for, big endian: nf_tables.
const FRAME: [u8; 4] = [0, 0, 0, 10];

/// Messages to be sent together.
#[derive(Default)]
pub struct Batch(Vec<Message>);

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    pub fn push(&mut self, message: Message) {
        self.0.push(message);
    }

    /// Sends all and waits for the verdict on each; the first error is returned.
    pub fn send(self) -> io::Result<()> {
        let protocol = Some(netlink::NETFILTER);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        // The kernel answers before `send` returns; waiting longer means that it did not understand.
        set_socket_timeout(&socket, Timeout::Recv, Some(std::time::Duration::from_secs(2)))?;
        let last = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut bytes = Message::new(BEGIN, 0, &FRAME).without_ack().finish(0);
        for (message, sequence) in self.0.into_iter().zip(1u32..) {
            bytes.extend(message.finish(sequence));
        }
        bytes.extend(Message::new(END, 0, &FRAME).without_ack().finish(last.wrapping_add(1)));
        rustix::net::send(&socket, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0; 16 << 10];
        let mut answered = 0;
        while answered < last {
            let (got, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
            let mut rest = &buffer[..got];
            while let Some(one) = u32_at(rest, 0).and_then(|n| rest.get(..usize::try_from(n).ok()?)) {
                if one.len() < HEADER {
                    break;
                }
                rest = rest.get(one.len().next_multiple_of(4)..).unwrap_or(&[]);
                if u16_at(one, 4) != Some(ERROR) {
                    continue;
                }
                answered += 1;
                let code = u32_at(one, HEADER).unwrap_or(0).cast_signed();
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
            }
        }
        Ok(())
    }
}
