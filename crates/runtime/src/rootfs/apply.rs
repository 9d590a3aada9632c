//! Carries out the steps of a rootfs plan, in the container's new mount namespace, before `pivot_root`.
//!
//! Everything is done by descriptors under the new root, reached through the host's `/proc/self/fd`.
//! A place is opened again after something was mounted on it, by its parent's descriptor and its own name.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::Device;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::copy::copy_tree;
use super::options::{Options, flag};
use super::plan::{Kind, MountStep, Step};
use super::walk::{Make, Place, Root, fd_path, is_directory};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};

/// What the steps need to know besides themselves.
pub struct Site<'a> {
    /// The root directory on the host.
    pub rootfs: &'a Path,
    pub cgroup: &'a Cgroup,
    /// Whether the container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
    /// Whether the container has a user namespace of its own: device nodes cannot be made there.
    pub user_namespace: bool,
}

/// Applies all steps and answers with the new root.
pub fn apply(steps: &[Step], site: &Site<'_>) -> Result<Root> {
    let mut root = None;
    for step in steps {
        match (step, &root) {
            (Step::Propagation(flags), _) => {
                change_propagation(Path::new("/"), *flags).context("set propagation of /")?;
                if flags & (flag::SHARED | flag::PRIVATE) == flag::SHARED {
                    make_parent_private(site.rootfs)?;
                }
            }
            (Step::BindRoot, _) => {
                rustix::mount::mount_bind_recursive(site.rootfs, site.rootfs)
                    .with_context(|| format!("bind {} on itself", site.rootfs.display()))?;
                root = Some(Root::open(site.rootfs).with_context(|| format!("open {}", site.rootfs.display()))?);
            }
            (_, None) => return Err(Error::new("rootfs plan without a root")),
            (Step::Mount(mount), Some(root)) => mount_one(root, mount, site).map_err(|error| {
                error.within(format_args!(
                    "error mounting {:?} to rootfs at {:?}",
                    mount.source, mount.destination
                ))
            })?,
            (Step::Device(device), Some(root)) => make_device(root, device, site.user_namespace)
                .map_err(|error| error.within(format_args!("error creating device node {:?}", device.path)))?,
            (Step::Ptmx, Some(root)) => make_link(root, "/dev/ptmx", "pts/ptmx")?,
            (Step::DevLinks, Some(root)) => {
                make_link(root, "/dev/fd", "/proc/self/fd")?;
                make_link(root, "/dev/stdin", "/proc/self/fd/0")?;
                make_link(root, "/dev/stdout", "/proc/self/fd/1")?;
                make_link(root, "/dev/stderr", "/proc/self/fd/2")?;
                if Path::new("/proc/kcore").exists() {
                    make_link(root, "/dev/core", "/proc/kcore")?;
                }
            }
            (Step::DevReadonly(flags), Some(root)) => {
                let dev = root.find(Path::new("/dev")).context("open /dev")?;
                remount(&dev, flags | flag::RDONLY, "").context("remount /dev read-only")?;
            }
            (Step::ReadonlyPath(path), Some(root)) => {
                readonly_path(root, path).map_err(|error| error.within(format_args!("make {path} read-only")))?
            }
            (Step::MaskPath(path), Some(root)) => {
                mask_path(root, path).map_err(|error| error.within(format_args!("mask {path}")))?;
            }
        }
    }
    root.ok_or_else(|| Error::new("rootfs plan without a root"))
}

/// Makes the mount that holds `rootfs` private: `pivot_root` refuses a shared one.
fn make_parent_private(rootfs: &Path) -> Result<()> {
    for path in rootfs.ancestors() {
        match rustix::mount::mount_change(path, MountPropagationFlags::PRIVATE) {
            Ok(()) => return Ok(()),
            // Not a mount point: look above.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error).with_context(|| format!("make {} private", path.display())),
        }
    }
    Ok(())
}

fn change_propagation(path: &Path, flags: u32) -> rustix::io::Result<()> {
    rustix::mount::mount_change(path, MountPropagationFlags::from_bits_retain(flags))
}

fn remount(fd: &OwnedFd, flags: u32, data: &str) -> rustix::io::Result<()> {
    // REMOUNT is added by the call.
    rustix::mount::mount_remount(fd_path(fd), MountFlags::from_bits_retain(flags), data)
}

fn mount_one(root: &Root, mount: &MountStep, site: &Site<'_>) -> Result<()> {
    let destination = Path::new(&mount.destination);
    match &mount.kind {
        Kind::Bind => bind(root, mount),
        Kind::Kernel(kind) => {
            // A link here would let an image choose where procfs goes, and what masking protects.
            let place = root
                .walk(destination, Make::Directory)
                .with_context(|| format!("make {}", mount.destination))?;
            if unfollowed(root, destination)? {
                return Err(Error::new(format!(
                    "filesystem {kind:?} must be mounted on ordinary directory"
                )));
            }
            match mount_filesystem(&place, mount, kind, &mount.options) {
                // A network namespace joined from outside does not belong to our user namespace: the host's sysfs, then.
                Err(_) if kind == "sysfs" && site.user_namespace => {
                    let options = Options {
                        flags: flag::BIND | flag::REC | flag::RDONLY,
                        ..mount.options.clone()
                    };
                    bind(
                        root,
                        &MountStep {
                            source: "/sys".into(),
                            kind: Kind::Bind,
                            options,
                            ..mount.clone()
                        },
                    )
                }
                result => result,
            }
        }
        Kind::Tmpfs => {
            let place = root
                .walk(destination, Make::Directory)
                .with_context(|| format!("make {}", mount.destination))?;
            let before = rustix::fs::fstat(&place.fd).context("stat")?;
            mount_filesystem(&place, mount, "tmpfs", &mount.options)?;
            let mounted = place.reopen().context("open the new tmpfs")?;
            if mount.options.copy_up {
                copy_tree(&place.fd, &mounted).context("copy up")?;
            } else if !place.made && !mount.options.data.split(',').any(|word| word.starts_with("mode=")) {
                rustix::fs::chmod(fd_path(&mounted), Mode::from_raw_mode(before.st_mode & 0o7777)).context("chmod")?;
            }
            if mount.options.flags & flag::RDONLY != 0 {
                remount(&mounted, mount.options.flags | flag::BIND, "").context("remount read-only")?;
            }
            Ok(())
        }
        Kind::Cgroup => {
            let place = root
                .walk(destination, Make::Directory)
                .with_context(|| format!("make {}", mount.destination))?;
            if site.cgroup.is_v2() {
                cgroup_v2(&place, mount, site)
            } else {
                cgroup_v1(root, &place, mount, site)
            }
        }
        Kind::Other(kind) => {
            let place = root
                .walk(destination, Make::Directory)
                .with_context(|| format!("make {}", mount.destination))?;
            mount_filesystem(&place, mount, kind, &mount.options)
        }
    }
}

/// Whether a component of `path` is a symbolic link.
fn unfollowed(root: &Root, path: &Path) -> Result<bool> {
    let mut at = root.as_fd().try_clone_to_owned().context("duplicate")?;
    for part in path.components() {
        let std::path::Component::Normal(name) = part else {
            continue;
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))?;
        if !is_directory(&at).context("stat")? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn mount_filesystem(place: &Place, mount: &MountStep, kind: &str, options: &Options) -> Result<()> {
    let mut flags = options.flags;
    if kind == "tmpfs" {
        // Content may have to be copied in first.
        flags &= !flag::RDONLY;
    }
    let data = c_string(&options.data)?;
    let source = if mount.source.is_empty() { kind } else { &mount.source };
    let described = |error: Errno| {
        Error::new(format!(
            "mount {source}:{} (via {}), flags: {flags:#x}, data: {}: {}",
            mount.destination,
            place.path().display(),
            options.data,
            crate::error::errno_text(&error.into())
        ))
    };
    let bits = MountFlags::from_bits_retain(flags);
    rustix::mount::mount(source, place.path(), kind, bits, data.as_c_str()).map_err(described)?;
    propagate(place, &options.propagation)
}

fn propagate(place: &Place, changes: &[u32]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mounted = place.reopen().context("open the new mount")?;
    for flags in changes {
        change_propagation(&fd_path(&mounted), *flags).context("set propagation")?;
    }
    Ok(())
}

fn bind(root: &Root, mount: &MountStep) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(mount.source.as_str(), flags, Mode::empty())
        .with_context(|| format!("stat {}", mount.source))?;
    let make = if is_directory(&source).context("stat")? {
        Make::Directory
    } else {
        Make::File
    };
    let place = root.walk(Path::new(&mount.destination), make).map_err(|error| {
        Error::new(format!(
            "create mountpoint for {} mount: {}",
            mount.destination,
            crate::error::errno_text(&error)
        ))
    })?;
    bind_at(&source, &place, mount)?;
    propagate(&place, &mount.options.propagation)
}

/// Binds an open source, and sets the flags that a bind mount takes only by a second call.
fn bind_at(source: &OwnedFd, place: &Place, mount: &MountStep) -> Result<()> {
    let options = &mount.options;
    let described = |error: Errno| {
        Error::new(format!(
            "mount {}:{} (via {}), flags: {:#x}: {}",
            mount.source,
            mount.destination,
            place.path().display(),
            options.flags,
            crate::error::errno_text(&error.into())
        ))
    };
    let target = place.path();
    if options.flags & flag::REC != 0 {
        rustix::mount::mount_bind_recursive(fd_path(source), target).map_err(described)?;
    } else {
        rustix::mount::mount_bind(fd_path(source), target).map_err(described)?;
    }
    let mounted = place.reopen().context("open the bind mount")?;
    let (there, wanted) = (
        rustix::fs::fstat(&mounted).context("stat")?,
        rustix::fs::fstat(source).context("stat")?,
    );
    if (there.st_dev, there.st_ino) != (wanted.st_dev, wanted.st_ino) {
        return Err(Error::new(format!(
            "{} changed while it was mounted",
            mount.destination
        )));
    }
    let extra = options.flags & !(flag::BIND | flag::REC | flag::REMOUNT);
    if extra != 0 {
        bind_flags(&mounted, extra).map_err(described)?;
        if options.recursive_readonly {
            sys::mount::set_readonly_recursive(&mounted).context("make submounts read-only")?;
        }
    }
    Ok(())
}

/// Sets flags of a bind mount, keeping those a less privileged mount namespace may not clear.
fn bind_flags(mounted: &OwnedFd, flags: u32) -> rustix::io::Result<()> {
    match remount(mounted, flags | flag::BIND, "") {
        Err(Errno::PERM) => {
            let held = rustix::fs::fstatvfs(mounted)?.f_flag.bits() as u32;
            let locked = flag::RDONLY | flag::NOSUID | flag::NODEV | flag::NOEXEC | flag::NOATIME | flag::NODIRATIME;
            // ST_RELATIME is 4096, which would be MS_BIND.
            let relatime = if held & 4096 != 0 { flag::RELATIME } else { 0 };
            remount(mounted, flags | flag::BIND | (held & locked) | relatime, "")
        }
        result => result,
    }
}

/// v2: the container's own subtree is what a cgroup namespace shows; without one it is bound.
fn cgroup_v2(place: &Place, mount: &MountStep, site: &Site<'_>) -> Result<()> {
    let options = Options {
        data: String::new(),
        ..mount.options.clone()
    };
    match mount_filesystem(place, mount, "cgroup2", &options) {
        Err(_) => {
            let source = if site.cgroup_namespace {
                site.cgroup.directory()
            } else {
                Path::new("/sys/fs/cgroup")
            };
            let source = open_path(source)?;
            let mut bound = mount.clone();
            bound.options.flags |= flag::BIND | flag::REC;
            bound.options.propagation = vec![];
            bind_at(&source, place, &bound)
        }
        result => result,
    }
}

/// v1: a tmpfs with one directory per hierarchy, each bound to the container's own cgroup there and
/// read-only unless the spec says `rw`: a writable one would let it raise its own limits.
fn cgroup_v1(root: &Root, place: &Place, mount: &MountStep, site: &Site<'_>) -> Result<()> {
    let readonly = mount.options.flags & flag::RDONLY;
    let flags = mount.options.flags & !flag::RDONLY;
    let tmpfs = Options {
        flags,
        data: "mode=755".into(),
        ..Options::default()
    };
    mount_filesystem(place, mount, "tmpfs", &tmpfs)?;
    for hierarchy in site.cgroup.hierarchies() {
        let below = Path::new(&mount.destination).join(&hierarchy.name);
        let target = root
            .walk(&below, Make::Directory)
            .with_context(|| format!("make {}", below.display()))?;
        let one = MountStep {
            destination: below.display().to_string(),
            source: if site.cgroup_namespace {
                "cgroup".into()
            } else {
                hierarchy.directory.display().to_string()
            },
            kind: Kind::Cgroup,
            options: Options {
                flags: mount.options.flags | flag::BIND | flag::REC,
                ..Options::default()
            },
        };
        if site.cgroup_namespace {
            // Mounted within the namespace, the hierarchy's root is the container's cgroup.
            let kind = if hierarchy.unified { "cgroup2" } else { "cgroup" };
            let options = Options {
                flags: flags | readonly,
                data: hierarchy.mount_data.clone(),
                ..Options::default()
            };
            mount_filesystem(&target, &one, kind, &options)?;
            if readonly != 0 {
                // For v1 the flag above is of the superblock, which the host shares: the mount has to have it.
                let mounted = target.reopen().context("open the cgroup mount")?;
                bind_flags(&mounted, flags | readonly).context("make the cgroup mount read-only")?;
            }
        } else if hierarchy.directory.exists() {
            bind_at(&open_path(&hierarchy.directory)?, &target, &one)?;
        }
        for alias in &hierarchy.aliases {
            let path = Path::new(&mount.destination).join(alias);
            make_link(root, &path.display().to_string(), &hierarchy.name)?;
        }
    }
    propagate(place, &mount.options.propagation)?;
    if readonly != 0 {
        let mounted = place.reopen().context("open the cgroup tmpfs")?;
        remount(&mounted, mount.options.flags | flag::BIND, "").context("make the cgroup tmpfs read-only")?;
    }
    Ok(())
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

fn make_device(root: &Root, device: &Device, user_namespace: bool) -> Result<()> {
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Error::new(format!("invalid device type {other:?}"))),
    };
    let path = Path::new(&device.path);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("invalid device path"));
    };
    if user_namespace {
        return bind_device(root, path);
    }
    let parent = root.walk(directory, Make::Directory).context("make its directory")?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = rustix::fs::makedev(device.major as u32, device.minor as u32);
    match rustix::fs::mknodat(&parent.fd, name, kind, mode, number) {
        Ok(()) => {}
        // The image, or a mount, has it already.
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::PERM) => return bind_device(root, path),
        Err(error) => return Err(error).context("mknod"),
    }
    let (uid, gid) = (
        Uid::from_raw(device.uid.unwrap_or(0)),
        Gid::from_raw(device.gid.unwrap_or(0)),
    );
    rustix::fs::chownat(&parent.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context("chown")?;
    // The mode given to mknod went through the umask. The node is ours: nobody runs in here yet.
    let node = rustix::fs::openat(
        &parent.fd,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context("open")?;
    rustix::fs::chmod(fd_path(&node), mode).context("chmod")
}

fn bind_device(root: &Root, path: &Path) -> Result<()> {
    let source = open_path(path)?;
    let place = root.walk(path, Make::File).context("make the file to bind it on")?;
    rustix::mount::mount_bind(fd_path(&source), place.path()).context("bind the host's node")
}

fn make_link(root: &Root, path: &str, target: &str) -> Result<()> {
    let path = Path::new(path);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(format!("link at {}: no name", path.display())));
    };
    let parent = root
        .walk(directory, Make::Directory)
        .with_context(|| format!("make {}", directory.display()))?;
    let link = || rustix::fs::symlinkat(target, &parent.fd, name);
    match link() {
        Err(Errno::EXIST) if name == "ptmx" => {
            // The image's own node would open the host's pseudo-terminals.
            rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()).context("remove /dev/ptmx")?;
            link().context("link /dev/ptmx")
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("link {} to {target}", path.display())),
    }
}

fn readonly_path(root: &Root, path: &str) -> Result<()> {
    let place = match root.walk(Path::new(path), Make::Nothing) {
        Ok(place) => place,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error).context("open"),
    };
    rustix::mount::mount_bind_recursive(place.path(), place.path()).context("bind")?;
    let mounted = place.reopen().context("open the bind mount")?;
    let held = rustix::fs::fstatvfs(&mounted).context("statvfs")?.f_flag.bits() as u32;
    let keep = held & (flag::NOSUID | flag::NODEV | flag::NOEXEC);
    bind_flags(&mounted, keep | flag::RDONLY).context("remount")
}

fn mask_path(root: &Root, path: &str) -> Result<()> {
    let place = match root.walk(Path::new(path), Make::Nothing) {
        Ok(place) => place,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error).context("open"),
    };
    if is_directory(&place.fd).context("stat")? {
        return rustix::mount::mount(
            "tmpfs",
            place.path(),
            "tmpfs",
            MountFlags::RDONLY,
            None::<&std::ffi::CStr>,
        )
        .context("mount tmpfs");
    }
    let null = null_device(root)?;
    rustix::mount::mount_bind(fd_path(&null), place.path()).context("bind /dev/null")
}

/// A null device, and nothing that took its place. The container's own if it has one: on the host's,
/// bound here, the container could change the mode for everybody.
fn null_device(root: &Root) -> Result<OwnedFd> {
    let is_null = |fd: &OwnedFd| {
        rustix::fs::fstat(fd).is_ok_and(|status| {
            FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
                && status.st_rdev == rustix::fs::makedev(1, 3)
        })
    };
    if let Ok(own) = root.find(Path::new("/dev/null"))
        && is_null(&own)
    {
        return Ok(own);
    }
    let null = open_path(Path::new("/dev/null"))?;
    if is_null(&null) {
        Ok(null)
    } else {
        Err(Error::new("/dev/null is not the null device"))
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(format!("{text:?} holds a zero byte")))
}

/// Makes the new root `/` and takes the old one away.
pub fn pivot(root: &Root) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty()).context("open /")?;
    rustix::process::fchdir(root.as_fd()).context("fchdir to the new root")?;
    // Both names are the current directory: the old root ends up mounted over the new one, no directory needed.
    rustix::process::pivot_root(".", ".").context("pivot_root")?;
    rustix::process::fchdir(&old).context("fchdir to the old root")?;
    // Unmounts here must not reach the host.
    rustix::mount::mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("make the old root a slave")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("unmount the old root")?;
    rustix::process::chdir("/").context("chdir to /")
}

/// Without a mount namespace of its own the container gets its root by chroot.
pub fn chroot(root: &Root) -> Result<()> {
    rustix::process::fchdir(root.as_fd()).context("fchdir to the new root")?;
    rustix::process::chroot(".").context("chroot")?;
    rustix::process::chdir("/").context("chdir to /")
}

/// Makes `/` read-only (after [`pivot`]).
pub fn readonly_root() -> Result<()> {
    let root = open_path(Path::new("/"))?;
    let held = rustix::fs::fstatvfs(&root).context("statvfs /")?.f_flag.bits() as u32;
    let keep = held & (flag::NOSUID | flag::NODEV | flag::NOEXEC);
    let flags = MountFlags::from_bits_retain(flag::BIND | flag::RDONLY | keep);
    rustix::mount::mount_remount("/", flags, "").context("remount / read-only")
}

/// Binds an open pseudo-terminal on the container's `/dev/console`.
pub fn bind_console(root: &Root, terminal: BorrowedFd<'_>) -> Result<()> {
    let place = root
        .walk(Path::new("/dev/console"), Make::File)
        .context("make /dev/console")?;
    rustix::mount::mount_bind(fd_path(&terminal), place.path()).context("bind the terminal on /dev/console")
}
