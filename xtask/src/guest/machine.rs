//! One run of the guest under qemu: its console is read, and it ends with us.

use super::disk::Disk;
use crate::command::Result;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// This machine, as the guest's user network calls it.
pub const HOST: &str = "10.0.2.2";

/// A running qemu; killed when dropped, which is how its power is cut.
pub struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    said: String,
}

impl Machine {
    /// Starts it. The disk is written to.
    pub fn boot(disk: &Disk) -> Result<Machine> {
        let mut qemu = Command::new("qemu-system-x86_64");
        // Not KVM: a /dev/kvm that is there may still not work, and one way everywhere is one way to understand.
        qemu.args(["-accel", "tcg,thread=multi"]);
        qemu.args(["-cpu", "max", "-smp", "2", "-m", "768"]);
        qemu.args(["-display", "none", "-no-reboot", "-nodefaults"]);
        qemu.args(["-serial", "stdio", "-nic", "user,model=virtio-net-pci"]);
        qemu.arg("-drive");
        // This machine keeps its power: what qemu was given is on the disk.
        qemu.arg(format!(
            "file={},format=raw,if=virtio,cache=unsafe",
            disk.image.display()
        ));
        let mut line = "console=ttyS0 quiet panic=-1 systemd.unified_cgroup_hierarchy=1 mitigations=off".to_owned();
        if let Some((data, fs)) = &disk.data {
            qemu.arg("-drive");
            qemu.arg(format!("file={},format=raw,if=virtio,cache=unsafe", data.display()));
            line.push_str(&format!(" data={fs}"));
        }
        qemu.arg("-kernel")
            .arg(&disk.kernel)
            .arg("-initrd")
            .arg(&disk.initramfs);
        qemu.arg("-append").arg(line);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut qemu = qemu.spawn().map_err(|e| format!("start qemu-system-x86_64: {e}"))?;
        let console = qemu.stdout.take().ok_or("qemu has no console")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut console = BufReader::new(console);
            let mut line = Vec::new();
            while console.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Ok(Machine {
            qemu,
            lines,
            said: String::new(),
        })
    }

    /// The next line of the console; none when the time is over. A guest that ends is an error.
    pub fn line(&mut self, until: Instant) -> Result<Option<String>> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.said.push_str(&line);
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(format!("the guest ended; it said:\n{}", self.said)),
        }
    }

    /// All that the console showed so far.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Reads the console until the guest powers off, and returns what it said; lines of checks are shown at once.
    pub fn run_to_end(mut self, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((_, check)) = line.split_once("check: ") {
                        println!("  {}", check.trim_end());
                    }
                    self.said.push_str(&line);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(std::mem::take(&mut self.said)),
                Err(RecvTimeoutError::Timeout) => {
                    let said = &self.said;
                    return Err(format!(
                        "the guest did not end within {} s; it said:\n{said}",
                        limit.as_secs()
                    ));
                }
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
