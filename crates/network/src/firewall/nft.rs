//! nf_tables as a backend, where there is no iptables: a table of our own, replaced as a whole.
//!
//! Messages are those of `linux/netfilter/nf_tables.h`. Numbers in them are big endian. The table holds Docker's
//! chain names, but is ours alone (`balena-<bridge>`), so replacing it, in one transaction, harms nobody.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::Scope;
use super::rules::{self, Place, Rule, Table};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::netlink::{Batch, Message};
use crate::subnet::parse_with_host;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const PORT_REGISTER: u32 = 2;
const JUMP: i32 = -3;
const RETURN: i32 = -5;

/// Base chains: name, table of the model, type, hook and priority.
const HOOKS: [(&str, Table, &str, u32, i32); 5] = [
    ("INPUT", Table::Filter, "filter", 1, 0),
    ("FORWARD", Table::Filter, "filter", 2, 0),
    ("PREROUTING", Table::Nat, "nat", 0, -100),
    ("OUTPUT", Table::Nat, "nat", 3, -100),
    ("POSTROUTING", Table::Nat, "nat", 4, 100),
];

/// Our table, and the rules it is to hold.
pub struct Nft {
    table: String,
    current: Mutex<Vec<Rule>>,
}

impl Nft {
    /// Finds out whether the kernel has nf_tables with NAT: makes the table, empty.
    pub fn probe(bridge: &str) -> Option<Nft> {
        let nft = Nft {
            table: format!("balena-{bridge}"),
            current: Mutex::default(),
        };
        let mut batch = Batch::new();
        batch.push(nft.message(NEWTABLE, CREATE, |m| m));
        match batch.send() {
            Ok(()) => Some(nft),
            Err(e) => {
                log::info!("nf_tables cannot be used: {e}");
                None
            }
        }
    }

    pub fn sync(&self, wanted: &[Rule], scope: &Scope) -> Result<()> {
        self.change(|current| {
            current.retain(|rule| !scope.owns(&rule.spec) && !wanted.contains(rule));
            current.extend_from_slice(wanted);
        })
    }

    pub fn insert(&self, rules: &[Rule]) -> Result<()> {
        self.change(|current| current.extend_from_slice(rules))
    }

    pub fn delete(&self, rules: &[Rule]) -> Result<()> {
        self.change(|current| current.retain(|rule| !rules.contains(rule)))
    }

    /// Changes what is wanted, and the kernel with it; what was wanted before stays if it does not take it.
    fn change(&self, edit: impl FnOnce(&mut Vec<Rule>)) -> Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.clone();
        edit(&mut next);
        self.replace(&next)?;
        *current = next;
        Ok(())
    }

    fn replace(&self, wanted: &[Rule]) -> Result<()> {
        let mut batch = Batch::new();
        // Made first, so that there is one to delete.
        for (kind, flags) in [(NEWTABLE, CREATE), (DELTABLE, 0), (NEWTABLE, CREATE)] {
            batch.push(self.message(kind, flags, |m| m));
        }
        for (name, _, kind, hook, priority) in HOOKS {
            batch.push(self.chain(name, kind, hook, priority));
        }
        for (table, chain) in rules::CHAINS {
            batch.push(self.message(NEWCHAIN, CREATE, |m| m.text(3, &own_chain(table, chain))));
        }
        let mut all: Vec<Rule> = rules::base();
        all.extend_from_slice(wanted);
        let rank = |place: Place| match place {
            Place::Top => 0,
            Place::AfterJumps => 1,
            Place::End => 2,
        };
        all.sort_by_key(|rule| rank(rule.place));
        for rule in &all {
            batch.push(self.rule(rule)?);
        }
        batch.send().what(|| format!("write nf_tables table {}", self.table))
    }

    /// A base chain, at a hook of the kernel's.
    fn chain(&self, name: &str, kind: &str, hook: u32, priority: i32) -> Message {
        self.message(NEWCHAIN, CREATE, |m| {
            m.text(3, name).text(7, kind);
            m.nested(4, &[], |m| {
                m.attribute(1, &hook.to_be_bytes())
                    .attribute(2, &priority.to_be_bytes());
            })
        })
    }

    fn rule(&self, rule: &Rule) -> Result<Message> {
        let expressions = translate(rule)?;
        Ok(self.message(NEWRULE, CREATE | APPEND, |m| {
            m.text(2, &own_chain(rule.table, rule.chain));
            m.nested(4, &[], |m| {
                for part in expressions.iter().flat_map(Expression::parts) {
                    m.nested(1, &[], |m| part(m));
                }
            })
        }))
    }

    fn message(&self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message) -> &mut Message) -> Message {
        const NFTABLES: u16 = 10 << 8;
        const INET: u8 = 2;
        let mut message = Message::new(NFTABLES | kind, flags, &[INET, 0, 0, 0]);
        message.text(1, &self.table);
        fill(&mut message);
        message
    }
}

/// In the network namespace of this thread: leads queries to the resolver's address to the ports it listens at.
pub fn redirect_dns(udp: u16, tcp: u16) -> Result<()> {
    let nft = Nft {
        table: "balena-resolver".to_owned(),
        current: Mutex::default(),
    };
    let mut batch = Batch::new();
    // Replaced as a whole, should a daemon have been here before.
    for (kind, flags) in [(NEWTABLE, CREATE), (DELTABLE, 0), (NEWTABLE, CREATE)] {
        batch.push(nft.message(kind, flags, |m| m));
    }
    let (name, _, kind, hook, priority) = HOOKS[3];
    batch.push(nft.chain(name, kind, hook, priority));
    for (protocol, port) in [("udp", udp), ("tcp", tcp)] {
        let address = crate::resolver::ADDRESS;
        let spec = format!("-d {address}/32 -p {protocol} --dport 53 -j DNAT --to-destination {address}:{port}");
        let rule = Rule {
            table: Table::Nat,
            chain: name,
            spec,
            place: Place::End,
        };
        batch.push(nft.rule(&rule)?);
    }
    batch.send().what(|| format!("write nf_tables table {}", nft.table))
}

/// Both tables of the model live in one of nf_tables: `DOCKER` is in both.
fn own_chain(table: Table, chain: &str) -> String {
    let is_hook = HOOKS.iter().any(|(name, ..)| *name == chain);
    if table == Table::Nat && !is_hook {
        format!("NAT-{chain}")
    } else {
        chain.to_owned()
    }
}

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// Interface name; in or out; negated.
    Interface(bool, String, bool),
    /// Source or destination within a network; negated.
    Network(bool, Ipv4Addr, u8, bool),
    /// Layer 4 protocol.
    Protocol(u8),
    DestinationPort(u16),
    /// Connection tracking key and bits; any of them, or none.
    Conntrack(u32, u32, bool),
    /// To an address of this host.
    Local,
    Verdict(i32, String),
    Dnat(Ipv4Addr, u16),
    Masquerade,
}

/// Reads a rule of the model, which is written as iptables has it.
fn translate(rule: &Rule) -> Result<Vec<Expression>> {
    let bad = || Error::new(ErrorKind::System, format!("no nf_tables form of rule {:?}", rule.spec));
    let mut out = Vec::new();
    let mut not = false;
    let mut words = rule.spec.split_ascii_whitespace();
    while let Some(word) = words.next() {
        if word == "!" {
            not = true;
            continue;
        }
        let value = words.next().ok_or_else(bad)?;
        match word {
            "-i" | "-o" => out.push(Expression::Interface(word == "-i", value.to_owned(), not)),
            "-s" | "-d" => {
                let (address, subnet) = parse_with_host(value)?;
                out.push(Expression::Network(word == "-s", address, subnet.prefix(), not));
            }
            "-p" => out.push(Expression::Protocol(match value {
                "tcp" => 6,
                "udp" => 17,
                "sctp" => 132,
                _ => return Err(bad()),
            })),
            // The match's name says nothing that its option does not.
            "-m" => continue,
            "--dport" => out.push(Expression::DestinationPort(value.parse().map_err(|_| bad())?)),
            "--ctstate" => out.push(conntrack(value, not).ok_or_else(bad)?),
            "--dst-type" if value == "LOCAL" => out.push(Expression::Local),
            "-j" => out.push(match value {
                "ACCEPT" => Expression::Verdict(1, String::new()),
                "DROP" => Expression::Verdict(0, String::new()),
                "RETURN" => Expression::Verdict(RETURN, String::new()),
                "MASQUERADE" => Expression::Masquerade,
                "DNAT" => {
                    let target = words
                        .nth(1)
                        .and_then(|t| t.parse::<std::net::SocketAddrV4>().ok())
                        .ok_or_else(bad)?;
                    Expression::Dnat(*target.ip(), target.port())
                }
                chain => Expression::Verdict(JUMP, own_chain(rule.table, chain)),
            }),
            _ => return Err(bad()),
        }
        not = false;
    }
    Ok(out)
}

fn conntrack(states: &str, not: bool) -> Option<Expression> {
    const STATE: u32 = 0;
    const STATUS: u32 = 2;
    const DST_NAT: u32 = 1 << 5;
    if states == "DNAT" {
        return Some(Expression::Conntrack(STATUS, DST_NAT, not));
    }
    let bits = states.split(',').map(|state| match state {
        "INVALID" => Some(1),
        "ESTABLISHED" => Some(2),
        "RELATED" => Some(4),
        "NEW" => Some(8),
        _ => None,
    });
    let bits: Option<BTreeSet<u32>> = bits.collect();
    Some(Expression::Conntrack(STATE, bits?.into_iter().sum(), not))
}

/// Writes one expression: its name and data.
fn expression(m: &mut Message, name: &str, data: impl FnOnce(&mut Message)) {
    m.text(1, name).nested(2, &[], data);
}

fn number(m: &mut Message, kind: u16, value: u32) {
    m.attribute(kind, &value.to_be_bytes());
}

fn value(m: &mut Message, kind: u16, bytes: &[u8]) {
    m.nested(kind, &[], |m| {
        m.attribute(1, bytes);
    });
}

/// `cmp`: what is in the register equals (or not) these bytes.
fn compare(m: &mut Message, bytes: &[u8], not: bool) {
    expression(m, "cmp", |m| {
        number(m, 1, REGISTER);
        number(m, 2, u32::from(not));
        value(m, 3, bytes);
    });
}

/// `bitwise`: keeps the bits of the mask.
fn mask(m: &mut Message, bits: [u8; 4]) {
    expression(m, "bitwise", |m| {
        number(m, 1, REGISTER);
        number(m, 2, REGISTER);
        number(m, 3, 4);
        value(m, 4, &bits);
        value(m, 5, &[0; 4]);
    });
}

fn load(m: &mut Message, name: &str, key: u32) {
    expression(m, name, |m| {
        number(m, 1, REGISTER);
        number(m, 2, key);
    });
}

fn payload(m: &mut Message, base: u32, offset: u32, length: u32) {
    expression(m, "payload", |m| {
        number(m, 1, REGISTER);
        number(m, 2, base);
        number(m, 3, offset);
        number(m, 4, length);
    });
}

fn immediate(m: &mut Message, register: u32, bytes: &[u8]) {
    expression(m, "immediate", |m| {
        number(m, 1, register);
        value(m, 2, bytes);
    });
}

impl Expression {
    /// The kernel's expressions that one of ours is.
    fn parts(&self) -> Vec<Part<'_>> {
        const META_IIFNAME: u32 = 6;
        const META_OIFNAME: u32 = 7;
        const META_L4PROTO: u32 = 16;
        const RTN_LOCAL: u32 = 2;
        match self {
            Expression::Interface(inward, name, not) => {
                let mut padded = [0; 16];
                // Names are at most 15 bytes: checked where they come in.
                for (to, from) in padded.iter_mut().zip(name.bytes()) {
                    *to = from;
                }
                let (key, not) = (if *inward { META_IIFNAME } else { META_OIFNAME }, *not);
                vec![
                    Box::new(move |m| load(m, "meta", key)),
                    Box::new(move |m| compare(m, &padded, not)),
                ]
            }
            Expression::Network(source, address, prefix, not) => {
                let bits = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0).to_be_bytes();
                let base = (address.to_bits() & u32::from_be_bytes(bits)).to_be_bytes();
                let (offset, not) = (if *source { 12 } else { 16 }, *not);
                vec![
                    Box::new(move |m| payload(m, 1, offset, 4)),
                    Box::new(move |m| mask(m, bits)),
                    Box::new(move |m| compare(m, &base, not)),
                ]
            }
            Expression::Protocol(number) => {
                vec![
                    Box::new(|m| load(m, "meta", META_L4PROTO)),
                    Box::new(|m| compare(m, &[*number], false)),
                ]
            }
            Expression::DestinationPort(port) => {
                vec![
                    Box::new(|m| payload(m, 2, 2, 2)),
                    Box::new(|m| compare(m, &port.to_be_bytes(), false)),
                ]
            }
            Expression::Conntrack(key, bits, not) => vec![
                Box::new(|m| load(m, "ct", *key)),
                // Bits of connection tracking are in the machine's own order.
                Box::new(|m| mask(m, bits.to_ne_bytes())),
                Box::new(|m| compare(m, &[0; 4], !*not)),
            ],
            Expression::Local => vec![
                Box::new(|m| {
                    expression(m, "fib", |m| {
                        number(m, 1, REGISTER);
                        number(m, 2, 3);
                        number(m, 3, 2);
                    });
                }),
                Box::new(|m| compare(m, &RTN_LOCAL.to_ne_bytes(), false)),
            ],
            Expression::Verdict(code, chain) => vec![Box::new(|m| {
                expression(m, "immediate", |m| {
                    number(m, 1, VERDICT_REGISTER);
                    m.nested(2, &[], |m| {
                        m.nested(2, &[], |m| {
                            m.attribute(1, &code.to_be_bytes());
                            if !chain.is_empty() {
                                m.text(2, chain);
                            }
                        });
                    });
                });
            })],
            Expression::Dnat(address, port) => vec![
                Box::new(|m| immediate(m, REGISTER, &address.octets())),
                Box::new(|m| immediate(m, PORT_REGISTER, &port.to_be_bytes())),
                Box::new(|m| {
                    expression(m, "nat", |m| {
                        number(m, 1, 1);
                        number(m, 2, 2);
                        number(m, 3, REGISTER);
                        number(m, 5, PORT_REGISTER);
                    });
                }),
            ],
            Expression::Masquerade => vec![Box::new(|m| expression(m, "masq", |_| {}))],
        }
    }
}

type Part<'a> = Box<dyn Fn(&mut Message) + 'a>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::rules::{BridgeRules, bridge, published};
    use crate::portmap::{Binding, Protocol};

    #[test]
    fn every_rule_of_the_model_has_a_form() {
        for (hairpin, internal) in [(true, false), (false, false), (true, true)] {
            let config = BridgeRules {
                bridge: "br9".into(),
                subnet: "10.9.0.0/24".parse().unwrap(),
                icc: false,
                masquerade: true,
                internal,
                hairpin,
            };
            let binding = Binding {
                protocol: Protocol::Udp,
                container_port: 53,
                host_ip: Ipv4Addr::LOCALHOST.into(),
                host_port: 5353,
            };
            let mut all = rules::base();
            all.extend(bridge(&config));
            all.extend(published(&config, Ipv4Addr::new(10, 9, 0, 2), &binding));
            for rule in all {
                assert!(!translate(&rule).unwrap().is_empty());
            }
        }
    }
}
