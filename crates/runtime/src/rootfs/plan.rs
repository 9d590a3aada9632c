//! What will be done to build a container's root filesystem, as values. Pure.

use oci::runtime::{Device, Mount, NamespaceKind, Spec};

use super::options::{self, Options, flag};
use crate::error::{Error, Result};

/// One step, in the order they are applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Change the propagation of the host's `/` as this mount namespace sees it.
    Propagation(u32),
    /// Bind the root directory on itself, so that it is a mount that can become `/`.
    BindRoot,
    Mount(MountStep),
    /// Make a device node (or bind the host's where nodes cannot be made).
    Device(Device),
    /// `/dev/ptmx` to the container's own devpts.
    Ptmx,
    /// `/dev/fd`, `/dev/stdin`, `/dev/stdout`, `/dev/stderr`, `/dev/core`.
    DevLinks,
    /// Mount `/dev` read-only once it is filled.
    DevReadonly(u32),
    ReadonlyPath(String),
    MaskPath(String),
}

/// One mount.
#[derive(Debug, Clone, PartialEq)]
pub struct MountStep {
    pub destination: String,
    pub source: String,
    pub kind: Kind,
    pub options: Options,
}

/// What the mount is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Bind,
    /// The container's own part of the cgroup tree.
    Cgroup,
    Tmpfs,
    /// `proc` or `sysfs`: never through a symbolic link.
    Kernel(String),
    Other(String),
}

/// The nodes every container has (runtime specification, "Default Devices").
const DEFAULT_DEVICES: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

/// The steps for a spec.
pub fn plan(spec: &Spec) -> Result<Vec<Step>> {
    let linux = spec.linux.clone().unwrap_or_default();
    let mut steps = Vec::new();
    let propagation = match linux.rootfs_propagation.as_str() {
        "" => flag::SLAVE | flag::REC,
        word => options::propagation(word)
            .ok_or_else(|| Error::new(format!("rootfsPropagation={word} is not supported")))?,
    };
    steps.push(Step::Propagation(propagation));
    steps.push(Step::BindRoot);
    let mut dev_is_ours = true;
    let mut dev_readonly = None;
    for mount in &spec.mounts {
        let mut step = mount_step(mount)?;
        if normal(&mount.destination) == "/dev" {
            if step.kind == Kind::Bind {
                dev_is_ours = false;
            } else if step.options.flags & flag::RDONLY != 0 {
                // Nodes have to be made in it first.
                dev_readonly = Some(step.options.flags);
                step.options.flags &= !flag::RDONLY;
            }
        }
        steps.push(Step::Mount(step));
    }
    if dev_is_ours {
        for (path, major, minor) in DEFAULT_DEVICES {
            if !linux.devices.iter().any(|device| device.path == path) {
                steps.push(Step::Device(Device {
                    path: path.to_owned(),
                    kind: "c".to_owned(),
                    major,
                    minor,
                    file_mode: Some(0o666),
                    uid: Some(0),
                    gid: Some(0),
                }));
            }
        }
        for device in &linux.devices {
            // Bound from the pty or linked to devpts.
            if device.path != "/dev/ptmx" {
                steps.push(Step::Device(device.clone()));
            }
        }
        steps.push(Step::Ptmx);
        steps.push(Step::DevLinks);
    }
    if let Some(flags) = dev_readonly {
        steps.push(Step::DevReadonly(flags));
    }
    if spec.namespace(NamespaceKind::Mount).is_some() {
        steps.extend(linux.readonly_paths.into_iter().map(Step::ReadonlyPath));
        steps.extend(linux.masked_paths.into_iter().map(Step::MaskPath));
    }
    Ok(steps)
}

fn mount_step(mount: &Mount) -> Result<MountStep> {
    if !mount.destination.starts_with('/') {
        return Err(Error::new(format!(
            "mount destination {} not absolute",
            mount.destination
        )));
    }
    let options = options::parse(&mount.options);
    let kind = if options.flags & flag::BIND != 0 || mount.kind == "bind" {
        Kind::Bind
    } else {
        match mount.kind.as_str() {
            "cgroup" | "cgroup2" => Kind::Cgroup,
            "tmpfs" => Kind::Tmpfs,
            "proc" | "sysfs" => Kind::Kernel(mount.kind.clone()),
            other => Kind::Other(other.to_owned()),
        }
    };
    let mut step = MountStep {
        destination: mount.destination.clone(),
        source: mount.source.clone(),
        kind,
        options,
    };
    if step.kind == Kind::Bind {
        step.options.flags |= flag::BIND;
        if step.source.is_empty() {
            return Err(Error::new(format!(
                "bind mount at {} without a source",
                step.destination
            )));
        }
    }
    Ok(step)
}

/// A path without empty and `.` parts.
fn normal(path: &str) -> String {
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
        Mount {
            destination: destination.into(),
            kind: kind.into(),
            source: "src".into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    fn position(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> usize {
        steps.iter().position(wanted).unwrap()
    }

    #[test]
    fn nodes_are_made_before_dev_is_readonly_and_masks_come_last() {
        let mut spec = Spec {
            mounts: vec![mount("/proc", "proc", &[]), mount("/dev/", "tmpfs", &["ro", "nosuid"])],
            ..Spec::default()
        };
        let linux = spec.linux.get_or_insert_default();
        linux.masked_paths = vec!["/proc/kcore".into()];
        linux.namespaces.push(oci::runtime::Namespace {
            kind: NamespaceKind::Mount,
            path: String::new(),
        });
        let steps = plan(&spec).unwrap();
        assert_eq!(steps[0], Step::Propagation(flag::SLAVE | flag::REC));
        assert_eq!(steps[1], Step::BindRoot);
        let readonly = position(&steps, |step| matches!(step, Step::DevReadonly(_)));
        assert!(
            position(
                &steps,
                |step| matches!(step, Step::Device(device) if device.path == "/dev/tty")
            ) < readonly
        );
        assert_eq!(steps.last(), Some(&Step::MaskPath("/proc/kcore".into())));
        assert!(
            steps
                .iter()
                .all(|step| !matches!(step, Step::Mount(mount) if mount.options.flags & flag::RDONLY != 0))
        );
    }

    #[test]
    fn a_bound_dev_is_left_alone() {
        let spec = Spec {
            mounts: vec![mount("/dev", "bind", &["rbind"])],
            ..Spec::default()
        };
        assert!(
            plan(&spec)
                .unwrap()
                .iter()
                .all(|step| !matches!(step, Step::Device(_) | Step::Ptmx))
        );
    }

    #[test]
    fn bad_specs() {
        let spec = Spec {
            mounts: vec![mount("relative", "tmpfs", &[])],
            ..Spec::default()
        };
        assert!(plan(&spec).is_err());
        let mut spec = Spec::default();
        spec.linux.get_or_insert_default().rootfs_propagation = "sideways".into();
        assert!(plan(&spec).is_err());
    }
}
