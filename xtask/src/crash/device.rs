//! Block devices for the campaign: one that logs what it is told, and plain images, both mounted by the kernel.
//!
//! `qemu-storage-daemon` shows a file whose writes and flushes go through its `blklogwrites` driver; a loop device on
//! that file is the disk. Everything is in namespaces of the campaign's own and goes with them.

use crate::command::{Result, output, run};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A file system under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub fn of_name(name: &str) -> Result<FileSystem> {
        match name {
            "ext4" => Ok(FileSystem::Ext4),
            "xfs" => Ok(FileSystem::Xfs),
            "btrfs" => Ok(FileSystem::Btrfs),
            other => Err(format!("unknown file system {other:?}: ext4, xfs or btrfs")),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    /// Bytes of a device for so many bytes of images; the tools refuse smaller ones.
    pub fn device_size(self, images: u64) -> u64 {
        let least: u64 = match self {
            FileSystem::Ext4 => 64 << 20,
            FileSystem::Xfs => 304 << 20,
            FileSystem::Btrfs => 256 << 20,
        };
        (least + images * 6).next_multiple_of(1 << 20)
    }

    /// Makes one in a new file.
    pub fn make(self, path: &Path, size: u64) -> Result<()> {
        let file = File::create(path).map_err(|e| format!("create {}: {e}", path.display()))?;
        file.set_len(size)
            .map_err(|e| format!("set the size of {}: {e}", path.display()))?;
        let words: &[&str] = match self {
            // Everything written at once: what is left to be initialised later would be noise in the log.
            FileSystem::Ext4 => &[
                "mkfs.ext4",
                "-q",
                "-b",
                "4096",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0",
            ],
            FileSystem::Xfs => &["mkfs.xfs", "-q", "-s", "size=4096"],
            FileSystem::Btrfs => &["mkfs.btrfs", "-q"],
        };
        output(Command::new(words[0]).args(&words[1..]).arg(path)).map(drop)
    }

    /// Mounts an image file.
    pub fn mount(self, image: &Path, at: &Path) -> Result<Mounted> {
        let options = match self {
            FileSystem::Xfs => "nouuid",
            FileSystem::Ext4 | FileSystem::Btrfs => "noatime",
        };
        // The same sectors as the log's: nothing smaller can be torn off.
        let device = output(
            Command::new("losetup")
                .args(["--find", "--show", "--sector-size", "4096"])
                .arg(image),
        )?;
        let device = device.trim();
        let mounted = output(
            Command::new("mount")
                .args(["-t", self.name(), "-o", options, device])
                .arg(at),
        );
        // Detached now, a busy device goes with its last user: nothing has to be remembered.
        let detached = output(Command::new("losetup").args(["--detach", device]));
        mounted?;
        let mounted = Mounted(at.to_owned());
        detached?;
        Ok(mounted)
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
