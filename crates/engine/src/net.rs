//! Networks as the API lists them, with the containers that are on them.

use crate::Engine;
use crate::error::{Error, Result};
use crate::filter::{self, Filters};
use api::network::{Ipam, IpamConfig, Network, NetworkContainer};
use std::collections::BTreeMap;

/// All networks that pass the filters.
pub fn list(engine: &Engine, filters: &Filters) -> Result<Vec<Network>> {
    let any = |name: &str, test: &dyn Fn(&String) -> bool| filters.get(name).is_none_or(|v| v.iter().any(test));
    let dangling = filter::flag(filters, "dangling")?;
    for wanted in filters.get("type").into_iter().flatten() {
        if wanted != "builtin" && wanted != "custom" {
            return Err(Error::invalid(format!("invalid filter: 'type'='{wanted}'")));
        }
    }
    let predefined = |name: &str| matches!(name, "bridge" | "host" | "none");
    let mut rows: Vec<Network> = engine
        .networks
        .list()
        .iter()
        .filter(|n| {
            filter::any_name(filters, "name", &[&n.name])
                && filter::any_name(filters, "id", &[&n.id])
                && any("driver", &|w| n.driver.as_str() == w)
                && any("scope", &|w| w == "local")
                && any("type", &|w| (w == "builtin") == predefined(&n.name))
                && dangling.is_none_or(|dangling| {
                    dangling == (engine.networks.endpoints(&n.id).is_empty() && !predefined(&n.name))
                })
                && filters
                    .get("label")
                    .is_none_or(|l| l.iter().all(|w| crate::image::matches_label(&n.labels, w)))
        })
        .map(|n| wire(engine, n, false))
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// One network.
pub fn inspect(engine: &Engine, name: &str) -> Result<Network> {
    Ok(wire(engine, &engine.networks.inspect(name)?, true))
}

fn wire(engine: &Engine, network: &network::Network, containers: bool) -> Network {
    let config = network.ipam.as_ref().map(|ipam| IpamConfig {
        subnet: ipam.subnet.to_string(),
        gateway: ipam.gateway.to_string(),
        ip_range: ipam.range.map(|r| r.to_string()).unwrap_or_default(),
        aux_addresses: Some(
            ipam.auxiliary
                .iter()
                .map(|(name, ip)| (name.clone(), ip.to_string()))
                .collect(),
        )
        .filter(|addresses: &BTreeMap<_, _>| !addresses.is_empty()),
    });
    Network {
        name: network.name.clone(),
        id: network.id.clone(),
        created: api::time::Time::of(network.created).to_rfc3339(),
        scope: "local".into(),
        driver: network.driver.as_str().into(),
        enable_ipv4: true,
        enable_ipv6: network.enable_ipv6,
        ipam: Ipam {
            driver: "default".into(),
            options: None,
            config: Some(config.into_iter().collect()),
        },
        internal: network.internal,
        attachable: network.attachable,
        containers: if containers {
            members(engine, &network.id)
        } else {
            BTreeMap::new()
        },
        options: network.options.clone(),
        labels: network.labels.clone(),
        ..Network::default()
    }
}

fn members(engine: &Engine, id: &str) -> BTreeMap<String, NetworkContainer> {
    let mut map = BTreeMap::new();
    for container in engine.containers.all() {
        let inner = container.lock();
        for endpoint in inner.live.endpoints.iter().filter(|e| e.network_id == id) {
            let row = NetworkContainer {
                name: inner.record.name().into(),
                endpoint_id: endpoint.endpoint_id.clone(),
                mac_address: endpoint.mac.clone(),
                ipv4_address: endpoint
                    .ip
                    .map(|ip| format!("{ip}/{}", endpoint.prefix))
                    .unwrap_or_default(),
                ipv6_address: String::new(),
            };
            map.insert(inner.record.id.to_string(), row);
        }
    }
    map
}
