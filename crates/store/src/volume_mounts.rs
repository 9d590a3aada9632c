//! What volumes with options mount over their `_data` while somebody uses them: a tmpfs, a bind, a disk, a share.
//!
//! The last user's going unmounts it. A mount that a daemon before us left is taken over, as its users are.

use crate::error::{Doing, Error, Result};
use crate::volumes::{Volume, Volumes};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::CString;
use std::sync::Mutex;

/// The option `o` of a volume, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Flags of `mount(2)`.
    pub flags: u32,
    /// Changes of propagation, each made after the mount.
    pub propagation: Vec<u32>,
    /// What the file system itself reads.
    pub data: String,
}

/// Who uses which volume that is to be mounted.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Volumes {
    /// Mounts what a volume's options say, if it has any and nobody did yet, for one more user.
    pub fn hold(&self, name: &str, user: &str, sort: impl FnOnce(&Volume) -> Sorted) -> Result<()> {
        let Some(volume) = self.get(name)?.filter(|volume| !volume.options.is_empty()) else {
            return Ok(());
        };
        let mut held = self.held.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !sys::fs::is_mount_point(&volume.data).doing("look at", &volume.data)? {
            let made = mount(&volume, &sort(&volume));
            made.map_err(|error| error.within(format!("error while mounting volume '{}'", volume.data.display())))?;
        }
        held.entry(name.to_owned()).or_default().insert(user.to_owned());
        Ok(())
    }

    /// A user is gone; the last one's going unmounts the volume.
    pub fn let_go(&self, name: &str, user: &str) -> Result<()> {
        // Without options there is nothing to wait for, be a share of another volume ever so dead.
        let Some(volume) = self.get(name)?.filter(|volume| !volume.options.is_empty()) else {
            return Ok(());
        };
        let mut held = self.held.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(users) = held.get_mut(name) else {
            return Ok(());
        };
        users.remove(user);
        if !users.is_empty() {
            return Ok(());
        }
        held.remove(name);
        unmount(&volume)
    }

    /// Unmounts volumes with options that nobody holds: what a killed daemon left. Gives what could not be.
    pub fn unmount_stale(&self) -> Vec<Error> {
        let held = self.held.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let used: HashSet<&String> = held.keys().collect();
        let volumes = match self.list() {
            Ok(volumes) => volumes,
            Err(error) => return vec![error],
        };
        let stale = volumes
            .iter()
            .filter(|volume| !volume.options.is_empty() && !used.contains(&volume.name));
        stale.filter_map(|volume| unmount(volume).err()).collect()
    }
}

fn mount(volume: &Volume, sorted: &Sorted) -> Result<()> {
    let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
    let (device, kind) = (option("device"), option("type"));
    let doing = || {
        format!(
            "failed to mount local volume: mount {device}:{}, flags: {:#x}",
            volume.data.display(),
            sorted.flags
        )
    };
    let failed = |error: rustix::io::Errno| Error::Io {
        doing: doing(),
        source: error.into(),
    };
    let flags = MountFlags::from_bits_retain(sorted.flags);
    let data = CString::new(sorted.data.as_str()).map_err(|_| Error::Invalid(format!("{}: it has a NUL", doing())))?;
    rustix::mount::mount(device, &volume.data, kind, flags, data.as_c_str()).map_err(failed)?;
    let finish = || -> std::result::Result<(), rustix::io::Errno> {
        // The kernel binds first and hears of the rest in a second call.
        let more = flags.difference(MountFlags::BIND | MountFlags::REC);
        if flags.contains(MountFlags::BIND) && !more.is_empty() {
            rustix::mount::mount_remount(&volume.data, flags.difference(MountFlags::REC), c"")?;
        }
        for change in &sorted.propagation {
            rustix::mount::mount_change(&volume.data, MountPropagationFlags::from_bits_retain(*change))?;
        }
        Ok(())
    };
    finish().map_err(|error| {
        let _ = rustix::mount::unmount(&volume.data, UnmountFlags::DETACH);
        failed(error)
    })
}

fn unmount(volume: &Volume) -> Result<()> {
    // As often as it was mounted; bounded, for what cannot be unmounted stays.
    for _ in 0..64 {
        if !sys::fs::is_mount_point(&volume.data).doing("look at", &volume.data)? {
            return Ok(());
        }
        rustix::mount::unmount(&volume.data, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(std::io::Error::from)
            .doing("unmount", &volume.data)?;
    }
    Ok(())
}
