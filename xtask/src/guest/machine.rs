//! One run of the guest under qemu: its console is read, and it ends with us.

use super::disk::Disk;
use crate::command::Result;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// This machine, as the guest's user network calls it.
pub const HOST: &str = "10.0.2.2";

/// A running qemu; killed when dropped.
pub struct Machine(Child);

impl Machine {
    /// Starts it. The disk is written to.
    pub fn boot(disk: &Disk) -> Result<Machine> {
        let mut qemu = Command::new("qemu-system-x86_64");
        // Not KVM: a /dev/kvm that is there may still not work, and one way everywhere is one way to understand.
        qemu.args(["-accel", "tcg,thread=multi"]);
        qemu.args([
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "768",
            "-display",
            "none",
            "-no-reboot",
            "-nodefaults",
        ]);
        qemu.args(["-serial", "stdio", "-nic", "user,model=virtio-net-pci"]);
        qemu.arg("-drive");
        qemu.arg(format!(
            "file={},format=raw,if=virtio,cache=unsafe",
            disk.image.display()
        ));
        qemu.arg("-kernel")
            .arg(&disk.kernel)
            .arg("-initrd")
            .arg(&disk.initramfs);
        qemu.args([
            "-append",
            "console=ttyS0 quiet panic=-1 systemd.unified_cgroup_hierarchy=1 mitigations=off",
        ]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = qemu.spawn().map_err(|e| format!("start qemu-system-x86_64: {e}"))?;
        Ok(Machine(child))
    }

    /// Reads the console until the guest powers off, and returns what it said; lines of checks are shown at once.
    pub fn run_to_end(mut self, limit: Duration) -> Result<String> {
        let console = self.0.stdout.take().ok_or("qemu has no console")?;
        let (send, lines) = channel();
        let reader = std::thread::spawn(move || {
            let mut console = BufReader::new(console);
            let mut line = Vec::new();
            while console.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let (start, mut said) = (Instant::now(), String::new());
        let ended = loop {
            match lines.recv_timeout(limit.saturating_sub(start.elapsed())) {
                Ok(line) => {
                    if let Some((_, check)) = line.split_once("check: ") {
                        println!("  {}", check.trim_end());
                    }
                    said.push_str(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        drop(self);
        let _ = reader.join();
        match ended {
            true => Ok(said),
            false => Err(format!(
                "the guest did not end within {} s; it said:\n{said}",
                limit.as_secs()
            )),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
