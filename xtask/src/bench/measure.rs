//! What a daemon with all its processes costs: CPU, memory, page cache by cgroup; writes by a disk of its own.

use crate::command::{Result, output, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup (v1: cpuacct, memory, blkio) made for one daemon; removed when dropped.
pub struct Cgroup {
    name: String,
}

impl Cgroup {
    pub fn make(memory_limit: Option<u64>) -> Result<Cgroup> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = Cgroup {
            name: format!("balena-bench-{}-{number}", std::process::id()),
        };
        for directory in cgroup.directories() {
            fs::create_dir(&directory).map_err(|e| {
                format!(
                    "make {}: {e}: figures are taken by cgroup v1's cpuacct, memory and blkio controllers",
                    directory.display()
                )
            })?;
        }
        if let Some(limit) = memory_limit {
            let file = cgroup.at("memory").join("memory.limit_in_bytes");
            fs::write(&file, limit.to_string()).map_err(|e| format!("write {}: {e}", file.display()))?;
        }
        Ok(cgroup)
    }

    fn at(&self, controller: &str) -> PathBuf {
        Path::new(ROOT).join(controller).join(&self.name)
    }

    pub fn directories(&self) -> Vec<PathBuf> {
        vec![self.at("cpuacct"), self.at("memory"), self.at("blkio")]
    }

    /// A command that is one of its processes from the first; its arguments are a program and what that gets.
    pub fn command(&self) -> Command {
        let join = |directory: PathBuf| format!("echo $$ > {}/cgroup.procs && ", directory.display());
        let join: String = self.directories().into_iter().map(join).collect();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{join} exec \"$@\""), "sh"]);
        command
    }

    /// Has its processes read no more than so many bytes a second from a disk.
    pub fn limit_reads(&self, disk: &Disk, bytes: u64) -> Result<()> {
        let file = format!("/sys/block/{}/dev", disk.device.trim_start_matches("/dev/"));
        let number = fs::read_to_string(&file).map_err(|e| format!("read {file}: {e}"))?;
        let file = self.at("blkio").join("blkio.throttle.read_bps_device");
        fs::write(&file, format!("{} {bytes}", number.trim())).map_err(|e| format!("write {}: {e}", file.display()))
    }

    /// CPU used so far by all that ever ran in it, in seconds.
    pub fn cpu(&self) -> Result<f64> {
        let file = self.at("cpuacct").join("cpuacct.usage");
        let text = fs::read_to_string(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
        let nanoseconds: f64 = text
            .trim()
            .parse()
            .map_err(|e| format!("read {}: {e}", file.display()))?;
        Ok(nanoseconds / 1e9)
    }

    /// Bytes of page cache that it is charged for.
    pub fn cache(&self) -> f64 {
        let text = fs::read_to_string(self.at("memory").join("memory.stat")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("cache "));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    pub fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.at("memory").join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in self.directories() {
            // A process that ends leaves its cgroup a moment later.
            tests::client::within(Duration::from_secs(3), || fs::remove_dir(&directory).is_ok());
        }
    }
}

/// A process's memory, in bytes, from `smaps_rollup`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub resident: f64,
    pub anonymous: f64,
    /// Resident less clean pages that another process has too.
    pub own: f64,
}

impl Memory {
    pub fn of(pid: u32) -> Memory {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes: f64 = line
                .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
                .unwrap_or(0.0);
            kilobytes * 1024.0
        };
        Memory {
            resident: field("Rss"),
            anonymous: field("Anonymous"),
            own: field("Rss") - field("Shared_Clean"),
        }
    }

    pub fn of_all(pids: &[u32]) -> Memory {
        pids.iter()
            .map(|pid| Memory::of(*pid))
            .fold(Memory::default(), |sum, one| Memory {
                resident: sum.resident + one.resident,
                anonymous: sum.anonymous + one.anonymous,
                own: sum.own + one.own,
            })
    }
}

/// Peaks seen while something goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peaks {
    pub cache: f64,
    pub resident: f64,
    pub anonymous: f64,
    pub temporary: f64,
}

/// Looks every few milliseconds while `work` runs. `temporary` says how many bytes of passing files there are.
pub fn watch<T>(cgroup: &Cgroup, temporary: impl Fn() -> f64 + Sync, work: impl FnOnce() -> T) -> (T, Peaks) {
    let (peaks, done) = (Mutex::new(Peaks::default()), AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let memory = Memory::of_all(&cgroup.processes());
                let (cache, temporary) = (cgroup.cache(), temporary());
                let mut peaks = peaks.lock().expect("nobody panics with it");
                peaks.cache = peaks.cache.max(cache);
                peaks.resident = peaks.resident.max(memory.resident);
                peaks.anonymous = peaks.anonymous.max(memory.anonymous);
                peaks.temporary = peaks.temporary.max(temporary);
                drop(peaks);
                std::thread::sleep(Duration::from_millis(25));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    });
    (result, peaks.into_inner().expect("nobody panics with it"))
}

/// A fresh ext4 on a loop device: nothing else writes to it, and no earlier run has used its inodes.
pub struct Disk {
    dir: TempDir,
    device: String,
}

impl Disk {
    pub fn make(bytes: u64) -> Result<Disk> {
        let dir = tempfile::tempdir().map_err(|e| format!("make a directory: {e}"))?;
        let (file, at) = (dir.path().join("disk"), dir.path().join("at"));
        let made = fs::File::create(&file)
            .and_then(|f| f.set_len(bytes))
            .and_then(|()| fs::create_dir(&at));
        made.map_err(|e| format!("make {}: {e}", file.display()))?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&file))?;
        let device = output(Command::new("losetup").args(["--find", "--show"]).arg(&file))?
            .trim()
            .to_owned();
        let disk = Disk { dir, device };
        run(Command::new("mount").arg(&disk.device).arg(&at))?;
        Ok(disk)
    }

    pub fn at(&self) -> PathBuf {
        self.dir.path().join("at")
    }

    /// Bytes written to the device so far.
    pub fn written(&self) -> Result<f64> {
        Ok(self.count(6)? * 512.0)
    }

    /// Bytes read from the device so far.
    pub fn read(&self) -> Result<f64> {
        Ok(self.count(2)? * 512.0)
    }

    /// Write requests to the device so far.
    pub fn requests(&self) -> Result<f64> {
        self.count(4)
    }

    /// Bytes in ext4's journal so far, to a block for each transaction; nothing on a file system without.
    pub fn journaled(&self) -> Option<f64> {
        let name = self.device.trim_start_matches("/dev/");
        let text = fs::read_to_string(format!("/proc/fs/jbd2/{name}-8/info")).ok()?;
        let number = |what: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.contains(what))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(number(" transactions (")? * number("logged blocks per transaction")? * 4096.0)
    }

    /// Flushes of the device so far.
    pub fn flushes(&self) -> Result<f64> {
        self.count(15)
    }

    /// A number of the kernel's (Documentation/block/stat.rst), counted from 0.
    fn count(&self, number: usize) -> Result<f64> {
        let name = self.device.trim_start_matches("/dev/");
        let file = format!("/sys/block/{name}/stat");
        let text = fs::read_to_string(&file).map_err(|e| format!("read {file}: {e}"))?;
        let word = text.split_whitespace().nth(number);
        word.and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("no number {number} in {file}"))
    }

    /// Has the kernel write back as on a machine where `bytes` of dirty pages are many; false on kernels before 6.2.
    pub fn limit_dirty(&self, bytes: u64) -> Result<bool> {
        let name = self.device.trim_start_matches("/dev/");
        let settings = Path::new("/sys/block").join(name).join("bdi");
        for (file, value) in [("strict_limit", 1), ("max_bytes", bytes)] {
            let file = settings.join(file);
            if !file.exists() {
                return Ok(false);
            }
            fs::write(&file, value.to_string()).map_err(|e| format!("write {}: {e}", file.display()))?;
        }
        Ok(true)
    }

    /// Brings everything to the device, and forgets what is kept of the device itself; files' pages stay.
    pub fn forget(&self) -> Result<()> {
        self.sync()?;
        run(Command::new("blockdev").arg("--flushbufs").arg(&self.device))?;
        uncache(&self.dir.path().join("disk"))
    }

    /// Brings everything to the device.
    pub fn sync(&self) -> Result<()> {
        run(Command::new("sync").arg("-f").arg(self.at()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at()).status();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// Bytes of files below a directory, less what the named entries of it have.
pub fn bytes_below(directory: &Path, without: &[&str]) -> f64 {
    let mut sum = 0.0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if without.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        match entry.metadata() {
            Ok(data) if data.is_dir() => sum += bytes_below(&entry.path(), &[]),
            Ok(data) => sum += data.len() as f64,
            Err(_) => {}
        }
    }
    sum
}

/// Brings a file to its device and out of memory, and so out of the account of who read or wrote it.
pub fn uncache(file: &Path) -> Result<()> {
    run(Command::new("dd").arg(format!("of={}", file.display())).args([
        "oflag=nocache",
        "conv=notrunc,fdatasync",
        "count=0",
        "status=none",
    ]))
}

/// Bytes of the files below a directory that are in memory.
pub fn cached_below(directory: &Path) -> Result<f64> {
    let line = "find \"$1\" -type f -size +0 -print0 | xargs -0 fincore --bytes --noheadings --output RES";
    let all = output(Command::new("sh").args(["-c", line, "sh"]).arg(directory))?;
    Ok(all.lines().filter_map(|line| line.trim().parse::<f64>().ok()).sum())
}
