//! A container's network namespace, held by a bind mount so that it lives without a process.
//!
//! Namespaces belong to threads: each piece of work inside one runs on a thread of its own, which ends with it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use sys::namespace;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::netlink::Netlink;

/// Enough for a netlink exchange; threads come and go with each container.
const STACK: usize = 128 << 10;
const LOOPBACK: u32 = 1;

/// A network namespace at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    path: PathBuf,
}

/// Where the namespaces of a daemon lie.
pub fn directory(exec_root: &Path) -> PathBuf {
    exec_root.join("netns")
}

impl Sandbox {
    /// Makes a new namespace at `<exec_root>/netns/<first 12 digits of id>`, with loopback up and nothing else.
    pub fn create(exec_root: &Path, id: &str) -> Result<Sandbox> {
        let dir = directory(exec_root);
        fs::create_dir_all(&dir).what(|| format!("create {}", dir.display()))?;
        let short = id.get(..12).unwrap_or(id);
        if short.is_empty() || !short.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::invalid(format!("invalid sandbox id {id:?}")));
        }
        let sandbox = Sandbox { path: dir.join(short) };
        sandbox.remove()?;
        let path = &sandbox.path;
        File::create_new(path).what(|| format!("create {}", path.display()))?;
        let made = on_thread(|| {
            namespace::unshare(namespace::NEWNET).what(|| "make a network namespace".to_owned())?;
            let own = format!("/proc/self/task/{}/ns/net", rustix::thread::gettid().as_raw_nonzero());
            mount_bind(own.as_str(), path).what(|| format!("bind network namespace at {}", path.display()))?;
            let up = Netlink::open().and_then(|mut netlink| netlink.set_up(LOOPBACK));
            up.what(|| "set lo up".to_owned())?;
            quiet_ipv6();
            Ok(())
        });
        if let Err(error) = made {
            // The first error is the one to report.
            let _ = sandbox.remove();
            return Err(error);
        }
        Ok(sandbox)
    }

    /// The namespace of an earlier daemon, or of another container.
    pub fn at(path: impl Into<PathBuf>) -> Sandbox {
        Sandbox { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says whether the path holds a namespace: after a reboot it is an empty file, or none.
    pub fn exists(&self) -> bool {
        const NSFS: u64 = 0x6e73_6673;
        // The type's width differs between architectures.
        rustix::fs::statfs(&self.path).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == NSFS))
    }

    /// Lets go of the namespace: it ends with its last process. One that is gone already is no error.
    pub fn remove(&self) -> Result<()> {
        let path = &self.path;
        loop {
            match unmount(path, UnmountFlags::DETACH) {
                // Mounted twice, perhaps, by a daemon that died in between.
                Ok(()) => continue,
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
                Err(e) => {
                    return Err(Error::io(
                        format!("unmount network namespace {}", path.display()),
                        e.into(),
                    ));
                }
            }
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(format!("remove {}", path.display()), e)),
            _ => Ok(()),
        }
    }

    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.path).what(|| format!("open network namespace {}", self.path.display()))
    }

    /// Runs work inside the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.open()?;
        on_thread(|| {
            namespace::join(&file, namespace::NEWNET)
                .what(|| format!("enter network namespace {}", self.path.display()))?;
            work()
        })
    }
}

/// Runs work on a thread that ends with it, and so takes its namespace along.
fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".to_owned()).stack_size(STACK);
        let handle = builder.spawn_scoped(scope, work).what(|| "start a thread".to_owned())?;
        handle
            .join()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::System, "network namespace thread panicked")))
    })
}

/// Interfaces to come get no IPv6 addresses of their own, as in Docker; loopback keeps `::1`.
/// A kernel without IPv6 has none of these files.
fn quiet_ipv6() {
    for (name, value) in [("all", "1"), ("default", "1"), ("lo", "0")] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), value);
    }
}
