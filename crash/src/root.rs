//! An engine on the data root, without network and containers' processes, and a pull of it.

use crate::Result;
use crate::images::Made;
use engine::cancel::Cancel;
use engine::find_delta::Mode;
use engine::progress::Progress;
use engine::{Config, Engine, Limits};
use oci::platform::Platform;
use oci::reference::Reference;
use std::collections::BTreeMap;
use std::path::Path;
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
        insecure_registries: Vec::new(),
        mirrors: Vec::new(),
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

/// Pulls as the daemon does.
pub fn pull(engine: &Engine, reference: &Reference) -> Result<()> {
    pull_with(engine, reference, Mode::Auto)
}

/// The same by delta, or not at all.
pub fn update(engine: &Engine, reference: &Reference) -> Result<()> {
    pull_with(engine, reference, Mode::Only)
}

fn pull_with(engine: &Engine, reference: &Reference, delta: Mode) -> Result<()> {
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
