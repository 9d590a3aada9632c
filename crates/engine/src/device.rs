//! Devices of the host: those that `--device` names, and all of them for a privileged container.

use crate::container::Record;
use crate::error::{Error, Result};
use crate::spec::HostDevice;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

fn device_at(path: &Path, place: String, access: &str) -> Option<HostDevice> {
    let metadata = fs::metadata(path).ok()?;
    let kind = match metadata.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return None,
    };
    let (major, minor) = crate::info::device_numbers(metadata.rdev());
    Some(HostDevice {
        path: place,
        kind,
        major,
        minor,
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.into(),
    })
}

/// The devices that `--device` names; a directory stands for all in it.
pub(crate) fn asked(record: &Record) -> Result<Vec<HostDevice>> {
    let mut list = Vec::new();
    for mapping in record.host.devices.iter().flatten() {
        let place = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let access = if mapping.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &mapping.cgroup_permissions
        };
        let path = Path::new(&mapping.path_on_host);
        if path.is_dir() {
            walk(path, 4, &mut |found| {
                let below = found.strip_prefix(path).unwrap_or(found);
                list.extend(device_at(
                    found,
                    Path::new(place).join(below).to_string_lossy().into_owned(),
                    access,
                ));
            });
            continue;
        }
        let device = device_at(path, place.clone(), access).ok_or_else(|| {
            Error::internal(format!(
                "error gathering device information while adding custom device \"{}\": {}",
                mapping.path_on_host,
                if path.exists() {
                    "not a device node"
                } else {
                    "no such file or directory"
                }
            ))
        })?;
        list.push(device);
    }
    Ok(list)
}

/// The host's devices for a privileged container, without terminals and what a container has of its own.
pub(crate) fn all() -> Vec<HostDevice> {
    let mut list = Vec::new();
    walk(Path::new("/dev"), 8, &mut |path| {
        let own = ["/dev/console", "/dev/ptmx"].iter().any(|own| path == Path::new(own));
        if !own {
            list.extend(device_at(path, path.to_string_lossy().into_owned(), "rwm"));
        }
    });
    list
}

fn walk(directory: &Path, depth: u32, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let skip = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
        if kind.is_dir() && depth > 0 && !skip.iter().any(|s| entry.file_name() == *s) {
            walk(&path, depth - 1, found);
        } else if kind.is_char_device() || kind.is_block_device() {
            found(&path);
        }
    }
}
