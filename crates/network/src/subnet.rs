//! An IPv4 network with its prefix length, and the arithmetic on it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use json::{Deserialize, Reader, Serialize, Writer};

use crate::error::Error;

/// `172.17.0.0/16`: the host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// The network an address lies in. `None` for a prefix over 32.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Option<Subnet> {
        (prefix <= 32).then(|| Subnet {
            base: address.to_bits() & mask(prefix),
            prefix,
        })
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base | !mask(self.prefix))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base
    }

    /// Says whether one of the two holds the other.
    pub fn overlaps(self, other: Subnet) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.base & shorter == other.base & shorter
    }

    pub fn is_within(self, other: Subnet) -> bool {
        self.prefix >= other.prefix && other.contains(self.network())
    }

    /// The subnets of a longer prefix inside this one, in order.
    pub fn split(self, prefix: u8) -> impl Iterator<Item = Subnet> {
        let valid = prefix >= self.prefix && prefix <= 32;
        let count = if valid { 1u64 << (prefix - self.prefix) } else { 0 };
        let base = u64::from(self.base);
        // `count` is zero where the shift would not be valid.
        (0..count).map(move |i| Subnet {
            base: (base + (i << (32 - u32::from(prefix)))) as u32,
            prefix,
        })
    }

    /// Addresses that hosts may have, first and last: not the network's own and not the broadcast address.
    pub fn hosts(self) -> (u32, u32) {
        let last = self.broadcast().to_bits();
        if self.prefix >= 31 {
            (self.base, last)
        } else {
            (self.base + 1, last - 1)
        }
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// Parses `address/prefix`, keeping the host bits: `--bip`.
pub fn parse_with_host(text: &str) -> Result<(Ipv4Addr, Subnet), Error> {
    let bad = || Error::invalid(format!("invalid CIDR address: {text}"));
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let prefix: u8 = prefix.parse().map_err(|_| bad())?;
    let subnet = Subnet::of(address, prefix).ok_or_else(bad)?;
    Ok((address, subnet))
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Subnet, Error> {
        parse_with_host(text).map(|(_, subnet)| subnet)
    }
}

impl Serialize for Subnet {
    fn write(&self, writer: &mut Writer) {
        writer.text(&self.to_string());
    }
}

impl Deserialize for Subnet {
    fn read(reader: &mut Reader<'_>) -> json::Result<Subnet> {
        let text = reader.string("a subnet")?;
        text.parse().map_err(|e: Error| json::Error::custom(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn arithmetic() {
        assert_eq!(net("172.17.9.1/16").to_string(), "172.17.0.0/16");
        assert_eq!(net("0.0.0.0/0").broadcast(), Ipv4Addr::BROADCAST);
        assert_eq!(net("10.0.0.4/32").hosts(), (0x0a000004, 0x0a000004));
        assert!(net("10.0.0.0/8").overlaps(net("10.9.0.0/16")));
        assert!(net("10.9.0.0/16").is_within(net("10.0.0.0/8")));
        assert!(!net("10.0.0.0/8").is_within(net("10.9.0.0/16")));
        let parts: Vec<String> = net("192.168.0.0/16").split(18).map(|s| s.to_string()).collect();
        assert_eq!(
            parts,
            [
                "192.168.0.0/18",
                "192.168.64.0/18",
                "192.168.128.0/18",
                "192.168.192.0/18"
            ]
        );
        assert_eq!(net("255.255.255.255/32").split(32).count(), 1);
        for bad in ["1.2.3.4", "1.2.3.4/33", "x/8", "1.2.3/8"] {
            assert!(bad.parse::<Subnet>().is_err());
        }
    }
}
