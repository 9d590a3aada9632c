//! Address management, pure: which subnet a network gets, and which address an endpoint.
//!
//! Source: libnetwork's default pools and `default-address-pools` of `daemon.json`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use json::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::subnet::Subnet;

/// Subnets of `size` bits are cut from `base`, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub base: Subnet,
    pub size: u8,
}

/// Docker's pools: 172.17 to 172.31 as /16, then 192.168 as /20.
pub fn default_pools() -> Vec<Pool> {
    let pool = |a, b, prefix, size| Subnet::of(Ipv4Addr::new(a, b, 0, 0), prefix).map(|base| Pool { base, size });
    [
        pool(172, 17, 16, 16),
        pool(172, 18, 16, 16),
        pool(172, 19, 16, 16),
        pool(172, 20, 14, 16),
        pool(172, 24, 14, 16),
        pool(172, 28, 14, 16),
        pool(192, 168, 16, 20),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Picks the first subnet of the pools that overlaps nothing in `taken` (other networks, routes of the host).
pub fn pick(pools: &[Pool], taken: &[Subnet]) -> Result<Subnet> {
    pools
        .iter()
        .flat_map(|pool| pool.base.split(pool.size))
        .find(|candidate| !taken.iter().any(|other| candidate.overlaps(*other)))
        .ok_or_else(|| {
            let text = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network";
            Error::new(ErrorKind::Conflict, text)
        })
}

/// How a network's addresses are given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    /// Where addresses are taken from, if not from the whole subnet (`--ip-range`, `--fixed-cidr`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Subnet>,
    /// Addresses of the subnet that something else has, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auxiliary: Vec<(String, Ipv4Addr)>,
}

impl Ipam {
    /// Checks what a user asked for and fills in the gateway: the first address of the subnet.
    pub fn new(
        subnet: Subnet,
        gateway: Option<Ipv4Addr>,
        range: Option<Subnet>,
        auxiliary: Vec<(String, Ipv4Addr)>,
    ) -> Result<Ipam> {
        let (first, last) = subnet.hosts();
        if last - first < 1 {
            return Err(Error::invalid(format!(
                "subnet {subnet} is too small: no address is left for a container"
            )));
        }
        if let Some(range) = range.filter(|range| !range.is_within(subnet)) {
            return Err(Error::invalid(format!("no matching subnet for range {range}")));
        }
        let gateway = gateway.unwrap_or(Ipv4Addr::from_bits(first));
        if !subnet.contains(gateway) {
            return Err(Error::invalid(format!("no matching subnet for gateway {gateway}")));
        }
        if let Some((_, stray)) = auxiliary.iter().find(|(_, address)| !subnet.contains(*address)) {
            return Err(Error::invalid(format!("no matching subnet for aux-address {stray}")));
        }
        Ok(Ipam {
            subnet,
            gateway,
            range,
            auxiliary,
        })
    }
}

/// The addresses of one network in use.
#[derive(Clone, Debug, Default)]
pub struct Addresses(BTreeSet<u32>);

impl Addresses {
    /// Gives out the address asked for, else the lowest free one of the range, as Docker does.
    pub fn allocate(&mut self, ipam: &Ipam, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let reserved = |bits: u32| {
            bits == ipam.gateway.to_bits() || ipam.auxiliary.iter().any(|(_, address)| address.to_bits() == bits)
        };
        let (first, last) = ipam.subnet.hosts();
        if let Some(wanted) = wanted {
            let bits = wanted.to_bits();
            if !(first..=last).contains(&bits) {
                let text = format!("invalid address {wanted}: it does not belong to any of this network's subnets");
                return Err(Error::invalid(text));
            }
            if reserved(bits) || !self.0.insert(bits) {
                return Err(Error::new(ErrorKind::Forbidden, "Address already in use"));
            }
            return Ok(wanted);
        }
        // A range's own ends are ordinary addresses of the subnet.
        let within = ipam.range.map_or((first, last), |range| {
            (
                range.network().to_bits().max(first),
                range.broadcast().to_bits().min(last),
            )
        });
        let free = (within.0..=within.1).find(|bits| !reserved(*bits) && !self.0.contains(bits));
        let bits = free.ok_or_else(|| {
            Error::new(
                ErrorKind::Conflict,
                format!(
                    "no available IPv4 addresses on this network's address pools: {}",
                    ipam.subnet
                ),
            )
        })?;
        self.0.insert(bits);
        Ok(Ipv4Addr::from_bits(bits))
    }

    /// Marks an address as in use. False if it was.
    pub fn reserve(&mut self, address: Ipv4Addr) -> bool {
        self.0.insert(address.to_bits())
    }

    pub fn release(&mut self, address: Ipv4Addr) {
        self.0.remove(&address.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn pools_in_order_around_what_is_taken() {
        let pools = default_pools();
        assert_eq!(pick(&pools, &[]).unwrap(), net("172.17.0.0/16"));
        let taken = [net("172.16.0.0/13"), net("172.24.0.0/16")];
        assert_eq!(pick(&pools, &taken).unwrap(), net("172.25.0.0/16"));
        let taken = [net("172.16.0.0/12"), net("192.168.5.0/24")];
        assert_eq!(pick(&pools, &taken).unwrap(), net("192.168.16.0/20"));
        assert_eq!(pick(&pools, &[net("0.0.0.0/0")]).unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(pools.iter().flat_map(|p| p.base.split(p.size)).count(), 15 + 16);
    }

    #[test]
    fn addresses() {
        let ipam = Ipam::new(
            net("10.0.0.0/29"),
            None,
            None,
            vec![("x".into(), Ipv4Addr::new(10, 0, 0, 3))],
        )
        .unwrap();
        let mut used = Addresses::default();
        let mut next = || used.allocate(&ipam, None).map(|a| a.octets()[3]);
        assert_eq!(
            [next().unwrap(), next().unwrap(), next().unwrap(), next().unwrap()],
            [2, 4, 5, 6]
        );
        assert_eq!(next().unwrap_err().kind, ErrorKind::Conflict);
        used.release(Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(used.allocate(&ipam, None).unwrap().octets()[3], 4);
        for (wanted, kind) in [
            (2, ErrorKind::Forbidden),
            (1, ErrorKind::Forbidden),
            (7, ErrorKind::Invalid),
            (9, ErrorKind::Invalid),
        ] {
            let error = used.allocate(&ipam, Some(Ipv4Addr::new(10, 0, 0, wanted))).unwrap_err();
            assert_eq!(error.kind, kind, "{wanted}");
        }
    }

    #[test]
    fn ranges_and_mistakes() {
        let subnet = net("10.0.0.0/16");
        let ipam = Ipam::new(subnet, None, Some(net("10.0.5.0/24")), vec![]).unwrap();
        assert_eq!(
            Addresses::default().allocate(&ipam, None).unwrap(),
            Ipv4Addr::new(10, 0, 5, 0)
        );
        assert!(Ipam::new(subnet, Some(Ipv4Addr::new(10, 1, 0, 1)), None, vec![]).is_err());
        assert!(Ipam::new(subnet, None, Some(net("10.0.0.0/8")), vec![]).is_err());
        assert!(Ipam::new(net("10.0.0.0/32"), None, None, vec![]).is_err());
    }
}
