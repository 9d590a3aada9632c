//! Puts a sandbox on a bridge, and takes it off: the dull part, all decisions were made before.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::netlink::{Netlink, Veth};
use crate::netns::Sandbox;
use crate::random;
use crate::subnet::Subnet;

/// One interface of a container, to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `eth0`
    pub interface: String,
    pub address: Ipv4Addr,
    pub subnet: Subnet,
    pub mac: [u8; 6],
    pub mtu: u32,
    /// Where everything else goes.
    pub default_route: Option<Ipv4Addr>,
    /// The container reaches its own published ports: where br_netfilter is on, such packets leave the bridge
    /// by the port they came in at.
    pub hairpin: bool,
}

/// Makes the interface. The name of its other end, on the bridge.
pub fn attach(sandbox: &Sandbox, bridge: &str, plan: &Plan) -> Result<String> {
    let mut netlink = Netlink::open().what(|| "open netlink".to_owned())?;
    let master = netlink.link(bridge).what(|| format!("look for bridge {bridge}"))?;
    let master = master
        .ok_or_else(|| Error::new(ErrorKind::System, format!("could not find bridge {bridge}")))?
        .index;
    let namespace = sandbox.open()?;
    let mut name = String::new();
    for last in [false, false, true] {
        name = format!("veth{}", &random::hex(&random::bytes::<4>()?)[..7]);
        let made = netlink.add_veth(&Veth {
            name: &name,
            master,
            mtu: plan.mtu,
            peer: &plan.interface,
            peer_mac: plan.mac,
            peer_namespace: namespace.as_fd(),
        });
        match made {
            // Seven random digits met another's: once in a lifetime, or the interface's own name is taken.
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) && !last => continue,
            made => made.what(|| format!("create veth {name} to {} on {bridge}", plan.interface))?,
        }
        break;
    }
    let hairpin = match plan.hairpin {
        true => netlink
            .set_hairpin(&name)
            .what(|| format!("set hairpin mode of {name}")),
        false => Ok(()),
    };
    let inner = hairpin.and_then(|()| {
        sandbox.inside(|| {
            let what = |step: &'static str| move || format!("{step} {} of container", plan.interface);
            let mut netlink = Netlink::open().what(|| "open netlink".to_owned())?;
            let link = netlink
                .link(&plan.interface)
                .what(what("look for"))?
                .unwrap_or_default();
            netlink
                .add_address(link.index, plan.address, plan.subnet)
                .what(what("address"))?;
            netlink.set_up(link.index).what(what("set up"))?;
            // After it is up: routes over a link that is down are refused.
            if let Some(gateway) = plan.default_route {
                netlink
                    .set_default_route(gateway)
                    .what(|| format!("set default route to {gateway}"))?;
            }
            Ok(())
        })
    });
    if let Err(error) = inner {
        // The first error is the one to report.
        let _ = netlink.remove_link(&name);
        return Err(error);
    }
    Ok(name)
}

/// Sends what has no other way to `gateway`.
pub fn set_default_route(sandbox: &Sandbox, gateway: Ipv4Addr) -> Result<()> {
    sandbox.inside(|| {
        let mut netlink = Netlink::open().what(|| "open netlink".to_owned())?;
        netlink
            .set_default_route(gateway)
            .what(|| format!("set default route to {gateway}"))
    })
}

/// Removes an interface by the end on the host. One that is gone already is no error.
pub fn detach(veth: &str) -> Result<()> {
    let mut netlink = Netlink::open().what(|| "open netlink".to_owned())?;
    netlink.remove_link(veth).what(|| format!("remove {veth}")).map(drop)
}
