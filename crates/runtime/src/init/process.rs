//! From a process that stands in its container to the program: identity, privileges, directory, execution.
//! Shared by a container's init and by `exec`.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use oci::runtime::{Capabilities, Process};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use super::lookup;
use crate::error::{Context, Error, Result};
use crate::seccomp::Filter;

/// A program ready to be executed.
#[derive(Debug)]
pub struct Program {
    path: String,
    args: Vec<CString>,
    env: Vec<CString>,
    /// A filter that could not be installed earlier.
    seccomp: Option<Filter>,
}

/// Capability sets as bits, cut down to what this process may have at all.
fn capability_sets(capabilities: &Capabilities) -> Result<sys::caps::Sets> {
    let own = sys::caps::get().context("read own capabilities")?;
    // A VM or a device may lack some; the container gets what there is. Unknown names: a newer kernel's.
    let bits = |names: &[String]| {
        names
            .iter()
            .filter_map(|name| sys::caps::number(name))
            .fold(0u64, |bits, number| bits | 1 << number)
    };
    let permitted = bits(&capabilities.permitted) & own.permitted & own.bounding;
    Ok(sys::caps::Sets {
        bounding: bits(&capabilities.bounding) & own.bounding,
        permitted,
        effective: bits(&capabilities.effective) & permitted,
        inheritable: bits(&capabilities.inheritable) & own.bounding,
        ambient: bits(&capabilities.ambient) & permitted & bits(&capabilities.inheritable),
    })
}

/// Becomes the user of `process`, with its capabilities and in its directory, and finds its program.
///
/// The order matters; each step says why it is where it is.
pub fn prepare(process: &Process, seccomp: Option<Filter>) -> Result<Program> {
    let Some(name) = process.args.first() else {
        return Err(Error::new("args must not be empty"));
    };
    let sets = match &process.capabilities {
        Some(capabilities) => capability_sets(capabilities)?,
        None => {
            let own = sys::caps::get().context("read own capabilities")?;
            sys::caps::Sets {
                ambient: 0,
                inheritable: 0,
                ..own
            }
        }
    };
    // The label of the next execve; needs /proc, and writing it needs no privilege.
    if !process.apparmor_profile.is_empty() {
        apparmor(&process.apparmor_profile)?;
    }
    let mut seccomp = seccomp;
    if process.no_new_privileges {
        sys::process::set_no_new_privileges().context("set no_new_privs")?;
    } else if let Some(filter) = seccomp.take() {
        // Without no_new_privs the kernel wants CAP_SYS_ADMIN for a filter, which is about to go.
        install(&filter)?;
    }
    // Needs CAP_SETPCAP, so before the user changes.
    if process.capabilities.is_some() {
        sys::caps::limit_bounding(sets.bounding).context("unable to apply bounding set")?;
    }
    // Otherwise setuid takes the permitted set away, from which the others are made.
    sys::process::set_keep_capabilities(true).context("unable to set keep caps")?;
    give_stdio(process.user.uid)?;
    // As root first: the directory may be closed to the user but open to root…
    let entered = chdir(&process.cwd);
    sys::process::set_groups(&process.user.additional_gids)
        .or_else(forgive_unmapped_groups(process))
        .context("setgroups")?;
    sys::process::set_gid(process.user.gid).with_context(|| format!("setgid {}", process.user.gid))?;
    sys::process::set_uid(process.user.uid).with_context(|| format!("setuid {}", process.user.uid))?;
    sys::process::set_keep_capabilities(false).context("unable to clear keep caps")?;
    if process.capabilities.is_some() {
        sys::caps::set(sets.effective, sets.permitted, sets.inheritable).context("unable to apply caps")?;
        sys::caps::set_ambient(sets.ambient).context("unable to apply ambient caps")?;
    }
    // …or the other way round (a network filesystem that maps root to nobody).
    if entered.is_err() {
        chdir(&process.cwd)?;
    }
    if let Some(umask) = process.user.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask & 0o777));
    } else {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    let mut env = process.env.clone();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", home(process.user.uid)));
    }
    // As that user and in that directory: both decide what can be executed.
    let path = lookup::program(name, &env)?;
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(text.as_str()).map_err(|_| Error::new(format!("{text:?} holds a zero byte"))))
            .collect::<Result<Vec<_>>>()
    };
    Ok(Program {
        path,
        args: strings(&process.args)?,
        env: strings(&env)?,
        seccomp,
    })
}

impl Program {
    /// Executes it. Descriptors from `first_hidden` on do not survive. Returns only on failure.
    pub fn execute(self, first_hidden: u32) -> Error {
        if let Err(error) = sys::process::close_on_exec_from(first_hidden).context("close descriptors") {
            return error;
        }
        sys::signal::reset_all();
        if let Err(error) = sys::signal::unblock_all().context("unblock signals") {
            return error;
        }
        let Ok(path) = CString::new(self.path.as_str()) else {
            return Error::new("path holds a zero byte");
        };
        // The last step with no_new_privs: fewer of our own calls have to be allowed by the filter.
        if let Some(filter) = &self.seccomp
            && let Err(error) = install(filter)
        {
            return error;
        }
        let error = sys::process::exec(&path, &self.args, &self.env);
        Error::new(format!("exec {}: {}", self.path, crate::error::errno_text(&error)))
    }
}

fn install(filter: &Filter) -> Result<()> {
    sys::seccomp::install(&filter.program, filter.flags).context("unable to init seccomp: install filter")
}

/// In a user namespace where setgroups is denied, no groups wanted is no groups set.
fn forgive_unmapped_groups(process: &Process) -> impl Fn(std::io::Error) -> std::io::Result<()> {
    let none_wanted = process.user.additional_gids.is_empty();
    move |error| {
        if none_wanted && error.raw_os_error() == Some(libc::EPERM) {
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// Gives the standard streams to the user, so that it can open `/dev/stdout` again.
fn give_stdio(uid: u32) -> Result<()> {
    let null = rustix::fs::stat("/dev/null").ok();
    let give = |fd: BorrowedFd<'_>| -> Result<()> {
        let Ok(status) = rustix::fs::fstat(fd) else {
            return Ok(());
        };
        let is_null = null
            .as_ref()
            .is_some_and(|null| null.st_rdev == status.st_rdev && status.st_rdev != 0);
        if status.st_uid == uid || is_null {
            return Ok(());
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>) {
            // Read-only files, and ids that are not mapped here: stdio still works.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error).context("change owner of a standard stream"),
        }
    };
    use std::os::fd::AsFd;
    give(std::io::stdin().as_fd())?;
    give(std::io::stdout().as_fd())?;
    give(std::io::stderr().as_fd())
}

/// Enters the working directory, and makes sure that it is in the container (CVE-2024-21626: a path
/// through a leaked descriptor of the host).
fn chdir(cwd: &str) -> Result<()> {
    if cwd.is_empty() {
        return Ok(());
    }
    rustix::process::chdir(cwd).with_context(|| format!("chdir to cwd ({cwd:?}) set in config.json failed"))?;
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Error::new(
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
    }
}

fn apparmor(profile: &str) -> Result<()> {
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('N')) {
        return Ok(());
    }
    let value = format!("exec {profile}");
    std::fs::write("/proc/self/attr/apparmor/exec", &value)
        .or_else(|_| std::fs::write("/proc/self/attr/exec", &value))
        .with_context(|| format!("unable to apply apparmor profile: apparmor failed to apply profile {profile}"))
}

/// The user's home directory by the container's own `/etc/passwd`.
fn home(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let matches = fields.get(2)?.parse::<u32>().ok()? == uid;
        matches.then(|| fields.get(5).copied().unwrap_or_default().to_owned())
    });
    match entry {
        Some(home) if !home.is_empty() => home,
        _ => "/".to_owned(),
    }
}
