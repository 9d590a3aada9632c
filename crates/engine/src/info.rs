//! The machine and the engine about themselves: `info`, `version`, `system df`, and what verbs ask of the host.

use crate::Engine;
use crate::container::State;
use crate::error::{Error, Result};
use api::container::Top;
use api::system::{Component, PlatformName, Version};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use sys::resolve::{self, Scope};

/// The largest passwd or group file of an image that is read, in bytes.
const MAX_DATABASE: u64 = 4 << 20;

/// How many CPUs this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// Whether the machine has only the unified cgroup hierarchy.
pub fn cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The host's name.
pub fn hostname() -> String {
    read("/proc/sys/kernel/hostname")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

/// The capabilities that this daemon can give away: those of its own bounding and permitted sets.
pub fn bounding() -> Vec<String> {
    let status = read("/proc/self/status");
    let set = |name: &str| {
        let hex = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim();
        u64::from_str_radix(hex, 16).unwrap_or(0)
    };
    crate::spec::capability_names(set("CapBnd:") & set("CapPrm:"))
}

/// Major and minor of a device number, as glibc and the kernel pack them.
pub fn device_numbers(device: u64) -> (u32, u32) {
    let major = (device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000);
    let minor = device & 0xff | (device >> 12 & 0xffff_ff00);
    (
        u32::try_from(major).unwrap_or(u32::MAX),
        u32::try_from(minor).unwrap_or(u32::MAX),
    )
}

/// A small text file inside an untrusted root, empty if it is not there: its links stay inside.
pub fn read_in(root: &Path, name: &str) -> String {
    let open = || -> std::io::Result<String> {
        let root = File::open(root)?;
        let file: File = resolve::open_file(root.as_fd(), Path::new(name), Scope::InRoot)?.into();
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(MAX_DATABASE).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    open().unwrap_or_default()
}

/// The rows of `ps` on the host that are about these processes.
pub fn processes(pids: &[i32], arguments: &str) -> Result<Top> {
    let arguments = if arguments.is_empty() { "-ef" } else { arguments };
    let output = std::process::Command::new("ps")
        .args(arguments.split_whitespace())
        .output()
        .map_err(|e| Error::internal(format!("error running ps: {e}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::internal(format!(
            "ps: {}",
            text.lines().next().unwrap_or_default()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or("")
        .split_whitespace()
        .map(str::to_string)
        .collect();
    let column = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::internal("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(pid) = words.get(column).and_then(|p| p.parse::<i32>().ok()) else {
            continue;
        };
        if pids.contains(&pid) {
            // The command is the last column and may hold blanks.
            let last = titles.len() - 1;
            let mut row: Vec<String> = words.iter().take(last).map(|w| w.to_string()).collect();
            row.push(words.get(last..).unwrap_or(&[]).join(" "));
            processes.push(row);
        }
    }
    Ok(Top { titles, processes })
}

fn uname_release() -> String {
    read("/proc/sys/kernel/osrelease")
}

/// Go's word for this machine's architecture.
fn architecture(engine: &Engine) -> String {
    engine.config.platform.architecture.clone()
}

/// The machine's word, as `uname -m` gives it.
pub fn machine_name() -> String {
    sys::fs::machine()
}

/// The answer to `GET /version`.
pub fn version(engine: &Engine) -> Version {
    let (major, minor) = api::VERSION;
    let (min_major, min_minor) = api::MIN_VERSION;
    let api_version = format!("{major}.{minor}");
    let min_api = format!("{min_major}.{min_minor}");
    let kernel = uname_release();
    let details = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let commit = option_env!("BALENA_COMMIT").unwrap_or("unknown");
    let experimental = engine.config.experimental.to_string();
    let component = |name: &str, details: BTreeMap<String, String>| Component {
        name: name.into(),
        version: api::ENGINE_VERSION.into(),
        details,
    };
    Version {
        platform: PlatformName { name: "balena".into() },
        components: vec![
            component(
                "Engine",
                details(&[
                    ("ApiVersion", &api_version),
                    ("Arch", &architecture(engine)),
                    ("BuildTime", ""),
                    ("Experimental", &experimental),
                    ("GitCommit", commit),
                    ("GoVersion", ""),
                    ("KernelVersion", &kernel),
                    ("MinAPIVersion", &min_api),
                    ("Os", "linux"),
                ]),
            ),
            component("runc", details(&[("GitCommit", commit)])),
            component("docker-init", details(&[("GitCommit", commit)])),
        ],
        version: api::ENGINE_VERSION.into(),
        api_version,
        min_api_version: min_api,
        git_commit: commit.into(),
        go_version: String::new(),
        os: "linux".into(),
        arch: architecture(engine),
        kernel_version: kernel,
        build_time: String::new(),
        engine: "balena-engine".into(),
    }
}

fn os_release(key: &str) -> String {
    let text = [read("/etc/os-release"), read("/usr/lib/os-release")]
        .into_iter()
        .find(|t| !t.is_empty());
    let text = text.unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or("").trim_matches('"').to_string()
}

/// The answer to `GET /info`.
pub fn info(engine: &Engine) -> Value {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    for container in engine.containers.all() {
        match container.record().state {
            State::Running { paused: true, .. } => paused += 1,
            State::Running { .. } | State::Restarting => running += 1,
            _ => stopped += 1,
        }
    }
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|l| {
            l.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        * 1024;
    let v2 = cgroup_v2();
    let v1 = |controller: &str, file: &str| Path::new("/sys/fs/cgroup").join(controller).join(file).exists();
    let mut runtimes: BTreeMap<String, Value> = engine
        .config
        .runtimes
        .iter()
        .map(|(name, runtime)| (name.clone(), json!({ "path": runtime.path })))
        .collect();
    for ours in ["runc", "io.containerd.runc.v2"] {
        runtimes.insert(ours.into(), json!({ "path": "balena-engine-runc" }));
    }
    runtimes.insert("bare".into(), json!({ "path": "" }));
    // As they are since the last reload.
    let registry = engine.registry();
    let mirrors = &registry.config().mirrors;
    let insecure = registry.config().insecure.iter();
    let (mut cidrs, hosts): (Vec<String>, Vec<String>) = insecure.cloned().partition(|r| r.contains('/'));
    cidrs.extend(["::1/128".to_string(), "127.0.0.0/8".to_string()]);
    let of_host = |host: &String| json!({"Name": host, "Mirrors": [], "Secure": false, "Official": false});
    let mut index: BTreeMap<String, Value> = hosts.iter().map(|host| (host.clone(), of_host(host))).collect();
    index.insert(
        "docker.io".to_string(),
        json!({"Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true}),
    );
    let warnings: Vec<String> = Vec::new();
    let mut answer = json!({
        "ID": daemon_id(engine),
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": engine.store.images.list().len(),
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", backing(&engine.config.data_root)],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": crate::log_driver::DRIVERS,
        },
    });
    let host = json!({
        "MemoryLimit": v2 || v1("memory", "memory.limit_in_bytes"),
        "SwapLimit": v2 || v1("memory", "memory.memsw.limit_in_bytes"),
        "CpuCfsPeriod": v2 || v1("cpu", "cpu.cfs_period_us"),
        "CpuCfsQuota": v2 || v1("cpu", "cpu.cfs_quota_us"),
        "CPUShares": v2 || v1("cpu", "cpu.shares"),
        "CPUSet": v2 || v1("cpuset", "cpuset.cpus"),
        "PidsLimit": v2 || v1("pids", "cgroup.procs"),
        "IPv4Forwarding": read("/proc/sys/net/ipv4/ip_forward") == "1",
        "Debug": engine.config.debug,
        "NFd": std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "OomKillDisable": !v2 && v1("memory", "memory.oom_control"),
        "NGoroutines": std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        "SystemTime": api::time::now(),
    });
    let setup = json!({
        "LoggingDriver": engine.config.log_driver,
        "CgroupDriver": if engine.config.systemd_cgroup { "systemd" } else { "cgroupfs" },
        "CgroupVersion": if v2 { "2" } else { "1" },
        "NEventsListener": 0,
        "KernelVersion": uname_release(),
        "OperatingSystem": os_release("PRETTY_NAME"),
        "OSVersion": os_release("VERSION_ID"),
        "OSType": "linux",
        "Architecture": machine_name(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": cidrs,
            "IndexConfigs": index,
            "Mirrors": mirrors,
        },
    });
    let rest = json!({
        "NCPU": cpus(),
        "MemTotal": memory,
        "GenericResources": null,
        "DockerRootDir": engine.config.data_root,
        "HttpProxy": engine.config.proxies[0],
        "HttpsProxy": engine.config.proxies[1],
        "NoProxy": engine.config.proxies[2],
        "Name": hostname(),
        "Labels": engine.config.labels,
        "ExperimentalBuild": engine.config.experimental,
        "ServerVersion": api::ENGINE_VERSION,
        "Runtimes": runtimes,
        "DefaultRuntime": engine.config.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "balena-engine-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": if v2 {
            json!(["name=seccomp,profile=builtin", "name=cgroupns"])
        } else {
            json!(["name=seccomp,profile=builtin"])
        },
        "CDISpecDirs": [],
        "Warnings": warnings,
    });
    if let Some(map) = answer.as_object_mut() {
        for part in [host, setup, rest] {
            map.extend(part.as_object().cloned().unwrap_or_default());
        }
    }
    answer
}

fn backing(path: &Path) -> &'static str {
    match sys::fs::magic(path) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0xf2f5_2010) => "f2fs",
        Ok(0x0102_1994) => "tmpfs",
        _ => "<unknown>",
    }
}

/// A name for this data root that stays: made once.
fn daemon_id(engine: &Engine) -> String {
    let path = engine.config.data_root.join("engine-id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        return id.trim().to_string();
    }
    let Ok(hex) = crate::id::random_hex(16) else {
        return String::new();
    };
    let id = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    );
    if let Err(e) = store::durable::write_atomic(&path, id.as_bytes(), 0o600) {
        log::warn!("keep the daemon's ID: {e}");
    }
    id
}

/// The answer to `GET /system/df`. `kinds` limits it; empty is all.
pub fn disk_usage(engine: &Engine, kinds: &[String], version: (u32, u32)) -> Result<Value> {
    let wants = |kind: &str| kinds.is_empty() || kinds.iter().any(|k| k == kind);
    let mut answer = serde_json::Map::new();
    let records: Vec<crate::container::Record> = engine.containers.all().iter().map(|c| c.record().clone()).collect();
    if wants("image") {
        let options = crate::image::ListOptions::default();
        let mut images = crate::image::list(engine, &options, version)?;
        let mut users: BTreeMap<store::ChainId, u32> = BTreeMap::new();
        let tops: BTreeMap<String, Option<store::ChainId>> = images
            .iter()
            .map(|i| {
                (
                    i.id.clone(),
                    crate::image::find(engine, &i.id)
                        .ok()
                        .and_then(|id| engine.store.images.top_layer(&id).ok()?),
                )
            })
            .collect();
        for top in tops.values().flatten() {
            for (chain, _) in engine.store.layers.chain(top) {
                *users.entry(chain).or_default() += 1;
            }
        }
        for image in &mut images {
            image.containers = records
                .iter()
                .filter(|r| r.disk.image == image.id)
                .count()
                .try_into()
                .unwrap_or(i64::MAX);
            let shared: u64 = tops.get(&image.id).and_then(Option::as_ref).map_or(0, |top| {
                let chain = engine.store.layers.chain(top);
                chain
                    .iter()
                    .filter(|(id, _)| users.get(id).is_some_and(|n| *n > 1))
                    .map(|(_, info)| info.size)
                    .sum()
            });
            image.shared_size = i64::try_from(shared).unwrap_or(i64::MAX);
        }
        let total: u64 = engine.store.layers.list().iter().map(|(_, info)| info.size).sum();
        answer.insert("LayersSize".into(), total.into());
        answer.insert("Images".into(), json::to_value(&images));
    }
    if wants("container") {
        let options = crate::list::Options {
            all: true,
            size: true,
            ..Default::default()
        };
        let rows = crate::list::list(engine, &options)?;
        answer.insert("Containers".into(), json::to_value(&rows));
    }
    if wants("volume") {
        let mut list = crate::volume::list(engine, &BTreeMap::new())?;
        // Docker counts none with options: they may be a share of any size.
        list.volumes.retain(|volume| volume.options.is_none());
        for volume in &mut list.volumes {
            let users = crate::volume::users(engine, &volume.name).len();
            volume.usage_data = Some(api::volume::Usage {
                ref_count: i64::try_from(users).unwrap_or(i64::MAX),
                size: engine
                    .store
                    .volumes
                    .size(&volume.name)
                    .map_or(-1, |s| i64::try_from(s).unwrap_or(i64::MAX)),
            });
        }
        answer.insert("Volumes".into(), json::to_value(&list.volumes));
    }
    if wants("build-cache") {
        answer.insert("BuildCache".into(), json!([]));
    }
    Ok(Value::Object(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_unpack() {
        assert_eq!(device_numbers(0x0103), (1, 3));
        assert_eq!(device_numbers(0x8801), (136, 1));
        assert_eq!(device_numbers(0x0010_0800), (8, 256));
    }

    #[test]
    fn files_of_an_untrusted_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("etc/passwd")).unwrap();
        std::fs::write(dir.path().join("etc/group"), "x").unwrap();
        assert_eq!(read_in(dir.path(), "etc/passwd"), "");
        assert_eq!(read_in(dir.path(), "etc/group"), "x");
        assert_eq!(read_in(dir.path(), "etc"), "");
    }
}
