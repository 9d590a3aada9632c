//! The packet filter: brings the kernel's rules to what [`rules`] says, and touches nobody else's.
//!
//! Backends: `iptables-save` and `iptables-restore` (legacy or nft variant, whichever the system has), where each
//! process costs milliseconds, so a change of any size is one `restore`, a look is one `save`; else nf_tables
//! by netlink.

mod iptables;
mod nft;
pub mod rules;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::subnet::Subnet;
use iptables::Iptables;
use nft::Nft;
pub(crate) use nft::redirect_dns;
use rules::{Place, Rule, Table};

/// The packet filter, or none.
pub struct Firewall {
    backend: Backend,
    /// One change at a time: positions in a chain are counted from a look at it.
    turn: Mutex<()>,
}

enum Backend {
    Iptables(Iptables),
    Nft(Nft),
    None,
}

/// What tells our rules from others': they name a bridge of ours or an address of ours.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub bridges: Vec<String>,
    pub subnets: Vec<Subnet>,
}

impl Scope {
    fn owns(&self, spec: &str) -> bool {
        let our_bridge = |name: &str| self.bridges.iter().any(|bridge| bridge == name);
        let our_address = |target: &str| {
            let address: Option<Ipv4Addr> = target.split(':').next().and_then(|text| text.parse().ok());
            address.is_some_and(|address| self.subnets.iter().any(|subnet| subnet.contains(address)))
        };
        let words: Vec<&str> = spec.split_ascii_whitespace().collect();
        words.windows(2).any(|pair| match pair[0] {
            "-i" | "-o" => our_bridge(pair[1]),
            "--to-destination" => our_address(pair[1]),
            _ => false,
        })
    }
}

/// The chains as they are, each with its rules in order.
pub type Listing = HashMap<(Table, String), Vec<String>>;

/// One change to a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Chain(Table, String),
    /// At a position counted from 1.
    Insert(Table, String, usize, String),
    Delete(Table, String, String),
}

impl Change {
    fn table(&self) -> Table {
        match self {
            Change::Chain(table, ..) | Change::Insert(table, ..) | Change::Delete(table, ..) => *table,
        }
    }
}

impl Firewall {
    /// The packet filter of this system. `enabled` is `--iptables`; `bridge` names the daemon's own table,
    /// where there is one.
    pub fn new(enabled: bool, bridge: &str) -> Firewall {
        let backend = match Iptables::find().filter(|_| enabled) {
            Some(iptables) => Backend::Iptables(iptables),
            None if enabled => Nft::probe(bridge).map_or(Backend::None, Backend::Nft),
            None => Backend::None,
        };
        if enabled && matches!(backend, Backend::None) {
            log::warn!("neither iptables nor nf_tables: containers reach only hosts that route back to them");
        }
        Firewall {
            backend,
            turn: Mutex::new(()),
        }
    }

    /// nf_tables, even where iptables is.
    pub fn nf_tables(bridge: &str) -> Firewall {
        let backend = Nft::probe(bridge).map_or(Backend::None, Backend::Nft);
        Firewall {
            backend,
            turn: Mutex::new(()),
        }
    }

    pub fn is_available(&self) -> bool {
        !matches!(self.backend, Backend::None)
    }

    /// Makes the rules in `scope`, and the base rules, exactly `wanted`.
    pub fn sync(&self, wanted: &[Rule], scope: &Scope) -> Result<()> {
        let _turn = self.turn();
        match &self.backend {
            Backend::Iptables(iptables) => iptables.apply(&plan(iptables.list()?, wanted, scope)),
            Backend::Nft(nft) => nft.sync(wanted, scope),
            Backend::None => Ok(()),
        }
    }

    /// Sets the policy of `FORWARD` to drop: done when we are the ones who make the host a router.
    pub fn drop_forwarded(&self) -> Result<()> {
        let _turn = self.turn();
        match &self.backend {
            Backend::Iptables(iptables) => iptables.drop_forwarded(),
            // A drop in a table of ours would drop what others' tables accept.
            Backend::Nft(_) | Backend::None => Ok(()),
        }
    }

    /// Adds rules on top of their chains, all or none.
    pub fn insert(&self, rules: &[Rule]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        let insert = |rule: &Rule| Change::Insert(rule.table, rule.chain.to_owned(), 1, rule.spec.clone());
        match &self.backend {
            Backend::Iptables(iptables) => iptables.apply(&rules.iter().map(insert).collect::<Vec<_>>()),
            Backend::Nft(nft) => nft.insert(rules),
            Backend::None => Ok(()),
        }
    }

    /// Removes rules; one that is gone already is no error.
    pub fn delete(&self, rules: &[Rule]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        match &self.backend {
            Backend::Iptables(iptables) => delete(iptables, rules),
            Backend::Nft(nft) => nft.delete(rules),
            Backend::None => Ok(()),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn delete(iptables: &Iptables, rules: &[Rule]) -> Result<()> {
    let delete = |rule: &Rule| Change::Delete(rule.table, rule.chain.to_owned(), rule.spec.clone());
    let mut changes: Vec<Change> = rules.iter().map(delete).collect();
    if iptables.apply(&changes).is_ok() {
        return Ok(());
    }
    // One missing rule fails the whole batch: leave out what is not there.
    let listing = iptables.list()?;
    changes.retain(|change| match change {
        Change::Delete(table, chain, spec) => listing
            .get(&(*table, chain.clone()))
            .is_some_and(|rules| rules.contains(spec)),
        _ => true,
    });
    iptables.apply(&changes)
}

/// The changes from what is to what is wanted, in the order to make them.
fn plan(mut listing: Listing, wanted: &[Rule], scope: &Scope) -> Vec<Change> {
    let mut changes = Vec::new();
    for (table, chain) in rules::CHAINS {
        listing.entry((table, chain.to_owned())).or_insert_with(|| {
            changes.push(Change::Chain(table, chain.to_owned()));
            Vec::new()
        });
    }
    let base = rules::base();
    let is_wanted = |table: Table, chain: &str, spec: &str| {
        wanted
            .iter()
            .any(|rule| rule.table == table && rule.chain == chain && rule.spec == spec)
    };
    let mut keys: Vec<_> = listing.keys().cloned().collect();
    keys.sort();
    for key in &keys {
        let (table, chain) = key;
        let Some(specs) = listing.get_mut(key) else { continue };
        specs.retain(|spec| {
            let keep = !scope.owns(spec) || is_wanted(*table, chain, spec);
            if !keep {
                changes.push(Change::Delete(*table, chain.clone(), spec.clone()));
            }
            keep
        });
    }
    let mut tops: HashMap<(Table, &str), usize> = HashMap::new();
    for rule in base.iter().chain(wanted) {
        let specs = listing.entry((rule.table, rule.chain.to_owned())).or_default();
        if specs.contains(&rule.spec) {
            continue;
        }
        let at = match rule.place {
            Place::Top => {
                let count = tops.entry((rule.table, rule.chain)).or_insert(0);
                *count += 1;
                *count - 1
            }
            Place::AfterJumps => after_jumps(specs, &rule.spec, wanted),
            Place::End => specs.len(),
        };
        specs.insert(at, rule.spec.clone());
        changes.push(Change::Insert(
            rule.table,
            rule.chain.to_owned(),
            at + 1,
            rule.spec.clone(),
        ));
    }
    changes
}

/// The place behind the jumps of `FORWARD`, and behind the wanted rules before `spec` that stand there already.
fn after_jumps(specs: &[String], spec: &str, wanted: &[Rule]) -> usize {
    let jumps = [format!("-j {}", rules::USER), format!("-j {}", rules::STAGE_1)];
    // The jumps themselves are no wanted rules: only another jump comes before one.
    let known = wanted.iter().any(|rule| rule.spec == spec);
    let before: Vec<&str> = wanted
        .iter()
        .filter(|_| known)
        .map(|rule| rule.spec.as_str())
        .take_while(|other| *other != spec)
        .collect();
    let is_before = |other: &String| jumps.contains(other) || before.contains(&other.as_str());
    specs.iter().rposition(is_before).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: &str, place: Place) -> Rule {
        Rule {
            table: Table::Filter,
            chain: "FORWARD",
            spec: spec.into(),
            place,
        }
    }

    #[test]
    fn beside_docker_only_ours_change() {
        let docker = [
            "-j DOCKER-USER",
            "-j DOCKER-ISOLATION-STAGE-1",
            "-o docker0 -j DOCKER",
            "-i br9 -j OLD",
            "-j REJECT",
        ];
        let mut listing = Listing::new();
        for (table, chain) in rules::CHAINS {
            listing.insert((table, chain.to_owned()), Vec::new());
        }
        for base in rules::base() {
            listing
                .entry((base.table, base.chain.to_owned()))
                .or_default()
                .push(base.spec);
        }
        listing.insert((Table::Filter, "FORWARD".into()), docker.map(str::to_owned).to_vec());
        let scope = Scope {
            bridges: vec!["br9".into()],
            subnets: vec![],
        };
        let wanted = [
            rule("-o br9 -j A", Place::AfterJumps),
            rule("-o br9 -j B", Place::AfterJumps),
        ];
        let changes = plan(listing, &wanted, &scope);
        let insert = |at, spec: &str| Change::Insert(Table::Filter, "FORWARD".into(), at, spec.into());
        let delete = Change::Delete(Table::Filter, "FORWARD".into(), "-i br9 -j OLD".into());
        assert_eq!(changes, [delete, insert(3, "-o br9 -j A"), insert(4, "-o br9 -j B")]);
    }

    #[test]
    fn whose_rule_it_is() {
        let scope = Scope {
            bridges: vec!["br9".into()],
            subnets: vec!["10.9.0.0/24".parse().unwrap()],
        };
        for (spec, ours) in [
            ("-i br9 -j ACCEPT", true),
            ("! -i br9 -o x -j ACCEPT", true),
            ("-i br90 -j ACCEPT", false),
            ("-p tcp -j DNAT --to-destination 10.9.0.2:80", true),
            ("-p tcp -j DNAT --to-destination 172.17.0.2:80", false),
            ("-s 10.9.0.0/24 -j ACCEPT", false),
        ] {
            assert_eq!(scope.owns(spec), ours, "{spec}");
        }
    }
}
