//! The record of a network, and the file they are kept in: `balena-networks.json`, ours alone.
//!
//! Replaced as a whole: written beside, synced, renamed, directory synced. A file that cannot be read is set
//! aside and reported; the predefined networks are made anew, so the daemon starts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use json::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::ipam::Ipam;

const VERSION: u32 = 1;

/// What moves a network's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    Bridge,
    /// The host's own network.
    Host,
    /// Loopback only.
    Null,
}

impl Driver {
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }

    pub fn parse(text: &str) -> Option<Driver> {
        match text {
            "bridge" | "" | "default" => Some(Driver::Bridge),
            "host" => Some(Driver::Host),
            "null" | "none" => Some(Driver::Null),
            _ => None,
        }
    }
}

/// A network as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    pub name: String,
    pub driver: Driver,
    /// None for `host` and `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Ipam>,
    /// `com.docker.network.…`
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// No way in or out.
    #[serde(default)]
    pub internal: bool,
    /// Kept and shown; addresses are IPv4.
    #[serde(default)]
    pub enable_ipv6: bool,
    #[serde(default)]
    pub attachable: bool,
    /// The user named the subnet, so a container's address on it may be asked for.
    #[serde(default)]
    pub own_subnet: bool,
    pub created: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    networks: Vec<Network>,
    /// The state of Docker's database when its networks were last taken over.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    taken_over: String,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("balena-networks.json")
}

/// Reads the networks kept in a directory, and which state of Docker's database they know. Empty where there are none yet.
pub fn load(dir: &Path) -> Result<(Vec<Network>, String)> {
    let path = path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(e) => return Err(Error::io(format!("read {}", path.display()), e)),
    };
    let complaint = match json::from_slice::<Wire>(&bytes) {
        Ok(wire) if wire.version == VERSION => return Ok((wire.networks, wire.taken_over)),
        Ok(wire) => format!("version {} is not known", wire.version),
        Err(e) => e.to_string(),
    };
    let aside = path.with_extension("json.unreadable");
    log::error!(
        "networks in {} cannot be read, set aside as {}: {complaint}",
        path.display(),
        aside.display()
    );
    fs::rename(&path, &aside).what(|| format!("rename {} to {}", path.display(), aside.display()))?;
    Ok(Default::default())
}

/// Replaces the networks kept in a directory. On return they survive power loss.
pub fn save(dir: &Path, networks: &[Network], taken_over: &str) -> Result<()> {
    let wire = Wire {
        version: VERSION,
        networks: networks.to_vec(),
        taken_over: taken_over.to_owned(),
    };
    let path = path(dir);
    let bytes = json::to_vec(&wire);
    let beside = path.with_extension("json.tmp");
    let write = || {
        fs::create_dir_all(dir)?;
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(dir)?.sync_all()
    };
    write().what(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().0.is_empty());
        let network = Network {
            id: "a".repeat(64),
            name: "n".into(),
            driver: Driver::Bridge,
            ipam: Some(Ipam::new("10.0.0.0/24".parse().unwrap(), None, None, vec![]).unwrap()),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            internal: false,
            enable_ipv6: false,
            attachable: false,
            own_subnet: true,
            created: SystemTime::UNIX_EPOCH,
        };
        save(dir.path(), std::slice::from_ref(&network), "1:2").unwrap();
        assert_eq!(load(dir.path()).unwrap(), (vec![network], "1:2".to_owned()));
        fs::write(path(dir.path()), "{").unwrap();
        assert!(load(dir.path()).unwrap().0.is_empty());
        assert!(dir.path().join("balena-networks.json.unreadable").exists());
    }
}
