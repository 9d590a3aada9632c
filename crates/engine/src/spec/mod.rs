//! A container's record and its image as an OCI runtime spec. Pure: what it needs of the host is in [`Host`].
//!
//! The shape is Docker's: its default mounts, masked paths, capabilities, device rules and their order.

mod block_io;
mod capabilities;
mod cpuset;
mod devices;
mod resources;

pub use capabilities::{names as capability_names, of as capabilities_of};
pub use devices::HostDevice;
pub use resources::{build as resources, check as check_resources};

use crate::container::Record;
use crate::error::{Error, Result};
use crate::user::User;
use oci::runtime as rt;
use rt::NamespaceKind as Ns;
use std::collections::BTreeMap;

/// Docker's default path.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a spec needs to know of the host and of what was prepared on it.
#[derive(Debug, Default)]
pub struct Host {
    /// The mounted root filesystem.
    pub rootfs: String,
    pub user: User,
    /// The network namespace; `None` is the host's.
    pub netns: Option<String>,
    /// Namespaces of other containers, or of the host, to be joined: `None` in the map is "not a new one".
    pub joined: BTreeMap<&'static str, Option<String>>,
    /// Files that the engine keeps for the container, bound to their places: (source, destination).
    pub files: Vec<(String, String)>,
    /// Mounts with their sources resolved, parents before children.
    pub mounts: Vec<rt::Mount>,
    /// Devices asked for with `--device`, or all of the host's for a privileged container.
    pub devices: Vec<HostDevice>,
    /// Capabilities that this daemon may give away.
    pub bounding: Vec<String>,
    /// Parent of the container's cgroup, for `cgroupfs` a path, for `systemd` a slice.
    pub cgroup_parent: String,
    pub systemd_cgroup: bool,
    pub cgroup_v2: bool,
    /// Bound as `/sbin/docker-init` for `--init`.
    pub init_path: Option<String>,
    /// Text of a seccomp profile named by `--security-opt`.
    pub seccomp: SeccompChoice,
    pub no_new_privileges: bool,
    /// Where the `shm` of a shareable container lies; `None` mounts one of its own.
    pub shm: Option<String>,
    pub default_ulimits: Vec<api::host_config::Ulimit>,
    pub oom_score_adj_floor: i32,
}

/// Which filter a container gets.
#[derive(Debug, Default)]
pub enum SeccompChoice {
    #[default]
    Default,
    Unconfined,
    Profile(Box<rt::Seccomp>),
}

/// Builds the spec.
pub fn build(record: &Record, host: &Host) -> Result<rt::Spec> {
    let config = &record.disk.config;
    let host_config = &record.host;
    let capabilities = capabilities::of(host_config, &host.bounding)?;
    let mut args = Vec::new();
    if host.init_path.is_some() {
        args.extend(["/sbin/docker-init".to_string(), "--".into()]);
    }
    args.push(record.disk.path.clone());
    args.extend(record.disk.args.iter().cloned());
    let seccomp = match &host.seccomp {
        _ if host_config.privileged => None,
        SeccompChoice::Unconfined => None,
        SeccompChoice::Default => Some(runtime::seccomp::docker_default(&capabilities)),
        SeccompChoice::Profile(profile) => Some((**profile).clone()),
    };
    let cwd = if config.working_dir.is_empty() {
        "/".to_string()
    } else {
        crate::mounts::clean(&config.working_dir)
    };
    let as_root = host.user.uid == 0;
    let process = rt::Process {
        terminal: config.tty,
        console_size: (config.tty && host_config.console_size != [0, 0]).then(|| rt::ConsoleSize {
            height: u16::try_from(host_config.console_size[0]).unwrap_or(u16::MAX),
            width: u16::try_from(host_config.console_size[1]).unwrap_or(u16::MAX),
        }),
        user: rt::User {
            uid: host.user.uid,
            gid: host.user.gid,
            umask: None,
            additional_gids: {
                let mut groups = vec![host.user.gid];
                groups.extend(host.user.groups.iter().filter(|g| **g != host.user.gid));
                groups
            },
        },
        args,
        env: environment(record, &host.user),
        cwd,
        capabilities: Some(rt::Capabilities {
            bounding: capabilities.clone(),
            effective: if as_root { capabilities.clone() } else { Vec::new() },
            inheritable: Vec::new(),
            permitted: if as_root { capabilities.clone() } else { Vec::new() },
            ambient: Vec::new(),
        }),
        rlimits: ulimits(
            host_config.ulimits.as_deref().unwrap_or_default(),
            &host.default_ulimits,
        )?,
        no_new_privileges: host.no_new_privileges,
        oom_score_adj: Some(
            i32::try_from(host_config.oom_score_adj)
                .unwrap_or(0)
                .max(host.oom_score_adj_floor),
        ),
        ..rt::Process::default()
    };
    let mut spec = rt::Spec {
        oci_version: rt::OCI_VERSION.into(),
        process: Some(process),
        root: Some(rt::Root {
            path: host.rootfs.clone(),
            readonly: host_config.readonly_rootfs,
        }),
        hostname: if host.joined.contains_key("uts") {
            String::new()
        } else {
            config.hostname.clone()
        },
        domainname: if host.joined.contains_key("uts") {
            String::new()
        } else {
            config.domainname.clone()
        },
        mounts: mounts(record, host),
        hooks: None,
        annotations: host_config.annotations.clone().unwrap_or_default(),
        linux: Some(rt::Linux {
            sysctl: sysctls(record, host),
            cgroups_path: cgroup_path(record, host),
            namespaces: namespaces(record, host),
            devices: host.devices.iter().map(HostDevice::node).collect(),
            resources: Some(resources::build(host_config, &host.devices)?),
            seccomp,
            rootfs_propagation: propagation(&host.mounts),
            masked_paths: host_config.masked_paths.clone().unwrap_or_default(),
            readonly_paths: host_config.readonly_paths.clone().unwrap_or_default(),
            ..rt::Linux::default()
        }),
    };
    // PR_SET_NO_NEW_PRIVS and an unprivileged user: capabilities of the set may still be wanted by --cap-add.
    if !as_root
        && let Some(added) = &host_config.cap_add
        && !added.is_empty()
        && let Some(sets) = spec.process.as_mut().and_then(|p| p.capabilities.as_mut())
    {
        sets.inheritable.clear();
    }
    Ok(spec)
}

fn cgroup_path(record: &Record, host: &Host) -> String {
    let parent = match record.host.cgroup_parent.as_str() {
        "" => host.cgroup_parent.as_str(),
        own => own,
    };
    if host.systemd_cgroup {
        return format!(
            "{}:balena:{}",
            if parent.is_empty() { "system.slice" } else { parent },
            record.id
        );
    }
    format!("{}/{}", crate::mounts::clean(parent).trim_end_matches('/'), record.id)
}

fn namespaces(record: &Record, host: &Host) -> Vec<rt::Namespace> {
    let mut list = vec![rt::Namespace {
        kind: Ns::Mount,
        path: String::new(),
    }];
    if let Some(path) = &host.netns {
        list.push(rt::Namespace {
            kind: Ns::Network,
            path: path.clone(),
        });
    }
    for (name, kind) in [("uts", Ns::Uts), ("pid", Ns::Pid), ("ipc", Ns::Ipc)] {
        match host.joined.get(name) {
            None => list.push(rt::Namespace {
                kind,
                path: String::new(),
            }),
            Some(Some(path)) => list.push(rt::Namespace {
                kind,
                path: path.clone(),
            }),
            Some(None) => {}
        }
    }
    let private = match record.host.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => host.cgroup_v2 && !record.host.privileged,
    };
    if private {
        list.push(rt::Namespace {
            kind: Ns::Cgroup,
            path: String::new(),
        });
    }
    list
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> rt::Mount {
    rt::Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|o| o.to_string()).collect(),
    }
}

fn mounts(record: &Record, host: &Host) -> Vec<rt::Mount> {
    let host_config = &record.host;
    let sys_access = if host_config.privileged { "rw" } else { "ro" };
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys_access]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[sys_access, "nosuid", "noexec", "nodev"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    let taken = |target: &str| {
        host.mounts.iter().any(|m| m.destination == target)
            || host_config
                .tmpfs
                .as_ref()
                .is_some_and(|t| t.keys().any(|k| crate::mounts::clean(k) == target))
    };
    match (&host.shm, host_config.ipc_mode.as_str()) {
        _ if taken("/dev/shm") => {}
        (_, "none") => {}
        (Some(path), _) => list.push(mount("/dev/shm", "bind", path, &["rbind", "rprivate"])),
        (None, _) => {
            let size = format!("size={}", host_config.shm_size);
            list.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            ));
        }
    }
    // What the user mounts over a default place replaces the default, and all below it.
    list.retain(|m| {
        !host.mounts.iter().any(|own| {
            own.destination == m.destination
                || m.destination != "/dev/mqueue" && m.destination.starts_with(&format!("{}/", own.destination))
        })
    });
    for (source, destination) in &host.files {
        if !taken(destination) {
            list.push(mount(destination, "bind", source, &["rbind", "rprivate"]));
        }
    }
    if let Some(path) = &host.init_path {
        list.push(mount("/sbin/docker-init", "bind", path, &["bind", "ro"]));
    }
    list.extend(host.mounts.iter().cloned());
    list
}

/// A mount that takes part in the host's propagation needs a root that does.
fn propagation(mounts: &[rt::Mount]) -> String {
    let has = |word: &str| mounts.iter().any(|m| m.options.iter().any(|o| o == word));
    if has("shared") || has("rshared") {
        "shared".into()
    } else if has("slave") || has("rslave") {
        "rslave".into()
    } else {
        String::new()
    }
}

fn environment(record: &Record, user: &User) -> Vec<String> {
    let config = &record.disk.config;
    let mut env = vec![DEFAULT_PATH.to_string(), format!("HOSTNAME={}", config.hostname)];
    if config.tty {
        env.push("TERM=xterm".into());
    }
    if !record.host.container_id_env.is_empty() {
        env.push(format!("{}={}", record.host.container_id_env, record.id));
    }
    for entry in config.env.iter().flatten() {
        replace_or_append(&mut env, entry);
    }
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    env
}

/// Sets one variable; an entry without `=` removes it.
pub fn replace_or_append(env: &mut Vec<String>, entry: &str) {
    let name = entry.split('=').next().unwrap_or(entry);
    let at = env.iter().position(|have| have.split('=').next() == Some(name));
    match (at, entry.contains('=')) {
        (Some(at), true) => env[at] = entry.into(),
        (Some(at), false) => {
            env.remove(at);
        }
        (None, true) => env.push(entry.into()),
        (None, false) => {}
    }
}

fn sysctls(record: &Record, host: &Host) -> BTreeMap<String, String> {
    let mut map = record.host.sysctls.clone().unwrap_or_default();
    // Docker's defaults for a network namespace of one's own.
    if host.netns.is_some() && !record.host.network_mode.starts_with("container:") {
        for (key, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ] {
            map.entry(key.into()).or_insert_with(|| value.into());
        }
    }
    map
}

fn ulimits(own: &[api::host_config::Ulimit], defaults: &[api::host_config::Ulimit]) -> Result<Vec<rt::Rlimit>> {
    const NAMES: &[&str] = &[
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let mut list: Vec<rt::Rlimit> = Vec::new();
    let inherited = defaults.iter().filter(|d| own.iter().all(|o| o.name != d.name));
    for limit in own.iter().chain(inherited) {
        if !NAMES.contains(&limit.name.as_str()) {
            return Err(Error::invalid(format!("invalid ulimit type: {}", limit.name)));
        }
        // -1 is unlimited, which two's complement makes RLIM_INFINITY.
        let value = |v: i64| u64::try_from(v).unwrap_or(u64::MAX);
        if value(limit.soft) > value(limit.hard) {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
        list.push(rt::Rlimit {
            kind: format!("RLIMIT_{}", limit.name.to_uppercase()),
            hard: value(limit.hard),
            soft: value(limit.soft),
        });
    }
    Ok(list)
}

/// Paths that show or steer the host and are hidden from an unprivileged container.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that an unprivileged container may only read.
pub const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Disk;
    use crate::id::ContainerId;
    use api::host_config::HostConfig;

    fn record() -> Record {
        let mut disk = Disk {
            path: "sh".into(),
            args: vec!["-c".into()],
            ..Disk::default()
        };
        disk.config.hostname = "box".into();
        disk.config.env = Some(vec!["PATH=/x".into(), "HOSTNAME".into(), "A=1".into()]);
        Record::new(
            ContainerId::random().unwrap(),
            disk,
            HostConfig {
                shm_size: 1 << 26,
                ..HostConfig::default()
            },
        )
    }

    fn host() -> Host {
        Host {
            user: User {
                home: "/root".into(),
                ..User::default()
            },
            netns: Some("/n".into()),
            cgroup_parent: "/docker".into(),
            bounding: vec!["CAP_CHOWN".into(), "CAP_NET_RAW".into()],
            ..Host::default()
        }
    }

    #[test]
    fn an_ordinary_container() {
        let record = record();
        let spec = build(&record, &host()).unwrap();
        let process = spec.process.unwrap();
        assert_eq!(process.args, ["sh", "-c"]);
        assert_eq!(process.env, ["PATH=/x", "A=1", "HOME=/root"]);
        assert_eq!(process.capabilities.unwrap().bounding, ["CAP_CHOWN", "CAP_NET_RAW"]);
        let linux = spec.linux.unwrap();
        assert_eq!(linux.cgroups_path, format!("/docker/{}", record.id));
        assert_eq!(linux.namespaces.len(), 5);
        assert!(linux.seccomp.is_some());
    }

    #[test]
    fn a_mount_of_the_users_replaces_the_default() {
        let mut host = host();
        host.mounts = vec![
            mount("/dev/shm", "bind", "/x", &["rbind"]),
            mount("/sys", "bind", "/sys", &["rbind"]),
        ];
        let spec = build(&record(), &host).unwrap();
        let places: Vec<&str> = spec.mounts.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(places, ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys"]);
    }

    #[test]
    fn a_privileged_container_has_no_filter_and_what_the_daemon_has() {
        let mut record = record();
        record.host.privileged = true;
        let spec = build(&record, &host()).unwrap();
        assert!(spec.linux.unwrap().seccomp.is_none());
        assert_eq!(
            spec.process.unwrap().capabilities.unwrap().bounding,
            ["CAP_CHOWN", "CAP_NET_RAW"]
        );
    }
}
