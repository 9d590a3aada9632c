//! The parts that verbs work with, and how they are opened.

use crate::container::Record;
use crate::error::{Context, Error, Kind, Result};
use crate::events::Events;
use crate::exec::Execs;
use crate::pace::Pace;
use crate::share::Sharing;
use crate::table::{Container, Table};
use crate::watch::Watch;
use api::host_config::Ulimit;
use network::Networks;
use oci::platform::Platform;
use registry::Registry;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use store::Store;

/// What the engine is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub platform: Platform,
    pub limits: Limits,
    /// Whether pulls use deltas if they are not told.
    pub delta: crate::find_delta::Mode,
    /// A second data root, read only, in which the bases of balenaEngine's deltas may be.
    pub delta_data_root: Option<PathBuf>,
    /// OCI runtimes beside our own, by name.
    pub runtimes: BTreeMap<String, Runtime>,
    pub default_runtime: String,
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub default_ulimits: Vec<Ulimit>,
    /// Bytes.
    pub default_shm_size: i64,
    pub cgroup_parent: String,
    pub systemd_cgroup: bool,
    pub init: bool,
    pub no_new_privileges: bool,
    pub labels: Vec<String>,
    pub experimental: bool,
    pub debug: bool,
    pub hosts: Vec<String>,
    /// The group of the socket, for `info` only.
    pub bridge: String,
    pub iptables: bool,
    pub default_cgroupns: String,
    /// `private` or `shareable`; empty is `private`.
    pub default_ipc: String,
    /// What `host-gateway` stands for; `None` is the default bridge's address.
    pub host_gateway: Option<IpAddr>,
    /// The seccomp profile of containers that name none, `unconfined`, or `None` for the built-in one.
    pub seccomp: Option<String>,
    /// For http, for https, and for whom there is none; for `info`, without passwords.
    pub proxies: [String; 3],
}

/// How much is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub downloads: usize,
    pub uploads: usize,
    /// Bytes a second that all pulls together may take from the network; 0 for as many as come.
    pub download_rate: u64,
    /// How often a layer's upload is tried.
    pub upload_attempts: u32,
}

/// An OCI runtime that containers may ask for by name.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// The engine.
pub struct Engine {
    pub config: Config,
    pub store: Store,
    pub networks: Networks,
    pub events: Events,
    pub containers: Table,
    pub execs: Execs,
    /// Pulls that are going on.
    pub pulls: Sharing<crate::pull::Key>,
    pub(crate) watch: Watch,
    pub(crate) pace: Pace,
    registry: RwLock<Registry>,
    limits: RwLock<Limits>,
    /// The daemon is going down: nothing is restarted any more.
    pub(crate) closing: Mutex<bool>,
}

impl Engine {
    /// Opens the data root and the networks. Containers are taken up by [`crate::reopen::all`].
    pub fn open(config: Config, network: network::Config, registry: registry::Config) -> Result<Arc<Engine>> {
        let store = Store::open(&config.data_root)?;
        let networks = Networks::open(&config.data_root.join("network/files"), network)?;
        Ok(Arc::new(Engine {
            store,
            networks,
            events: Events::default(),
            containers: Table::default(),
            execs: Execs::default(),
            pulls: Sharing::default(),
            watch: Watch::start().context("start watching containers")?,
            pace: Pace::new(config.limits.download_rate),
            registry: RwLock::new(Registry::new(registry)),
            limits: RwLock::new(config.limits),
            closing: Mutex::new(false),
            config,
        }))
    }

    /// The registry client.
    pub fn registry(&self) -> Registry {
        self.registry.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// What pulls and pushes are held to; of pulls' rate, what the daemon was started with counts.
    pub fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Replaces the registry client, for a reload.
    pub fn set_registry(&self, config: registry::Config) {
        *self.registry.write().unwrap_or_else(|e| e.into_inner()) = Registry::new(config);
    }

    /// Replaces the limits, for pulls and pushes that begin from now on.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(|e| e.into_inner()) = limits;
    }

    /// Says that the daemon is going down.
    pub fn close(&self) {
        *self.closing.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.events.close();
        self.watch.stop();
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Makes a container's record durable.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let bytes = record.to_config_json();
        Ok(self
            .store
            .containers
            .write(record.id.as_str(), "config.v2.json", &bytes, 0o600)?)
    }

    /// Makes a container's host config durable.
    pub(crate) fn save_host(&self, record: &Record) -> Result<()> {
        let bytes = record.to_host_json();
        Ok(self
            .store
            .containers
            .write(record.id.as_str(), "hostconfig.json", &bytes, 0o644)?)
    }

    /// Tells of something that happened to a container.
    pub(crate) fn container_event(&self, action: &str, record: &Record, more: &[(&str, String)]) {
        let mut attributes = record.disk.config.labels.clone().unwrap_or_default();
        attributes.insert("image".into(), record.disk.config.image.clone());
        attributes.insert("name".into(), record.name().into());
        for (key, value) in more {
            attributes.insert((*key).into(), value.clone());
        }
        self.events.emit("container", action, record.id.as_str(), attributes);
    }

    /// Where a running container's socket, bundle and network state lie; gone after a reboot.
    pub(crate) fn run_directory(&self, container: &Container) -> PathBuf {
        self.config.exec_root.join("containers").join(container.id.as_str())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        let kind = match &error {
            store::Error::NotFound(_) => Kind::NotFound,
            store::Error::Conflict(_) => Kind::Conflict,
            _ => Kind::Internal,
        };
        Error::new(kind, error.to_string()).caused_by(error)
    }
}

impl From<network::Error> for Error {
    fn from(error: network::Error) -> Error {
        let kind = match error.kind {
            network::ErrorKind::NotFound => Kind::NotFound,
            network::ErrorKind::Conflict => Kind::Conflict,
            network::ErrorKind::Forbidden => Kind::Forbidden,
            network::ErrorKind::Invalid => Kind::Invalid,
            network::ErrorKind::System => Kind::Internal,
        };
        Error::new(kind, error.message)
    }
}
