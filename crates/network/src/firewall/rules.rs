//! Which packet filter rules there are to be, pure: values in, rules out.
//!
//! Chains are Docker's (`DOCKER`, `DOCKER-USER`, `DOCKER-ISOLATION-STAGE-1/2`, as dockerd 20.10 lays them
//! out), because other device software hooks into them. A Docker beside us uses the same chains: each rule of
//! ours names our bridge or an address of ours, so both know theirs. One chain is our own, `BALENA-LOCAL`: the
//! way to published ports from 127.0.0.1, which Docker leaves to a process per port.
//!
//! Rules are written as `iptables-save` prints them, so that what exists can be compared as text.

use std::net::{IpAddr, Ipv4Addr};

use crate::portmap::Binding;
use crate::subnet::Subnet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Filter,
    Nat,
}

impl Table {
    pub fn name(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

/// Where in its chain a rule goes when it is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Top,
    /// Behind the jumps to the user's and the isolation chains: those are to see packets first.
    AfterJumps,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub table: Table,
    pub chain: &'static str,
    /// What follows the chain's name in `iptables-save`'s print.
    pub spec: String,
    pub place: Place,
}

pub const USER: &str = "DOCKER-USER";
pub const STAGE_1: &str = "DOCKER-ISOLATION-STAGE-1";
pub const STAGE_2: &str = "DOCKER-ISOLATION-STAGE-2";
const DOCKER: &str = "DOCKER";
const LOCAL: &str = "BALENA-LOCAL";

/// The chains that must exist, made empty where they do not.
pub const CHAINS: [(Table, &str); 6] = [
    (Table::Filter, DOCKER),
    (Table::Filter, STAGE_1),
    (Table::Filter, STAGE_2),
    (Table::Filter, USER),
    (Table::Nat, DOCKER),
    (Table::Nat, LOCAL),
];

/// What the rules of a bridge depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRules {
    pub bridge: String,
    pub subnet: Subnet,
    /// Containers may talk to each other.
    pub icc: bool,
    pub masquerade: bool,
    /// No way in or out.
    pub internal: bool,
    /// Loopback's published ports are answered by the kernel, and containers reach published ports by it.
    pub hairpin: bool,
}

fn rule(table: Table, chain: &'static str, place: Place, spec: impl Into<String>) -> Rule {
    Rule {
        table,
        chain,
        spec: spec.into(),
        place,
    }
}

/// The jumps and ends that all bridges share. They stay when the last bridge goes, as Docker's do.
pub fn base() -> Vec<Rule> {
    use Place::{AfterJumps, End, Top};
    use Table::{Filter, Nat};
    vec![
        rule(Filter, "FORWARD", Top, format!("-j {USER}")),
        rule(Filter, "FORWARD", AfterJumps, format!("-j {STAGE_1}")),
        rule(Filter, STAGE_1, End, "-j RETURN"),
        rule(Filter, STAGE_2, End, "-j RETURN"),
        rule(Filter, USER, End, "-j RETURN"),
        rule(Nat, "PREROUTING", End, "-m addrtype --dst-type LOCAL -j DOCKER"),
        rule(
            Nat,
            "OUTPUT",
            End,
            "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
        ),
        rule(Nat, "OUTPUT", End, format!("-d 127.0.0.0/8 -j {LOCAL}")),
    ]
}

/// The rules of a bridge, whatever is on it.
pub fn bridge(config: &BridgeRules) -> Vec<Rule> {
    use Place::{AfterJumps, Top};
    use Table::{Filter, Nat};
    let BridgeRules { bridge: br, subnet, .. } = config;
    let verdict = if config.icc { "ACCEPT" } else { "DROP" };
    let mut rules = Vec::new();
    if config.internal {
        rules.push(rule(Filter, STAGE_1, Top, format!("! -s {subnet} -o {br} -j DROP")));
        rules.push(rule(Filter, STAGE_1, Top, format!("! -d {subnet} -i {br} -j DROP")));
        rules.push(rule(
            Filter,
            "FORWARD",
            AfterJumps,
            format!("-i {br} -o {br} -j {verdict}"),
        ));
        return rules;
    }
    rules.push(rule(Filter, STAGE_1, Top, format!("-i {br} ! -o {br} -j {STAGE_2}")));
    if config.hairpin {
        // Networks are kept apart, except for what goes to a published port of the host.
        rules.push(rule(
            Filter,
            STAGE_2,
            Top,
            format!("-o {br} -m conntrack ! --ctstate DNAT -j DROP"),
        ));
        // route_localnet lets 127.0.0.0/8 in from the bridge: only answers may use that.
        rules.push(rule(
            Filter,
            "INPUT",
            Top,
            format!("-d 127.0.0.0/8 -i {br} -m conntrack --ctstate INVALID,NEW -j DROP"),
        ));
    } else {
        rules.push(rule(Filter, STAGE_2, Top, format!("-o {br} -j DROP")));
    }
    rules.push(rule(
        Filter,
        "FORWARD",
        AfterJumps,
        format!("-o {br} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
    ));
    rules.push(rule(Filter, "FORWARD", AfterJumps, format!("-o {br} -j DOCKER")));
    rules.push(rule(
        Filter,
        "FORWARD",
        AfterJumps,
        format!("-i {br} ! -o {br} -j ACCEPT"),
    ));
    rules.push(rule(
        Filter,
        "FORWARD",
        AfterJumps,
        format!("-i {br} -o {br} -j {verdict}"),
    ));
    if config.masquerade {
        rules.push(rule(
            Nat,
            "POSTROUTING",
            Top,
            format!("-s {subnet} ! -o {br} -j MASQUERADE"),
        ));
    }
    if config.hairpin {
        // A container that reaches its neighbour by the host's port must hear back from the host, and a packet
        // from 127.0.0.1 must not leave with that address. Without these, br_netfilter would be needed.
        rules.push(rule(
            Nat,
            "POSTROUTING",
            Top,
            format!("-s {subnet} -o {br} -m conntrack --ctstate DNAT -j MASQUERADE"),
        ));
        rules.push(rule(
            Nat,
            "POSTROUTING",
            Top,
            format!("-s 127.0.0.0/8 -o {br} -j MASQUERADE"),
        ));
    }
    rules
}

/// The rules of one published port.
pub fn published(config: &BridgeRules, address: Ipv4Addr, binding: &Binding) -> Vec<Rule> {
    use Place::Top;
    let IpAddr::V4(host) = binding.host_ip else {
        return Vec::new();
    };
    let (br, proto) = (&config.bridge, binding.protocol);
    let (port, host_port) = (binding.container_port, binding.host_port);
    let to = format!("-p {proto} -m {proto} --dport {host_port} -j DNAT --to-destination {address}:{port}");
    let specific = if host.is_unspecified() {
        String::new()
    } else {
        format!("-d {host}/32 ")
    };
    // From a proxy's mode: what containers send to the host's ports is the proxy's.
    let not_ours = if config.hairpin {
        String::new()
    } else {
        format!("! -i {br} ")
    };
    let mut rules = vec![rule(
        Table::Filter,
        DOCKER,
        Top,
        format!("-d {address}/32 ! -i {br} -o {br} -p {proto} -m {proto} --dport {port} -j ACCEPT"),
    )];
    if !host.is_loopback() {
        rules.push(rule(Table::Nat, DOCKER, Top, format!("{specific}{not_ours}{to}")));
    }
    if config.hairpin && (host.is_unspecified() || host.is_loopback()) {
        rules.push(rule(Table::Nat, LOCAL, Top, format!("{specific}{to}")));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portmap::Protocol;

    fn config() -> BridgeRules {
        BridgeRules {
            bridge: "br9".into(),
            subnet: "10.9.0.0/24".parse().unwrap(),
            icc: true,
            masquerade: true,
            internal: false,
            hairpin: true,
        }
    }

    fn specs(host_ip: &str, hairpin: bool) -> Vec<String> {
        let binding = Binding {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_ip: host_ip.parse().unwrap(),
            host_port: 8080,
        };
        let rules = published(
            &BridgeRules { hairpin, ..config() },
            Ipv4Addr::new(10, 9, 0, 2),
            &binding,
        );
        rules.iter().map(|r| format!("{} {}", r.chain, r.spec)).collect()
    }

    #[test]
    fn published_ports() {
        let accept = "DOCKER -d 10.9.0.2/32 ! -i br9 -o br9 -p tcp -m tcp --dport 80 -j ACCEPT";
        let to = "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.9.0.2:80";
        assert_eq!(
            specs("0.0.0.0", true),
            [accept.into(), format!("DOCKER {to}"), format!("BALENA-LOCAL {to}")]
        );
        assert_eq!(
            specs("127.0.0.1", true),
            [accept.into(), format!("BALENA-LOCAL -d 127.0.0.1/32 {to}")]
        );
        assert_eq!(
            specs("192.0.2.1", true),
            [accept.into(), format!("DOCKER -d 192.0.2.1/32 {to}")]
        );
        assert_eq!(
            specs("0.0.0.0", false),
            [accept.into(), format!("DOCKER ! -i br9 {to}")]
        );
        assert!(specs("::1", true).is_empty());
    }

    #[test]
    fn every_rule_of_a_bridge_names_it() {
        for internal in [false, true] {
            let config = BridgeRules {
                internal,
                icc: false,
                ..config()
            };
            assert!(bridge(&config).iter().all(|r| r.spec.contains("br9")));
            assert!(bridge(&config).iter().any(|r| r.spec == "-i br9 -o br9 -j DROP"));
        }
    }
}
