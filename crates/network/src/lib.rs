//! Container networks: address management, bridges, published ports, the packet filter.
//!
//! Plans are pure ([`ipam`], [`portmap`], [`firewall::rules`], [`hosts`], [`resolv`]); [`netns`], [`bridge`],
//! [`attach`] and [`firewall`] apply them; [`Networks`] is the record of what there is.
//!
//! IPv4. A container's network costs one netlink request for the veth pair, two for address and route, and no
//! packet filter rule unless a port is published.
#![forbid(unsafe_code)]

pub mod attach;
pub mod bridge;
pub mod dns;
mod endpoints;
mod error;
pub mod firewall;
mod hold;
pub mod hosts;
pub mod ipam;
pub mod mac;
mod netlink;
pub mod netns;
mod networks;
pub mod portmap;
pub mod proxy;
mod publish;
mod random;
mod record;
pub mod resolv;
pub mod resolver;
mod subnet;
mod takeover;

pub use endpoints::{EndpointConfig, EndpointState};
pub use error::{Error, ErrorKind, Result};
pub use ipam::Pool;
pub use netns::Sandbox;
pub use networks::{Config, Networks, NewNetwork};
pub use record::{Driver, Network};
pub use subnet::{Subnet, parse_with_host};
