//! The guest's disk, kernel and first file system, made from Debian packages under `target/guest`.
//!
//! The Debian is made once and kept; each run gets a fresh disk of it, with the package under test beside it.

use crate::command::{Result, output, run, target_dir, which, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a device would have beside our package: an init, what a bridge network takes, a client for HTTP.
const PACKAGES: &str = "systemd-sysv,dbus,iptables,iproute2,kmod,procps,busybox-static,curl,ca-certificates";

/// The kernel: small, and with drivers for qemu's devices.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The one with all drivers, of which we need a file system's.
const WHOLE_KERNEL: &str = "linux-image-amd64";

/// What must be loaded before the disk can be mounted; modprobe finds what these need.
const FIRST_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "ext4"];

/// What a program by itself needs of a kernel whose modules are not on the disk.
const PROGRAM_MODULES: &[&str] = &["overlay", "bridge", "veth", "af_packet"];

/// Bytes of the disk; sparse.
const SIZE: &str = "1536M";

/// Bytes of a disk for the data root alone; sparse.
const DATA_SIZE: u64 = 1 << 30;

/// Files to boot from.
pub struct Disk {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub image: PathBuf,
    /// One for the data root alone, and its file system.
    pub data: Option<(PathBuf, String)>,
}

/// What runs in the guest.
pub enum Start<'a> {
    /// systemd, which runs a script when all else is up; our package and our archive lie beside it.
    Systemd {
        package: &'a Path,
        archive: &'a Path,
        script: &'a Path,
    },
    /// A script as the first process, beside our program. The data root may be on a file system of its own.
    Program {
        binary: &'a Path,
        script: &'a Path,
        data: Option<&'a str>,
    },
}

impl Disk {
    /// Makes a fresh disk. The script finds `reference` in a file.
    pub fn make(start: &Start<'_>, reference: &str) -> Result<Disk> {
        let place = target_dir().join("guest");
        std::fs::create_dir_all(&place).map_err(|e| format!("make {}: {e}", place.display()))?;
        let root = debian(&place)?;
        let data = match start {
            Start::Program { data, .. } => *data,
            Start::Systemd { .. } => None,
        };
        // Where its modules are not copied to the disk, all of them come with the first file system.
        let mut modules = FIRST_MODULES.to_vec();
        let (kernel, version, tree) = match data {
            None => kernel(&place, KERNEL)?,
            Some(fs) => {
                modules.extend(PROGRAM_MODULES);
                modules.push(fs);
                kernel(&place, WHOLE_KERNEL)?
            }
        };
        if data.is_none() {
            copy_modules(&tree, &version, &root)?;
        }
        let to = |path: &str| root.join(path);
        for left in ["balena.deb", "balena.tar.gz", "balena", "script.sh"] {
            let _ = std::fs::remove_file(to("root").join(left));
        }
        write(&to("root/reference"), reference)?;
        write(&to("etc/hostname"), "guest\n")?;
        write(&to("etc/fstab"), "/dev/vda / ext4 defaults 0 1\n")?;
        let first = match start {
            Start::Systemd {
                package,
                archive,
                script,
            } => {
                copy(package, &to("root/balena.deb"), 0o644)?;
                copy(archive, &to("root/balena.tar.gz"), 0o644)?;
                copy(script, &to("root/script.sh"), 0o755)?;
                systemd(&root)?;
                "/sbin/init"
            }
            Start::Program { binary, script, .. } => {
                copy(binary, &to("root/balena"), 0o755)?;
                copy(script, &to("root/script.sh"), 0o755)?;
                "/root/script.sh"
            }
        };
        let initramfs = initramfs(&place, (&tree, &version), &modules, first)?;
        let image = place.join("disk.ext4");
        let _ = std::fs::remove_file(&image);
        let mut format = Command::new("mke2fs");
        format.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg(SIZE);
        run(&mut format)?;
        let data = data.map(|fs| data_disk(&place, fs)).transpose()?;
        Ok(Disk {
            kernel,
            initramfs,
            image,
            data,
        })
    }
}

/// Has systemd run the script, and little else.
fn systemd(root: &Path) -> Result<()> {
    let units = root.join("etc/systemd/system");
    write(&units.join("checks.service"), UNIT)?;
    write(
        &root.join("etc/modules-load.d/guest.conf"),
        "overlay\nbridge\nveth\nbr_netfilter\nvirtio_net\n",
    )?;
    // No console to log in at: nobody is there, and it costs seconds under emulation.
    for unit in [
        "getty@tty1.service",
        "serial-getty@ttyS0.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
    ] {
        link("/dev/null", &units.join(unit))?;
    }
    link(
        "../checks.service",
        &units.join("multi-user.target.wants/checks.service"),
    )
}

const UNIT: &str = "[Unit]
Description=checks of the container engine
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/root/script.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Environment=HOME=/root
ExecStopPost=/bin/systemctl poweroff --force
";

/// The directory of a Debian of this machine's release.
fn debian(place: &Path) -> Result<PathBuf> {
    let (root, stamp) = (place.join("root"), place.join("root.made"));
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == PACKAGES) {
        return Ok(root);
    }
    let _ = std::fs::remove_dir_all(&root);
    let release = std::fs::read_to_string("/etc/os-release").map_err(|e| format!("read /etc/os-release: {e}"))?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or("/etc/os-release names no VERSION_CODENAME: the guest is made from this machine's Debian")?;
    println!("making a Debian {suite} for the guest");
    let mirror = mirror(suite)?;
    let bootstrap = || {
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]);
        run(debootstrap.arg(&root).arg(&mirror).stdout(std::process::Stdio::null()))
    };
    // It asks a mirror once for each file, and gives up where that does not answer.
    let mut made = bootstrap();
    for _ in 0..2 {
        if let Err(why) = &made {
            println!("{why}: once more");
            let _ = std::fs::remove_dir_all(&root);
            std::thread::sleep(std::time::Duration::from_secs(10));
            made = bootstrap();
        }
    }
    made?;
    for spare in [
        "var/lib/apt/lists",
        "var/cache/apt",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ] {
        let _ = std::fs::remove_dir_all(root.join(spare));
    }
    write(&stamp, PACKAGES)?;
    Ok(root)
}

/// Where this machine's apt gets a suite from.
fn mirror(suite: &str) -> Result<String> {
    let format = "$(CODENAME) $(SUITE) $(REPO_URI)";
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let found = targets.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words.len() == 3 && (words[0] == suite || words[1] == suite)).then(|| words[2].to_owned())
    });
    found.ok_or_else(|| format!("this machine's apt has no source for {suite}: run `apt-get update`"))
}

/// A fresh disk with one file system.
fn data_disk(place: &Path, fs: &str) -> Result<(PathBuf, String)> {
    let image = place.join("data");
    let _ = std::fs::remove_file(&image);
    let sized = std::fs::File::create(&image).and_then(|file| file.set_len(DATA_SIZE));
    sized.map_err(|e| format!("make {}: {e}", image.display()))?;
    let make = sbin(&format!("mkfs.{fs}"));
    run(Command::new(make).arg(&image).stdout(std::process::Stdio::null()))?;
    Ok((image, fs.to_owned()))
}

/// The kernel's file and version, and where its modules lie, of a package that depends on the newest one.
fn kernel(place: &Path, newest: &str) -> Result<(PathBuf, String, PathBuf)> {
    let depends = output(Command::new("apt-cache").args(["depends", newest]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or_else(|| format!("{newest} depends on no kernel: run `apt-get update`"))?;
    let version = package.trim_start_matches("linux-image-").to_owned();
    let files = place.join(match newest {
        KERNEL => "kernel",
        _ => "whole-kernel",
    });
    let vmlinuz = files.join("boot").join(format!("vmlinuz-{version}"));
    if !vmlinuz.exists() {
        let _ = std::fs::remove_dir_all(&files);
        std::fs::create_dir_all(&files).map_err(|e| format!("make {}: {e}", files.display()))?;
        let mut apt = Command::new("apt-get");
        run(apt.current_dir(&files).args(crate::apt::RETRIES).args([
            "-q",
            "-o",
            "APT::Sandbox::User=",
            "download",
            package,
        ]))?;
        for entry in std::fs::read_dir(&files).map_err(|e| format!("list {}: {e}", files.display()))? {
            let deb = entry.map_err(|e| format!("list {}: {e}", files.display()))?.path();
            run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&files))?;
            std::fs::remove_file(&deb).map_err(|e| format!("remove {}: {e}", deb.display()))?;
        }
        run(Command::new(sbin("depmod")).arg("-b").arg(&files).arg(&version))?;
    }
    Ok((vmlinuz, version, files))
}

/// Has a kernel's modules in the guest's root.
fn copy_modules(tree: &Path, version: &str, root: &Path) -> Result<()> {
    let modules = root.join("usr/lib/modules").join(version);
    if !modules.exists() {
        std::fs::create_dir_all(root.join("usr/lib/modules"))
            .map_err(|e| format!("make the modules' directory: {e}"))?;
        let from = tree.join("lib/modules").join(version);
        run(Command::new("cp").arg("-a").arg(from).arg(&modules))?;
    }
    Ok(())
}

/// A first file system that loads the disk's drivers, mounts it, and goes on there.
fn initramfs(place: &Path, (tree, version): (&Path, &str), modules: &[&str], first: &str) -> Result<PathBuf> {
    let stage = place.join("initramfs");
    let _ = std::fs::remove_dir_all(&stage);
    for directory in ["bin", "dev", "proc", "sys", "root"] {
        let path = stage.join(directory);
        std::fs::create_dir_all(&path).map_err(|e| format!("make {}: {e}", path.display()))?;
    }
    copy(
        &which("busybox").ok_or("busybox-static is not installed")?,
        &stage.join("bin/busybox"),
        0o755,
    )?;
    let mut load = String::new();
    for module in modules {
        let mut command = Command::new(sbin("modprobe"));
        command
            .arg("-d")
            .arg(tree)
            .args(["-S", version, "--show-depends", module]);
        for line in output(&mut command)?.lines() {
            let Some(file) = line.strip_prefix("insmod ").map(str::trim) else {
                continue;
            };
            let from = Path::new(file);
            let name = from
                .file_name()
                .ok_or_else(|| format!("modprobe names no file: {line}"))?;
            copy(from, &stage.join("modules").join(name), 0o644)?;
            // One that is loaded already says so, which is fine.
            load.push_str(&format!(
                "/bin/busybox insmod /modules/{} 2>/dev/null\n",
                name.to_string_lossy()
            ));
        }
    }
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n/bin/busybox mount -t proc proc /proc\n{load}\
         /bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox sh\n/bin/busybox umount /proc\n\
         /bin/busybox mount --move /dev /root/dev\nexec /bin/busybox switch_root /root {first}\n"
    );
    write(&stage.join("init"), init)?;
    let executable = std::fs::set_permissions(stage.join("init"), PermissionsExt::from_mode(0o755));
    executable.map_err(|e| format!("make the guest's init executable: {e}"))?;
    let file = place.join("initramfs.cpio");
    let pack = "find . | cpio --quiet -o -H newc > ../initramfs.cpio";
    run(Command::new("sh").current_dir(&stage).args(["-c", pack]))?;
    Ok(file)
}

fn sbin(name: &str) -> PathBuf {
    which(name).unwrap_or_else(|| PathBuf::from(name))
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = std::fs::read(from).map_err(|e| format!("read {}: {e}", from.display()))?;
    write(to, bytes)?;
    std::fs::set_permissions(to, PermissionsExt::from_mode(mode)).map_err(|e| format!("chmod {}: {e}", to.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("make {}: {e}", parent.display()))?;
    }
    let _ = std::fs::remove_file(path);
    std::os::unix::fs::symlink(target, path).map_err(|e| format!("link {}: {e}", path.display()))
}
