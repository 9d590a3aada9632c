//! What a spec needs to know of the host: namespaces to join, files, mounts, security options, devices.

use crate::container::Record;
use crate::error::{Context, Error, Result};
use crate::spec::{Host, SeccompChoice};
use crate::{Engine, device, user};
use network::Sandbox;
use oci::runtime as rt;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Everything that the spec needs to know.
pub(crate) fn prepare(engine: &Engine, record: &Record, rootfs: &Path, sandbox: Option<&Sandbox>) -> Result<Host> {
    let config = &record.disk.config;
    let read = |name: &str| crate::info::read_in(rootfs, name);
    let user = user::resolve(
        &config.user,
        &read("etc/passwd"),
        &read("etc/group"),
        record.host.group_add.as_deref().unwrap_or_default(),
    )?;
    let mut joined: BTreeMap<&'static str, Option<String>> = BTreeMap::new();
    if record.host.uts_mode == "host" {
        joined.insert("uts", None);
    }
    for (kind, mode) in [
        ("pid", record.host.pid_mode.as_str()),
        ("ipc", record.host.ipc_mode.as_str()),
    ] {
        match mode {
            "host" => drop(joined.insert(kind, None)),
            "" | "private" | "shareable" | "none" => {}
            other => match other.strip_prefix("container:") {
                Some(target) => {
                    let target = engine.containers.find(target)?;
                    let pid = target.record().pid().ok_or_else(|| {
                        Error::conflict(format!(
                            "cannot join {kind} namespace of a non running container: {}",
                            target.id
                        ))
                    })?;
                    joined.insert(kind, Some(format!("/proc/{pid}/ns/{kind}")));
                }
                None => return Err(Error::invalid(format!("invalid {} mode: {other}", kind.to_uppercase()))),
            },
        }
    }
    let shm = match record.host.ipc_mode.as_str() {
        "host" => Some("/dev/shm".to_string()),
        _ => None,
    };
    let mut files = Vec::new();
    let paths = match record.host.network_mode.strip_prefix("container:") {
        Some(target) => {
            let other = engine.containers.find(target)?;
            let other = other.record();
            [
                other.disk.resolv_conf_path.clone(),
                other.disk.hostname_path.clone(),
                other.disk.hosts_path.clone(),
            ]
        }
        None => [
            record.disk.resolv_conf_path.clone(),
            record.disk.hostname_path.clone(),
            record.disk.hosts_path.clone(),
        ],
    };
    for (source, place) in paths
        .into_iter()
        .zip(["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"])
    {
        if !source.is_empty() {
            files.push((source, place.to_string()));
        }
    }
    let init = record.host.init.unwrap_or(engine.config.init);
    let mut seccomp = match &engine.config.seccomp {
        None => SeccompChoice::Default,
        Some(text) => seccomp_choice(text)?,
    };
    let mut no_new_privileges = engine.config.no_new_privileges;
    for option in record.host.security_opt.iter().flatten() {
        match security_option(option)? {
            SecurityOption::Seccomp(choice) => seccomp = choice,
            SecurityOption::NoNewPrivileges(on) => no_new_privileges = on,
            SecurityOption::Ignored => {}
        }
    }
    let devices = if record.host.privileged {
        device::all()
    } else {
        device::asked(record)?
    };
    Ok(Host {
        rootfs: rootfs.to_string_lossy().into_owned(),
        user,
        netns: sandbox.map(|s| s.path().to_string_lossy().into_owned()),
        joined,
        files,
        mounts: mounts_of(record)?,
        devices,
        bounding: crate::info::bounding(),
        cgroup_parent: engine.config.cgroup_parent.clone(),
        systemd_cgroup: engine.config.systemd_cgroup,
        cgroup_v2: crate::info::cgroup_v2(),
        init_path: if init { Some(init_binary(engine)?) } else { None },
        seccomp,
        no_new_privileges,
        shm,
        default_ulimits: engine.config.default_ulimits.clone(),
        oom_score_adj_floor: -1000,
    })
}

/// A copy of this binary for containers with `--init`: what they see must not be the file that the host runs.
fn init_binary(engine: &Engine) -> Result<String> {
    let path = engine.config.exec_root.join("init");
    if !path.exists() {
        let tmp = engine
            .config
            .exec_root
            .join(format!("init-{}", crate::id::random_hex(4)?));
        fs::copy("/proc/self/exe", &tmp).context("copy this binary for --init")?;
        fs::rename(&tmp, &path).context(format!("rename to {}", path.display()))?;
    }
    Ok(path.to_string_lossy().into_owned())
}

/// What a `--security-opt` says.
pub(crate) enum SecurityOption {
    Seccomp(SeccompChoice),
    NoNewPrivileges(bool),
    Ignored,
}

/// Reads a seccomp profile: `unconfined`, `builtin`, or its text.
fn seccomp_choice(text: &str) -> Result<SeccompChoice> {
    match text {
        "unconfined" => Ok(SeccompChoice::Unconfined),
        "builtin" => Ok(SeccompChoice::Default),
        json => {
            let profile = rt::Seccomp::from_slice(json.as_bytes())
                .map_err(|e| Error::invalid(format!("Decoding seccomp profile failed: {e}")))?;
            Ok(SeccompChoice::Profile(Box::new(profile)))
        }
    }
}

/// Looks at a profile before any container has it.
pub fn check_seccomp(text: &str) -> Result<()> {
    seccomp_choice(text).map(drop)
}

/// Reads one `--security-opt`.
pub(crate) fn security_option(option: &str) -> Result<SecurityOption> {
    let bad = || Error::invalid(format!("invalid --security-opt 2: \"{option}\""));
    let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some(pair) => pair,
        None => (option, ""),
    };
    match (key, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", profile) => seccomp_choice(profile).map(SecurityOption::Seccomp),
        ("apparmor", "unconfined") | ("label", "disable") | ("apparmor", "docker-default") => {
            Ok(SecurityOption::Ignored)
        }
        ("apparmor" | "label", _) => Err(Error::not_supported(format!("security option \"{key}\""))),
        ("systempaths", "unconfined") => Ok(SecurityOption::Ignored),
        _ => Err(bad()),
    }
}

/// The user's mounts with their sources, parents before children.
fn mounts_of(record: &Record) -> Result<Vec<rt::Mount>> {
    let mut list = Vec::new();
    for point in record.disk.mount_points.values() {
        let source = Path::new(&point.source);
        if point.kind == "bind" && !source.exists() {
            if point.skip_mountpoint_creation {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    point.source
                )));
            }
            fs::create_dir_all(source).context(format!("error while creating mount source path '{}'", point.source))?;
        }
        let recursive = !point.spec.bind_options.as_ref().is_some_and(|o| o.non_recursive);
        let mut options = vec![if recursive { "rbind" } else { "bind" }.to_string()];
        options.push(if point.rw { "rw" } else { "ro" }.into());
        options.push(if point.propagation.is_empty() {
            "rprivate".into()
        } else {
            point.propagation.clone()
        });
        list.push(rt::Mount {
            destination: point.destination.clone(),
            kind: "bind".into(),
            source: point.source.clone(),
            options,
        });
    }
    let mounted = record.host.mounts.iter().flatten().filter(|m| m.kind == "tmpfs");
    let from_mounts = mounted.filter_map(|m| {
        let only = api::host_config::HostConfig {
            mounts: Some(vec![m.clone()]),
            ..Default::default()
        };
        crate::mounts::parse(&only, std::iter::empty()).ok().map(|p| p.tmpfs)
    });
    let flags = record.host.tmpfs.clone().unwrap_or_default();
    for (target, options) in flags.into_iter().chain(from_mounts.flatten()) {
        let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].iter().map(|w| w.to_string()).collect();
        for word in options.split(',').filter(|w| !w.is_empty()) {
            let opposite = match word {
                "exec" => "noexec",
                "suid" => "nosuid",
                "dev" => "nodev",
                _ => "",
            };
            words.retain(|w| w != opposite && w != word);
            words.push(word.into());
        }
        list.push(rt::Mount {
            destination: crate::mounts::clean(&target),
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            options: words,
        });
    }
    list.sort_by_key(|m| m.destination.matches('/').count());
    Ok(list)
}
