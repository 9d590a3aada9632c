//! Debian packages that the project's commands need: what for, which are missing, and getting them.
//!
//! Quick when everything is there: one `dpkg-query`. No service is started by an installation.

use crate::command::{Result, attempt, output, run, which};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// For the release binary: a compiler whose standard library comes as source, a C compiler for ring and zstd,
/// a linker and a C library.
pub const BUILD: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "clang",
    "lld",
    "musl-dev",
    "gcc",
    "libc6-dev",
    "binutils",
];

/// For the demonstration: a registry, something to put in an image, and what a bridge network takes.
pub const DEMO: &[&str] = &["docker-registry", "busybox-static", "iptables", "iproute2"];

/// For the tests and figures: peers and oracles (Docker's client and engine, runc), a client of another make, and file
/// systems on loop devices.
pub const TEST: &[&str] = &[
    "docker.io",
    "docker-compose",
    "runc",
    "libseccomp-dev",
    "nftables",
    "e2fsprogs",
    "util-linux",
    "mount",
    "python3",
    "curl",
];

/// For the crash campaign: a device that logs, and file systems.
pub const CRASH: &[&str] = &[
    "qemu-system-common",
    "qemu-utils",
    "fuse3",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "util-linux",
    "mount",
];

/// For guests whose data root is on another file system than the disk.
pub const FILE_SYSTEMS: &[&str] = &["e2fsprogs", "xfsprogs", "btrfs-progs", "f2fs-tools"];

/// For fuzzing: libFuzzer comes as source.
pub const FUZZ: &[&str] = &["g++", "util-linux", "mount"];

/// For running the binaries of other architectures.
pub const EMULATE: &[&str] = &["qemu-user-static"];

/// For a guest: a machine, what its Debian is made with, and what its first file system is packed with.
pub const GUEST: &[&str] = &[
    "qemu-system-x86",
    "debootstrap",
    "cpio",
    "kmod",
    "e2fsprogs",
    "busybox-static",
];

/// Installs what is missing of `packages`.
pub fn ensure(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if which("apt-get").is_none() {
        return Err(format!(
            "these Debian packages are needed: {list}; there is no apt-get here, so install their like by hand, or run this on Debian"
        ));
    }
    if !is_root()? {
        return Err(format!(
            "these packages are needed: {list}; run this as root, or first: sudo apt-get install {list}"
        ));
    }
    println!("installing {list}");
    let _quiet = NoServices::begin()?;
    if !lists_are_there() {
        run(apt().arg("update"))?;
    }
    let install = |missing: &[&str]| run(apt().args(["install", "-y", "--no-install-recommends"]).args(missing));
    if install(&missing).is_err() {
        // Lists older than the archive name files that are gone.
        run(apt().arg("update"))?;
        install(&missing)?;
    }
    Ok(())
}

/// Whether we may mount, make bridges, and install packages.
pub fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    if which("dpkg-query").is_none() {
        return Ok(packages.to_vec());
    }
    // Ends with 1 when a package is unknown, and still lists the others.
    let format = "-f=${Package} ${db:Status-Status}\n";
    let listed = attempt(Command::new("dpkg-query").args(["-W", format]).args(packages))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let there = |package: &str| listed.lines().any(|line| line == format!("{package} installed"));
    Ok(packages.iter().copied().filter(|package| !there(package)).collect())
}

/// What has apt try again when a mirror does not answer at once.
pub const RETRIES: [&str; 2] = ["-o", "Acquire::Retries=4"];

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q").args(RETRIES);
    command
}

fn lists_are_there() -> bool {
    let Ok(entries) = std::fs::read_dir("/var/lib/apt/lists") else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

/// While it lives, installed packages do not start their services: the machine may have reasons not to run them.
struct NoServices(bool);

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Result<NoServices> {
        if Path::new(POLICY).exists() {
            return Ok(NoServices(false));
        }
        let text = "#!/bin/sh\n# Made by cargo xtask for the time of an installation.\nexit 101\n";
        let made = std::fs::write(POLICY, text)
            .and_then(|()| std::fs::set_permissions(POLICY, PermissionsExt::from_mode(0o755)));
        made.map_err(|e| format!("write {POLICY}: {e}"))?;
        Ok(NoServices(true))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.0
            && let Err(e) = std::fs::remove_file(POLICY)
        {
            eprintln!("{POLICY} could not be removed ({e}): remove it, or no package will start its service");
        }
    }
}
