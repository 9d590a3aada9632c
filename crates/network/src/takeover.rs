//! Networks that Docker or balenaEngine made in this data root: read from their database, which stays as it is.
//!
//! libnetwork keeps each network as JSON behind eight bytes of counter, in the bucket `libnetwork` of
//! `local-kv.db`. Bridge networks are taken over with their ID, so that containers' records still name them; those of
//! drivers that balena has not are reported. Source: libnetwork's `network.go` and `datastore`, Docker 20.10 to 28.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::SystemTime;

use json::Deserialize;
use oci::bolt::{Database, LARGEST};

use crate::error::{Context, Error, Result};
use crate::ipam::Ipam;
use crate::record::{Driver, Network};
use crate::subnet::parse_with_host;

const FILE: &str = "local-kv.db";
const BUCKET: &str = "libnetwork";
const PREFIX: &[u8] = b"docker/network/v1.0/network/";
/// Before each value: how often it was written.
const COUNTER: usize = 8;

/// A network as libnetwork writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    id: String,
    name: String,
    network_type: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    attachable: bool,
    #[serde(default, rename = "enableIPv6")]
    enable_ipv6: bool,
    #[serde(default)]
    config_only: bool,
    #[serde(default)]
    in_delete: bool,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    generic: Option<BTreeMap<String, serde_json::Value>>,
    /// JSON in a string.
    #[serde(default, rename = "ipamV4Config")]
    configs: Option<String>,
    /// JSON in a string.
    #[serde(default, rename = "ipamV4Info")]
    infos: Option<String>,
}

/// What the user asked for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Config {
    preferred_pool: String,
    sub_pool: String,
    aux_addresses: Option<BTreeMap<String, String>>,
}

/// What it got; `IPAMData` is JSON in a string again.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "IPAMData")]
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    gateway: String,
    pool: String,
}

/// Which state of Docker's database a directory has; empty if there is none. Networks are taken over again only when it
/// has changed since: one that was removed here stays removed, though Docker's list still has it.
pub fn state(dir: &Path) -> String {
    let Ok(data) = fs::metadata(dir.join(FILE)) else {
        return String::new();
    };
    let modified = data
        .modified()
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!("{}:{}", modified.map_or(0, |since| since.as_nanos()), data.len())
}

/// The bridge networks of Docker's in a directory, the predefined ones left out. A database that is not there has none;
/// what cannot be read of one is reported in the log.
pub fn networks(dir: &Path) -> Vec<Network> {
    let path = dir.join(FILE);
    let read = || -> Result<Vec<Network>> {
        let size = match fs::metadata(&path) {
            Ok(data) => data.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(format!("look at {}", path.display()), e)),
        };
        if size > LARGEST {
            return Err(Error::invalid(format!(
                "{} has {size} bytes, which no list of networks has",
                path.display()
            )));
        }
        let bytes = fs::read(&path).what(|| format!("read {}", path.display()))?;
        of_database(&bytes).map_err(|e| Error::invalid(format!("read {}: {e}", path.display())))
    };
    read().unwrap_or_else(|error| {
        log::error!("Docker's networks are not taken over: {error}");
        Vec::new()
    })
}

fn of_database(bytes: &[u8]) -> std::result::Result<Vec<Network>, oci::bolt::BoltError> {
    let pairs = Database::open(bytes)?.bucket(BUCKET)?.unwrap_or_default();
    let mut networks = Vec::new();
    for (key, value) in pairs {
        if !key.starts_with(PREFIX) {
            continue;
        }
        let json = value.get(COUNTER..).unwrap_or_default();
        match json::from_slice::<Stored>(json) {
            Ok(stored) => networks.extend(network(stored)),
            Err(e) => log::error!("a network of Docker's is not taken over: {e}"),
        }
    }
    Ok(networks)
}

/// The network as we keep it; `None`, with a word in the log where that is news, for one that we do not take.
fn network(stored: Stored) -> Option<Network> {
    if stored.in_delete || matches!(stored.name.as_str(), "bridge" | "host" | "none") {
        return None;
    }
    if stored.network_type != "bridge" || stored.config_only || !matches!(stored.scope.as_str(), "" | "local") {
        log::warn!(
            "network {} of Docker's is not taken over: driver {} is not supported by balena",
            stored.name,
            stored.network_type
        );
        return None;
    }
    let config = first::<Config>(stored.configs.as_deref()).unwrap_or_default();
    let ipam = ipam_of(&config, stored.infos.as_deref());
    let Some(ipam) = ipam else {
        log::warn!(
            "network {} of Docker's is not taken over: it has no IPv4 subnet",
            stored.name
        );
        return None;
    };
    let options = stored
        .generic
        .as_ref()
        .and_then(|generic| generic.get("com.docker.network.generic"));
    let options = options.and_then(|options| json::from_value(options).ok());
    let created = api::time::Time::parse(&stored.created).map_or(SystemTime::UNIX_EPOCH, |time| time.to_system());
    Some(Network {
        id: stored.id,
        name: stored.name,
        driver: Driver::Bridge,
        ipam: Some(ipam),
        options: options.unwrap_or_default(),
        labels: stored.labels.unwrap_or_default(),
        internal: stored.internal,
        enable_ipv6: stored.enable_ipv6,
        attachable: stored.attachable,
        own_subnet: !config.preferred_pool.is_empty(),
        created,
    })
}

/// The first of a list that is JSON in a string.
fn first<T: json::Deserialize>(text: Option<&str>) -> Option<T> {
    json::from_str::<Vec<T>>(text?).ok()?.into_iter().next()
}

fn ipam_of(config: &Config, infos: Option<&str>) -> Option<Ipam> {
    let info: Info = first(infos)?;
    let data: Data = json::from_str(&info.data).ok()?;
    let (_, subnet) = parse_with_host(&data.pool).ok()?;
    let (gateway, _) = parse_with_host(&data.gateway).ok()?;
    let range = match config.sub_pool.as_str() {
        "" => None,
        text => Some(parse_with_host(text).ok()?.1),
    };
    let auxiliary = config.aux_addresses.iter().flatten();
    let auxiliary: Vec<(String, Ipv4Addr)> = auxiliary
        .filter_map(|(name, address)| Some((name.clone(), address.split('/').next()?.parse().ok()?)))
        .collect();
    Ipam::new(subnet, Some(gateway), range, auxiliary).ok()
}
