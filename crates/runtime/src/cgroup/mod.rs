//! Control groups of a container, v1 (each controller its own tree, also hybrid) and v2.
//!
//! Controllers the machine lacks are passed over. What to write is planned as values (`v1`, `v2`).

mod devices;
mod freeze;
mod stats;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oci::runtime::Resources;

use crate::error::{Context, Error, Result};
pub use stats::Stats;

const CGROUP2_MAGIC: u64 = 0x6367_7270;
const V2_MOUNT: &str = "/sys/fs/cgroup";

/// One write to a cgroup file: the directory is that of `controller` (v1) or the only one (v2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    /// The file may be missing: the kernel was built without the feature.
    pub optional: bool,
}

impl Write {
    fn new(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            controller,
            file: file.into(),
            value: value.to_string(),
            optional: true,
        }
    }
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The name of its mount point: `memory`, `cpu,cpuacct`, `systemd`.
    pub name: String,
    pub controllers: Vec<String>,
    pub directory: PathBuf,
    /// Names under which its controllers are looked for too (`cpu` for `cpu,cpuacct`).
    pub aliases: Vec<String>,
    /// Data by which it is mounted anew: `memory`, `none,name=systemd`.
    pub mount_data: String,
    pub unified: bool,
}

/// The control group of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    hierarchies: Vec<Hierarchy>,
}

/// Whether this machine has the unified hierarchy only.
pub fn unified() -> bool {
    rustix::fs::statfs(V2_MOUNT).is_ok_and(|status| status.f_type as u64 & 0xffff_ffff == CGROUP2_MAGIC)
}

impl Cgroup {
    /// The group for `cgroupsPath`: absolute from the top, relative to our own group, `slice:prefix:name`
    /// with `systemd`, and the container's id when empty. Nothing is created.
    pub fn locate(path: &str, id: &str, systemd: bool) -> Result<Self> {
        let path = match path {
            "" => PathBuf::from(id),
            path if systemd || path.split(':').count() == 3 && !path.starts_with('/') => systemd_path(path)?,
            path => PathBuf::from(path),
        };
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(Error::new(format!("cgroupsPath {} leads upwards", path.display())));
        }
        Self::build(
            |own| match path.strip_prefix("/") {
                Ok(absolute) => absolute.to_owned(),
                Err(_) => own.join(&path),
            },
            "self",
        )
    }

    /// The group a process is in.
    pub fn of_process(pid: i32) -> Result<Self> {
        Self::build(Path::to_owned, &pid.to_string())
    }

    /// From directories recorded in a state file, by controller.
    pub fn from_paths(paths: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let mut cgroup = Self::build(Path::to_owned, "self")?;
        cgroup.hierarchies.retain_mut(|hierarchy| {
            let key = if hierarchy.unified {
                ""
            } else {
                hierarchy.controllers[0].as_str()
            };
            match paths.get(key) {
                Some(path) => {
                    hierarchy.directory.clone_from(path);
                    true
                }
                None => false,
            }
        });
        Ok(cgroup)
    }

    /// Directories by controller, as kept in a state file.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for hierarchy in &self.hierarchies {
            if hierarchy.unified {
                paths.insert(String::new(), hierarchy.directory.clone());
            }
            for controller in &hierarchy.controllers {
                paths.insert(controller.clone(), hierarchy.directory.clone());
            }
        }
        paths
    }

    /// `place` turns a process' own path in a hierarchy (no leading slash) into the wanted one.
    fn build(place: impl Fn(&Path) -> PathBuf, process: &str) -> Result<Self> {
        let cgroups = read(Path::new(&format!("/proc/{process}/cgroup")))?;
        let own = |controller: &str| {
            cgroups.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                let names = fields.nth(1)?;
                let path = fields.next()?;
                let found = names.split(',').any(|name| name == controller);
                found.then(|| path.trim_start_matches('/').to_owned())
            })
        };
        if unified() {
            let own = own("").unwrap_or_default();
            let directory = Path::new(V2_MOUNT).join(place(Path::new(&own)));
            let hierarchy = Hierarchy {
                name: String::new(),
                controllers: vec![],
                directory,
                aliases: vec![],
                mount_data: String::new(),
                unified: true,
            };
            return Ok(Self {
                hierarchies: vec![hierarchy],
            });
        }
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mounts = read(Path::new("/proc/self/mountinfo"))?;
        for mount in mounts.lines().filter_map(parse_mount) {
            let Some(first) = mount.controllers.first() else {
                continue;
            };
            let Some(own) = own(first) else { continue };
            if hierarchies.iter().any(|known| known.controllers == mount.controllers) {
                continue;
            }
            // In a container the mount shows a part of the tree only: paths are relative to that part.
            let root = mount.root.trim_start_matches('/');
            let own = Path::new(&own);
            let own = own.strip_prefix(root).unwrap_or(own);
            let name = mount
                .point
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            hierarchies.push(Hierarchy {
                aliases: mount
                    .controllers
                    .iter()
                    .filter(|c| mount.controllers.len() > 1 && **c != name)
                    .cloned()
                    .collect(),
                directory: mount.point.join(place(own)),
                mount_data: mount
                    .controllers
                    .iter()
                    .map(|c| {
                        if c.starts_with("name=") {
                            format!("none,{c}")
                        } else {
                            c.clone()
                        }
                    })
                    .collect::<Vec<_>>()
                    .join(","),
                name,
                controllers: mount.controllers,
                unified: false,
            });
        }
        Ok(Self { hierarchies })
    }

    pub fn is_v2(&self) -> bool {
        self.hierarchies.first().is_some_and(|hierarchy| hierarchy.unified)
    }

    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The v2 directory; with v1 that of the first hierarchy.
    pub fn directory(&self) -> &Path {
        self.hierarchies
            .first()
            .map_or(Path::new(V2_MOUNT), |hierarchy| &hierarchy.directory)
    }

    /// The directory of one controller, if this machine has it.
    pub fn controller(&self, name: &str) -> Option<&Path> {
        let found = self
            .hierarchies
            .iter()
            .find(|h| h.unified || h.controllers.iter().any(|known| known == name));
        found.map(|hierarchy| hierarchy.directory.as_path())
    }

    /// Whether any of its directories exists.
    pub fn exists(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.directory.exists())
    }

    /// Makes the directories, with what a group needs before a process can enter it.
    pub fn create(&self) -> Result<()> {
        if self.is_v2() {
            v2::enable_controllers(Path::new(V2_MOUNT), self.directory());
        }
        for hierarchy in &self.hierarchies {
            make_directory(hierarchy)?;
        }
        Ok(())
    }

    /// Moves a process into the group, in all hierarchies.
    pub fn add(&self, pid: i32) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let file = hierarchy.directory.join("cgroup.procs");
            std::fs::write(&file, pid.to_string()).with_context(|| format!("write {pid} to {}", file.display()))?;
        }
        Ok(())
    }

    /// Applies limits. Absent ones stay as they are.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        if self.is_v2() {
            let directory = self.directory();
            if !resources.devices.is_empty() {
                devices::attach(directory, &resources.devices)?;
            }
            for write in v2::plan(resources)? {
                apply_write(directory, &write)?;
            }
            return Ok(());
        }
        if !resources.unified.is_empty() {
            return Err(Error::new(
                "unified resources need cgroup v2, and this machine has cgroup v1",
            ));
        }
        if let Some(memory) = &resources.memory
            && let Some(directory) = self.controller("memory")
        {
            v1::apply_memory_limits(directory, memory)?;
        }
        for write in v1::plan(resources)? {
            if let Some(directory) = self.controller(write.controller) {
                apply_write(directory, &write)?;
            }
        }
        Ok(())
    }

    /// The processes in the group and in groups below it, in the order of their numbers.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let directory = match ["pids", "memory", "devices", "freezer", "cpu"]
            .iter()
            .find_map(|name| self.controller(name))
        {
            Some(directory) => directory,
            None => self.directory(),
        };
        let mut pids = Vec::new();
        collect_pids(directory, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends a signal to every process of the group; SIGKILL until none is left (at most about a second).
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal != libc::SIGKILL {
            for pid in self.pids()? {
                ignore_gone(sys::signal::send(pid, signal)).with_context(|| format!("signal process {pid}"))?;
            }
            return Ok(());
        }
        if self.is_v2() && std::fs::write(self.directory().join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        for round in 0..100u64 {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                ignore_gone(sys::signal::send(pid, signal)).with_context(|| format!("kill process {pid}"))?;
            }
            if round == 0 {
                // Frozen processes die when they thaw.
                let _ = self.freeze(false);
            }
            std::thread::sleep(std::time::Duration::from_millis(10.min(round + 1)));
        }
        Ok(())
    }

    /// Removes the directories, those below first. What is already gone is no error.
    pub fn delete(&self) -> Result<()> {
        let mut errors = Vec::new();
        for hierarchy in &self.hierarchies {
            if let Err(error) = remove(&hierarchy.directory) {
                errors.push(format!(
                    "{}: {}",
                    hierarchy.directory.display(),
                    crate::error::errno_text(&error)
                ));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Error::new(format!("remove cgroup {}", errors.join(", "))))
        }
    }

    /// How often the kernel killed a process of this group for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some(directory) = self.controller("memory") else {
            return 0;
        };
        let file = if self.is_v2() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        stats::keyed(&text, "oom_kill")
    }

    /// Usage now.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }
}

fn systemd_path(path: &str) -> Result<PathBuf> {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(Error::new(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        )));
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    // a-b.slice lies in a.slice.
    let mut directory = PathBuf::from("/");
    let bare = slice.strip_suffix(".slice").unwrap_or(slice);
    if bare != "-" {
        let mut so_far = String::new();
        for part in bare.split('-') {
            so_far.push_str(part);
            directory.push(format!("{so_far}.slice"));
            so_far.push('-');
        }
    }
    directory.push(match (prefix, name.ends_with(".slice")) {
        (_, true) => name.to_owned(),
        ("", false) => format!("{name}.scope"),
        (prefix, false) => format!("{prefix}-{name}.scope"),
    });
    Ok(directory)
}

struct MountLine {
    root: String,
    point: PathBuf,
    controllers: Vec<String>,
}

/// A v1 line of `/proc/self/mountinfo`.
fn parse_mount(line: &str) -> Option<MountLine> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    if back.next()? != "cgroup" {
        return None;
    }
    let mut front = front.split(' ');
    let root = front.nth(3)?.to_owned();
    let point = PathBuf::from(front.next()?);
    const NOT_CONTROLLERS: [&str; 6] = ["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"];
    let controllers = back
        .nth(1)?
        .split(',')
        .filter(|word| !NOT_CONTROLLERS.contains(word) && !word.starts_with("release_agent="))
        .map(str::to_owned)
        .collect();
    Some(MountLine {
        root,
        point,
        controllers,
    })
}

fn make_directory(hierarchy: &Hierarchy) -> Result<()> {
    let cpuset = hierarchy.controllers.iter().any(|name| name == "cpuset");
    let mut missing = Vec::new();
    let mut at = hierarchy.directory.as_path();
    while !at.exists() {
        missing.push(at);
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    for directory in missing.into_iter().rev() {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("create cgroup {}", directory.display()));
            }
            _ => {}
        }
        if cpuset {
            // A new cpuset is empty, and nobody may enter an empty one.
            v1::inherit_cpuset(directory);
        }
    }
    if cpuset {
        v1::inherit_cpuset(&hierarchy.directory);
    }
    Ok(())
}

fn apply_write(directory: &Path, write: &Write) -> Result<()> {
    let file = directory.join(&write.file);
    match std::fs::write(&file, &write.value) {
        Err(error) if write.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Opening a missing cgroup file for writing means creating it, which is refused.
        Err(error) if write.optional && error.kind() == io::ErrorKind::PermissionDenied && !file.exists() => Ok(()),
        result => result.with_context(|| format!("failed to write {:?} to {}", write.value, file.display())),
    }
}

fn collect_pids(directory: &Path, pids: &mut Vec<i32>) -> Result<()> {
    match std::fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        ),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("read processes of {}", directory.display())),
    }
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), pids)?;
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    let mut wait = 1;
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Processes just killed linger for a moment; groups made by the container lie below.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && wait < 300 => {
                if let Ok(entries) = std::fs::read_dir(directory) {
                    for entry in entries.flatten() {
                        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                            remove(&entry.path())?;
                        }
                    }
                }
                match std::fs::remove_dir(directory) {
                    Ok(()) => return Ok(()),
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(wait)),
                }
                wait *= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_names() {
        for (path, expected) in [
            ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
            (":docker:abc", "/system.slice/docker-abc.scope"),
            ("user-1000.slice:x:y", "/user.slice/user-1000.slice/x-y.scope"),
            ("-.slice::y", "/y.scope"),
        ] {
            assert_eq!(systemd_path(path).unwrap(), Path::new(expected), "{path}");
        }
        assert!(systemd_path("/a/b").is_err());
    }

    #[test]
    fn mount_lines() {
        let line = "35 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.controllers, ["cpu", "cpuacct"]);
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(parse_mount("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw").is_none());
    }

    #[test]
    fn no_way_up() {
        assert!(Cgroup::locate("/../x", "id", false).is_err());
    }
}
