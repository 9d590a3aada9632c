//! What a container has mounted: `-v`, `--mount`, `--tmpfs` and the image's volumes, parsed into one list. Pure.
//!
//! Source: the Engine API's `HostConfig.Binds` grammar (`source:target[:options]`), Docker's error texts.

use crate::container::MountPoint;
use crate::error::{Error, Result};
use api::host_config::{HostConfig, Mount};
use std::collections::BTreeMap;
use std::path::Path;

/// Mount points by destination, and tmpfs options by destination.
#[derive(Debug, Default, PartialEq)]
pub struct Mounts {
    pub points: BTreeMap<String, MountPoint>,
    pub tmpfs: BTreeMap<String, String>,
}

/// Reads the mounts of a new container. Volumes have no source yet, anonymous ones no name.
pub fn parse(host: &HostConfig, image_volumes: impl Iterator<Item = String>) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    for spec in host.binds.iter().flatten() {
        let point = parse_bind(spec)?;
        insert(&mut mounts.points, point)?;
    }
    for mount in host.mounts.iter().flatten() {
        match mount.kind.as_str() {
            "tmpfs" => {
                let invalid = |why| Error::invalid(format!("invalid mount config for type \"tmpfs\": {why}"));
                let target = destination(&mount.target).map_err(invalid)?;
                if mounts.points.contains_key(&target) || mounts.tmpfs.contains_key(&target) {
                    return Err(Error::invalid(format!("Duplicate mount point: {target}")));
                }
                mounts.tmpfs.insert(target, tmpfs_options(mount));
            }
            _ => {
                let point = from_mount(mount)?;
                insert(&mut mounts.points, point)?;
            }
        }
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        let target = destination(target).map_err(Error::invalid)?;
        if mounts.points.contains_key(&target) {
            return Err(Error::invalid(format!("Duplicate mount point: {target}")));
        }
        check_tmpfs(options)?;
        mounts.tmpfs.insert(target, options.clone());
    }
    for target in image_volumes {
        let Ok(target) = destination(&target) else {
            continue;
        };
        if !mounts.points.contains_key(&target) && !mounts.tmpfs.contains_key(&target) {
            mounts.points.insert(target.clone(), anonymous(&target));
        }
    }
    Ok(mounts)
}

/// One `-v`.
pub fn parse_bind(spec: &str) -> Result<MountPoint> {
    let bad = || Error::invalid(format!("invalid volume specification: '{spec}'"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(bad()),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(bad());
    }
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let target = destination(target).map_err(|why| {
        Error::invalid(format!(
            "invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {why}"
        ))
    })?;
    let mut point = MountPoint {
        destination: target.clone(),
        rw: true,
        mode: options.into(),
        ..MountPoint::default()
    };
    let mut copy = true;
    let (mut access, mut seen) = (false, false);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" | "rw" if access => return Err(invalid_mode(options)),
            "ro" | "rw" => {
                point.rw = option == "rw";
                access = true;
            }
            "z" | "Z" => point.relabel = option.into(),
            "nocopy" => copy = false,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if seen => {
                return Err(invalid_mode(options));
            }
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                point.propagation = option.into();
                seen = true;
            }
            "consistent" | "cached" | "delegated" => {}
            _ => return Err(invalid_mode(options)),
        }
    }
    if source.starts_with('/') {
        point.kind = kind.into();
        point.source = clean(source);
        if point.propagation.is_empty() {
            point.propagation = "rprivate".into();
        }
        point.spec = Mount {
            kind: "bind".into(),
            source: point.source.clone(),
            target,
            read_only: !point.rw,
            ..Mount::default()
        };
        return Ok(point);
    }
    if seen {
        return Err(invalid_mode(options));
    }
    if !source.is_empty() {
        volume_name(source)?;
        if point.mode.is_empty() {
            point.mode = "z".into();
            point.relabel = "z".into();
        }
    }
    point.kind = kind.into();
    point.name = source.into();
    point.driver = "local".into();
    point.copy_data = copy;
    point.spec = Mount {
        kind: "volume".into(),
        source: source.into(),
        target,
        read_only: !point.rw,
        ..Mount::default()
    };
    Ok(point)
}

fn from_mount(mount: &Mount) -> Result<MountPoint> {
    let bad = |why: &str| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(bad("field Target must not be empty"));
    }
    let target = destination(&mount.target).map_err(|why| bad(&why))?;
    let mut point = MountPoint {
        destination: target,
        rw: !mount.read_only,
        kind: mount.kind.clone(),
        spec: mount.clone(),
        ..MountPoint::default()
    };
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(bad("field Source must not be empty"));
            }
            if !mount.source.starts_with('/') {
                return Err(bad(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            point.source = clean(&mount.source);
            let propagation = mount.bind_options.as_ref().map_or("", |o| o.propagation.as_str());
            if !matches!(
                propagation,
                "" | "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave"
            ) {
                return Err(bad(&format!("invalid propagation mode: {propagation}")));
            }
            point.propagation = if propagation.is_empty() {
                "rprivate".into()
            } else {
                propagation.into()
            };
            // Unlike `-v`, `--mount` makes no directory on the host.
            point.skip_mountpoint_creation = !mount.bind_options.as_ref().is_some_and(|o| o.create_mountpoint);
            // What cannot be looked at is found out by the start.
            if point.skip_mountpoint_creation && matches!(Path::new(&point.source).try_exists(), Ok(false)) {
                return Err(bad(&format!("bind source path does not exist: {}", point.source)));
            }
        }
        "volume" => {
            if !mount.source.is_empty() {
                volume_name(&mount.source)?;
            }
            let options = mount.volume_options.clone().unwrap_or_default();
            if let Some(driver) = &options.driver_config
                && !matches!(driver.name.as_str(), "" | "local")
            {
                return Err(Error::not_supported(format!("volume driver \"{}\"", driver.name)));
            }
            point.name = mount.source.clone();
            point.driver = "local".into();
            point.copy_data = !options.no_copy;
            point.mode = "z".into();
            point.relabel = "z".into();
        }
        _ => return Err(bad("mount type unknown")),
    }
    Ok(point)
}

fn anonymous(target: &str) -> MountPoint {
    MountPoint {
        destination: target.into(),
        rw: true,
        driver: "local".into(),
        kind: "volume".into(),
        copy_data: true,
        spec: Mount {
            kind: "volume".into(),
            target: target.into(),
            ..Mount::default()
        },
        ..MountPoint::default()
    }
}

fn insert(points: &mut BTreeMap<String, MountPoint>, point: MountPoint) -> Result<()> {
    if points.contains_key(&point.destination) {
        return Err(Error::invalid(format!("Duplicate mount point: {}", point.destination)));
    }
    points.insert(point.destination.clone(), point);
    Ok(())
}

/// Options that the kernel knows, of a mount and of tmpfs (tmpfs(5)).
fn check_tmpfs(options: &str) -> Result<()> {
    const WORDS: &[&str] = &[
        "defaults",
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "bind",
        "rbind",
        "unbindable",
        "runbindable",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
    ];
    const KEYS: &[&str] = &["mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"];
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let known = match option.split_once('=') {
            Some((key, _)) => KEYS.contains(&key),
            None => WORDS.contains(&option),
        };
        if !known {
            return Err(Error::invalid(format!(
                "invalid tmpfs option [{}]",
                api::quote::quote(option)
            )));
        }
    }
    Ok(())
}

fn tmpfs_options(mount: &Mount) -> String {
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    let mut words = vec!["noexec".to_string(), "nosuid".into(), "nodev".into()];
    if mount.read_only {
        words.push("ro".into());
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes > 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    for pair in options.options.iter().flatten() {
        words.push(pair.join("="));
    }
    words.join(",")
}

fn destination(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    let clean = clean(target);
    if clean == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(clean)
}

fn invalid_mode(mode: &str) -> Error {
    Error::invalid(format!("invalid mode: {mode}"))
}

/// Checks a volume's name.
pub fn volume_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let ok = bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// An absolute path without `.`, `..`, doubled or trailing slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_and_volumes() {
        let bind = parse_bind("/a/../b/:/c/:ro,rslave").unwrap();
        assert_eq!(
            (bind.kind.as_str(), bind.source.as_str(), bind.destination.as_str()),
            ("bind", "/b", "/c")
        );
        assert_eq!((bind.rw, bind.propagation.as_str()), (false, "rslave"));
        let volume = parse_bind("data:/d").unwrap();
        assert_eq!(
            (volume.kind.as_str(), volume.name.as_str(), volume.copy_data),
            ("volume", "data", true)
        );
        let anonymous = parse_bind("/d").unwrap();
        assert_eq!((anonymous.kind.as_str(), anonymous.name.as_str()), ("volume", ""));
    }

    #[test]
    fn refusals() {
        for bad in [
            "",
            ":",
            "a:b",
            "/a:",
            "/a:b",
            ":/b",
            "/a:/b:rx",
            "/a:/b:ro,rw",
            "/a:/b:ro:x",
            "vol:/",
            "/a:/",
            "../x:/b",
            "v:/b:shared",
            "x y:/b",
        ] {
            assert!(parse_bind(bad).is_err(), "{bad:?}");
        }
        let twice = HostConfig {
            binds: Some(vec!["/a:/c".into(), "/b:/c/.".into()]),
            ..HostConfig::default()
        };
        assert_eq!(
            parse(&twice, std::iter::empty()).unwrap_err().to_string(),
            "Duplicate mount point: /c"
        );
    }

    #[test]
    fn an_image_volume_gives_way() {
        let host = HostConfig {
            binds: Some(vec!["/a:/data".into()]),
            ..HostConfig::default()
        };
        let mounts = parse(&host, ["/data/".to_string(), "/more".into()].into_iter()).unwrap();
        assert_eq!(mounts.points["/data"].kind, "bind");
        assert_eq!(mounts.points["/more"].kind, "volume");
    }
}
