//! `spec`: an example `config.json` to start from.

use std::path::Path;

use oci::runtime::{
    Capabilities, DeviceRule, Linux, Mount, Namespace, NamespaceKind, OCI_VERSION, Process, Resources, Rlimit, Root,
    Spec,
};

use super::Globals;
use super::args::Args;
use crate::error::{Context, Error, Result};

pub fn spec(_: &Globals, args: &Args) -> Result<i32> {
    if args.is_set("rootless") {
        return Err(Error::new("spec --rootless: containers without root are not supported"));
    }
    let path = Path::new(args.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(Error::new("File config.json exists. Remove it first"));
    }
    let text = json::pretty(&json::to_string(&example()), "  ");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(0)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: words(options),
    }
}

/// A shell in `rootfs`, as `runc spec` would have it.
pub fn example() -> Spec {
    let capabilities = words("CAP_AUDIT_WRITE CAP_KILL CAP_NET_BIND_SERVICE");
    let own = |kind| Namespace {
        kind,
        path: String::new(),
    };
    Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(Process {
            terminal: true,
            args: words("sh"),
            env: words("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=xterm"),
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: vec![Rlimit {
                kind: "RLIMIT_NOFILE".into(),
                hard: 1024,
                soft: 1024,
            }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: true,
        }),
        hostname: "runc".into(),
        mounts: vec![
            mount("/proc", "proc", "proc", ""),
            mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
            ),
            mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
            mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
            mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
        ],
        linux: Some(Linux {
            namespaces: [
                NamespaceKind::Pid,
                NamespaceKind::Network,
                NamespaceKind::Ipc,
                NamespaceKind::Uts,
                NamespaceKind::Mount,
                NamespaceKind::Cgroup,
            ]
            .map(own)
            .to_vec(),
            resources: Some(Resources {
                devices: vec![DeviceRule {
                    allow: false,
                    access: "rwm".into(),
                    ..DeviceRule::default()
                }],
                ..Resources::default()
            }),
            masked_paths: words(
                "/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats \
                 /proc/sched_debug /sys/firmware /proc/scsi",
            ),
            readonly_paths: words("/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}
