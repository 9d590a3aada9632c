//! Who is called what on networks of one's own: what each container's name server answers.

use crate::Engine;
use crate::connect;
use crate::container::Record;
use crate::error::Result;
use crate::id::ContainerId;
use crate::table::Container;
use network::Sandbox;
use network::resolver::{Names, Resolver};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};

/// Says if containers on this network find each other by name.
pub(crate) fn has_names(network: &str) -> bool {
    !matches!(network, "" | "bridge" | "host" | "none")
}

/// The names of a container on a network: its own, the aliases asked for, its short ID.
pub(crate) fn names_of(record: &Record, network: &str) -> Vec<String> {
    let mut names = vec![record.name().to_owned()];
    let endpoint = record.disk.network_settings.networks.get(network);
    let aliases = endpoint
        .into_iter()
        .flatten()
        .filter_map(|endpoint| endpoint.aliases.as_ref());
    for alias in aliases.flatten().cloned().chain([record.id.short().to_owned()]) {
        if !names.contains(&alias) {
            names.push(alias);
        }
    }
    names
}

/// Starts a running container's name server, if it is on a network with names and has none yet.
pub(crate) fn serve(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let (record, sandbox) = {
        let inner = container.lock();
        let named = inner.live.endpoints.iter().any(|endpoint| has_names(&endpoint.network));
        if !named || inner.live.resolver.is_some() {
            return Ok(());
        }
        (
            inner.record.clone(),
            inner.record.disk.network_settings.sandbox_key.clone(),
        )
    };
    let names = Seen {
        engine: Arc::downgrade(engine),
        container: record.id.clone(),
    };
    let servers = connect::name_servers(engine, &record);
    let servers: Vec<IpAddr> = servers
        .iter()
        .filter_map(|text| text.split('%').next()?.parse().ok())
        .collect();
    let resolver = Resolver::start(&Sandbox::at(sandbox), Arc::new(names), servers)?;
    container.lock().live.resolver = Some(resolver);
    Ok(())
}

/// What a container is linked to under a name, on a network: `--link other:alias`.
fn linked<'a>(record: &'a Record, network: &str, name: &str) -> Option<&'a str> {
    let endpoint = record.disk.network_settings.networks.get(network)?.as_ref()?;
    endpoint.links.iter().flatten().find_map(|link| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        alias.eq_ignore_ascii_case(name).then_some(target)
    })
}

/// The networks as one container sees them.
struct Seen {
    engine: Weak<Engine>,
    container: ContainerId,
}

impl Seen {
    /// Asks about every container on a network that this one is on, too.
    fn each<T>(&self, mut about: impl FnMut(&Record, &network::EndpointState) -> Option<T>) -> Vec<T> {
        let Some(engine) = self.engine.upgrade() else {
            return Vec::new();
        };
        let Ok(own) = engine.containers.find(self.container.as_str()) else {
            return Vec::new();
        };
        let mine: Vec<String> = {
            let inner = own.lock();
            let endpoints = inner
                .live
                .endpoints
                .iter()
                .filter(|endpoint| has_names(&endpoint.network));
            endpoints.map(|endpoint| endpoint.network_id.clone()).collect()
        };
        let mut found = Vec::new();
        for container in engine.containers.all() {
            let inner = container.lock();
            for endpoint in inner.live.endpoints.iter().filter(|e| mine.contains(&e.network_id)) {
                found.extend(about(&inner.record, endpoint));
            }
        }
        found
    }
}

impl Names for Seen {
    fn lookup(&self, name: &str) -> Option<Vec<Ipv4Addr>> {
        let own = self.engine.upgrade()?.containers.find(self.container.as_str());
        let own = own.map(|container| container.record().clone()).ok();
        let found = self.each(|record, endpoint| {
            let link = own.as_ref().and_then(|own| linked(own, &endpoint.network, name));
            if let Some(target) = link {
                let names = names_of(record, &endpoint.network);
                let is_it = record.id.as_str() == target || names.iter().any(|own| own == target);
                return endpoint.ip.filter(|_| is_it);
            }
            let suffix = format!(".{}", endpoint.network.to_ascii_lowercase());
            let bare = name.strip_suffix(&suffix).unwrap_or(name);
            let names = names_of(record, &endpoint.network);
            let called = names
                .iter()
                .any(|own| own.eq_ignore_ascii_case(bare) || own.eq_ignore_ascii_case(name));
            endpoint.ip.filter(|_| called)
        });
        (!found.is_empty()).then_some(found)
    }

    fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        let found = self.each(|record, endpoint| {
            (endpoint.ip == Some(address)).then(|| format!("{}.{}", record.name(), endpoint.network))
        });
        found.into_iter().next()
    }
}
