//! An engine on the data root, without network and containers' processes, and a pull of it.

use crate::Result;
use crate::images::Made;
use crate::ledger::Effects;
use engine::cancel::Cancel;
use engine::find_delta::Mode;
use engine::progress::Progress;
use engine::{Config, Engine, Limits};
use oci::platform::Platform;
use oci::reference::Reference;
use rustix::fs::FallocateFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tests::delta::Artifact;
use tests::double::{Double, Fault};

/// Opens the engine as the daemon does.
pub fn open(root: &Path) -> Result<Arc<Engine>> {
    let config = Config {
        data_root: root.to_owned(),
        exec_root: root.join("unused"),
        platform: Platform {
            os: "linux".into(),
            architecture: tests::image::architecture().into(),
            ..Platform::default()
        },
        limits: Limits {
            downloads: 3,
            uploads: 5,
            download_rate: 0,
            upload_attempts: 5,
        },
        delta: Mode::Auto,
        delta_data_root: None,
        runtimes: BTreeMap::new(),
        default_runtime: String::new(),
        log_driver: "none".into(),
        log_opts: BTreeMap::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        default_ulimits: Vec::new(),
        default_shm_size: 0,
        cgroup_parent: String::new(),
        systemd_cgroup: false,
        init: false,
        no_new_privileges: false,
        labels: Vec::new(),
        experimental: false,
        debug: false,
        hosts: Vec::new(),
        bridge: "none".into(),
        iptables: false,
        default_cgroupns: String::new(),
        default_ipc: String::new(),
        host_gateway: None,
        seccomp: None,
        proxies: Default::default(),
    };
    let network = network::Config {
        bridge: "none".into(),
        iptables: false,
        ip_forward: false,
        ..network::Config::default()
    };
    Engine::open(config, network, registry::Config::default()).map_err(|e| format!("open the data root: {e}"))
}

/// Recovers as the daemon does at its start, and tells what is there then, as a ledger would.
pub fn recover(engine: &Engine) -> Result<Effects> {
    let store = &engine.store;
    if let Some(error) = store.rw.unmount_stale(&Default::default()).first() {
        return Err(format!("unmount: {error}"));
    }
    if let Some(error) = store.sweep().errors.first() {
        return Err(format!("sweep: {error}"));
    }
    let mut found = Effects::new();
    for (name, id) in store.tags.list() {
        found.push((format!("tag {}", name.familiar()), Some(id.to_string())));
    }
    for id in store.images.list() {
        store.images.config(&id).map_err(say)?;
        found.push((format!("image {id}"), Some("there".into())));
    }
    let mut containers = Vec::new();
    for id in store.containers.list().map_err(say)? {
        // A directory without the record is a container that does not exist; the engine removes it.
        match store.containers.read(&id, "config.v2.json").map_err(say)? {
            Some(bytes) => {
                let record = String::from_utf8_lossy(&bytes).into_owned();
                found.push((format!("container {id}"), Some(record)));
                containers.push(id);
            }
            None => drop(store.containers.remove(&id).map_err(say)?),
        }
    }
    for id in &containers {
        if store.rw.get(id).is_none() {
            return Err(format!("container {id} has no layer"));
        }
    }
    for id in store.rw.list() {
        if !containers.contains(&id) {
            store.rw.remove(&id).map_err(say)?;
        }
    }
    Ok(found)
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Starts a registry that serves an image, and says by which name.
pub fn serve(made: &Made) -> Result<Reference> {
    let double = Double::start(made.image.clone(), Fault::None).map_err(|e| format!("start a registry: {e}"))?;
    Reference::parse(&double.reference()).map_err(|e| e.to_string())
}

/// The same, but each answer ends after so many bytes.
pub fn serve_in_pieces(made: &Made, bytes: usize) -> Result<Reference> {
    let double = Double::start(made.image.clone(), Fault::CutEvery(bytes));
    let double = double.map_err(|e| format!("start a registry: {e}"))?;
    Reference::parse(&double.reference()).map_err(|e| e.to_string())
}

/// A registry that serves an image, with the delta that makes its topmost layer of another's.
pub fn serve_update(from: &Made, to: &Made) -> Result<Reference> {
    let (Some(old), Some(new)) = (from.image.layers.last(), to.image.layers.last()) else {
        return Err("an image without layers".into());
    };
    let artifact = Artifact::new(&to.image, &[tests::delta::between(&[old], new)]);
    let double = Double::with_deltas(to.image.clone(), vec![artifact], Fault::None);
    let double = double.map_err(|e| format!("start a registry: {e}"))?;
    Reference::parse(&double.reference()).map_err(|e| e.to_string())
}

/// A registry that serves a delta image, as balenaEngine makes it, between two.
pub fn serve_balena(from: &Made, to: &Made) -> Result<Reference> {
    let double = Double::start(tests::delta::balena_image(&from.image, &to.image), Fault::None);
    let double = double.map_err(|e| format!("start a registry: {e}"))?;
    Reference::parse(&double.reference()).map_err(|e| e.to_string())
}

/// Loads an archive as the daemon does.
pub fn load(engine: &Engine, archive: &[u8]) -> Result<()> {
    let request = engine::load::Request {
        archive: &mut &archive[..],
        platform: None,
        quiet: true,
    };
    let cancel = Cancel::new().map_err(|e| e.to_string())?;
    engine::load::load(engine, request, &Progress::silent(), &cancel).map_err(|e| format!("load: {e}"))
}

/// Reads every byte of an image, or of all, and repairs what is damaged if told to.
pub fn verify(engine: &Engine, image: Option<&str>, repair: bool) -> Result<()> {
    let names: Vec<String> = image.map(str::to_owned).into_iter().collect();
    let request = engine::verify::Request {
        names: &names,
        deep: true,
        repair,
        auth: registry::Auth::Anonymous,
    };
    let cancel = Cancel::new().map_err(|e| e.to_string())?;
    engine::verify::verify(engine, &request, &Progress::silent(), &cancel).map_err(|e| format!("verify: {e}"))
}

/// Where a file lies that takes the room away: beside the data root, on its file system.
pub fn ballast(root: &Path) -> PathBuf {
    root.with_file_name("ballast")
}

/// Takes all room but so many bytes.
pub fn leave(root: &Path, bytes: u64) -> Result<()> {
    let path = ballast(root);
    let file = File::create(&path).map_err(|e| format!("create {}: {e}", path.display()))?;
    let (mut at, mut step) = (0, u64::MAX);
    // Not every file system gives all that it calls free, or at once.
    loop {
        let free = rustix::fs::statvfs(&path).map_err(|e| format!("stat file system: {e}"))?;
        let most = (free.f_bavail * free.f_frsize).saturating_sub(bytes).min(step);
        if most < 64 << 10 {
            return file.sync_all().map_err(|e| format!("sync {}: {e}", path.display()));
        }
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), at, most) {
            Ok(()) => at += most,
            Err(_) => step = most / 2,
        }
    }
}

/// Gives the room back; fine if it is there.
pub fn release(root: &Path) -> Result<()> {
    let path = ballast(root);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Pulls as the daemon does.
pub fn pull(engine: &Engine, reference: &Reference) -> Result<()> {
    pull_with(engine, reference, Mode::Auto)
}

pub fn pull_with(engine: &Engine, reference: &Reference, delta: Mode) -> Result<()> {
    let request = engine::pull::Request {
        reference,
        platform: None,
        auth: registry::Auth::Anonymous,
        delta,
    };
    let cancel = Cancel::new().map_err(|e| e.to_string())?;
    engine::pull::pull(engine, request, &Progress::silent(), &cancel)
        .map(drop)
        .map_err(|e| format!("pull {}: {e}", reference.familiar()))
}
