//! Block devices for the campaign: one that logs what it is told, and plain images, both mounted by the kernel.
//!
//! `qemu-storage-daemon` shows a file whose writes and flushes go through its `blklogwrites` driver; a loop device on
//! that file is the disk. Everything is in namespaces of the campaign's own and goes with them.

use crate::command::{Result, attempt, output, run, which};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A file system under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
    F2fs,
}

impl FileSystem {
    pub const ALL: [FileSystem; 4] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs, FileSystem::F2fs];

    pub fn of_name(name: &str) -> Result<FileSystem> {
        let all = FileSystem::ALL.into_iter();
        let mut found = all.filter(|file_system| file_system.name() == name);
        found
            .next()
            .ok_or_else(|| format!("unknown file system {name:?}: ext4, xfs, btrfs or f2fs"))
    }

    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
            FileSystem::F2fs => "f2fs",
        }
    }

    /// Says why it cannot be tried here, if it cannot.
    pub fn is_missing(self) -> Option<String> {
        let name = self.name();
        // A module may have to be loaded first; built in, or not there at all, that does nothing.
        let _ = attempt(Command::new("modprobe").args(["--quiet", name]));
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some(name)) {
            return Some(format!("this kernel has no {name}"));
        }
        let make = format!("mkfs.{name}");
        which(&make).is_none().then(|| format!("there is no {make}"))
    }

    /// Bytes of a device for so many bytes of images; the tools refuse smaller ones.
    pub fn device_size(self, images: u64) -> u64 {
        let least: u64 = match self {
            FileSystem::Ext4 => 64 << 20,
            FileSystem::F2fs => 128 << 20,
            FileSystem::Xfs => 304 << 20,
            FileSystem::Btrfs => 256 << 20,
        };
        (least + images * 6).next_multiple_of(1 << 20)
    }

    /// Makes one in a file, in sectors of 4 KiB, as the log has: nothing smaller can be torn off.
    pub fn make(self, path: &Path) -> Result<()> {
        let words: &[&str] = match self {
            // Everything written at once: what is left to be initialised later would be noise in the log. Nothing is
            // reserved, so that a device can be filled to the brim.
            FileSystem::Ext4 => &[
                "mkfs.ext4",
                "-q",
                "-b",
                "4096",
                "-m",
                "0",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0",
            ],
            FileSystem::Xfs => &["mkfs.xfs", "-q", "-f", "-s", "size=4096"],
            FileSystem::Btrfs => &["mkfs.btrfs", "-q", "-f", "-s", "4096"],
            FileSystem::F2fs => &["mkfs.f2fs", "-q", "-f", "-w", "4096"],
        };
        output(Command::new(words[0]).args(&words[1..]).arg(path)).map(drop)
    }

    /// Mounts an image file. The loop device goes with the mount, whatever ends that.
    pub fn mount(self, image: &Path, at: &Path) -> Result<Mounted> {
        let options = match self {
            FileSystem::Xfs => "loop,nouuid",
            FileSystem::Ext4 | FileSystem::Btrfs | FileSystem::F2fs => "loop,noatime",
        };
        output(
            Command::new("mount")
                .args(["-t", self.name(), "-o", options])
                .args([image, at]),
        )?;
        Ok(Mounted(at.to_owned()))
    }
}

/// A file system that is mounted until this goes.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn unmount(self) -> Result<()> {
        let at = self.0.clone();
        std::mem::forget(self);
        run(Command::new("umount").arg(&at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").args(["--lazy"]).arg(&self.0));
    }
}

/// An image file behind the logging driver.
pub struct Logged {
    daemon: Child,
    /// The file to put a loop device on.
    pub file: PathBuf,
    pub log: PathBuf,
}

impl Logged {
    pub fn start(image: &Path, directory: &Path) -> Result<Logged> {
        let (file, log) = (directory.join("device"), directory.join("log"));
        for path in [&file, &log] {
            File::create(path).map_err(|e| format!("create {}: {e}", path.display()))?;
        }
        let shown = |path: &Path| path.display().to_string();
        let daemon = Command::new("qemu-storage-daemon")
            .args([
                "--blockdev",
                &format!("driver=file,node-name=image,discard=unmap,filename={}", shown(image)),
            ])
            .args([
                "--blockdev",
                &format!("driver=file,node-name=log,filename={}", shown(&log)),
            ])
            .args([
                "--blockdev",
                "driver=blklogwrites,node-name=logged,file=image,log=log,log-sector-size=4096",
            ])
            .args([
                "--export",
                &format!(
                    "type=fuse,id=device,node-name=logged,writable=on,mountpoint={}",
                    shown(&file)
                ),
            ])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("qemu-storage-daemon: {e}"))?;
        let mut logged = Logged { daemon, file, log };
        let size = std::fs::metadata(image).map_err(|e| e.to_string())?.len();
        let patience = Instant::now();
        while std::fs::metadata(&logged.file).map_err(|e| e.to_string())?.len() != size {
            if let Ok(Some(status)) = logged.daemon.try_wait() {
                return Err(format!("qemu-storage-daemon ended: {status}"));
            }
            if patience.elapsed() > Duration::from_secs(20) {
                return Err("qemu-storage-daemon shows no device".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(logged)
    }

    /// Ends the daemon, which completes the log.
    pub fn finish(mut self) -> Result<PathBuf> {
        run(Command::new("kill").args(["-TERM", &self.daemon.id().to_string()]))?;
        self.daemon.wait().map_err(|e| format!("qemu-storage-daemon: {e}"))?;
        Ok(self.log.clone())
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
