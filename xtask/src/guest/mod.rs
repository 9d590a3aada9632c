//! `cargo xtask guest`: what this machine cannot show, in a machine of its own: systemd, cgroup v2, a power switch.
//!
//! A Debian that is made from packages boots under qemu's emulation; nothing of it touches this machine but files under
//! `target/guest`. The guest installs our Debian package and runs
//! `checks.sh`, each check of which says `ok` or `failed` on the guest's console.

mod disk;
mod machine;
mod power;

use crate::command::{Result, checkout};
use crate::{apt, binary, dist};
use disk::{Disk, Start};
use machine::Machine;
use std::time::Duration;
use tests::Registry;
use tests::image::{self, Image, Layer, Tar};

/// All checks together take about a minute under emulation; a guest that hangs must not hang us.
const LIMIT: Duration = Duration::from_secs(900);

/// `cargo xtask guest`: boots the guest, has it check, and reports; with `--power-cuts N`, cuts its power instead, with
/// `--fs FS` while the data root is on a disk of that file system. Needs
/// root, to make a Debian.
pub fn main(arguments: &[String]) -> Result<()> {
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number of cuts"));
    let cuts = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--power-cuts", cuts] => Some((number(cuts)?, None)),
        ["--power-cuts", cuts, "--fs", fs @ ("ext4" | "xfs" | "btrfs" | "f2fs")] => Some((number(cuts)?, Some(fs))),
        _ => return Err("guest takes nothing, or --power-cuts N, and with it --fs ext4, xfs, btrfs or f2fs".into()),
    };
    if !apt::is_root()? {
        return Err("the guest's disk is made by debootstrap, which wants root: run this as root".into());
    }
    apt::ensure(apt::GUEST)?;
    apt::ensure(apt::DEMO)?;
    match cuts {
        Some((cuts, fs)) => {
            if fs.is_some() {
                apt::ensure(apt::FILE_SYSTEMS)?;
            }
            power::main(cuts, fs, &binary::wanted()?)
        }
        None => checks(),
    }
}

fn checks() -> Result<()> {
    let (package, archive) = dist::packages_here()?;
    let registry = Registry::start().map_err(|e| format!("start a registry: {e}"))?;
    let image = checked_image().map_err(|e| format!("make an image: {e}"))?;
    let pushed = registry.push("guest/busybox", "1", &image);
    pushed.map_err(|e| format!("push an image: {e}"))?;
    let start = Start::Systemd {
        package: &package,
        archive: &archive,
        script: &checkout().join("xtask/guest/checks.sh"),
    };
    // The guest sees this machine's loopback at the address that qemu's user network gives it.
    let disk = Disk::make(&start, &format!("{}:{}/guest/busybox:1", machine::HOST, registry.port))?;
    let said = Machine::boot(&disk)?.run_to_end(LIMIT)?;
    report(&said)
}

/// Busybox, and a file that is large enough for a limit of memory to be felt.
fn checked_image() -> std::io::Result<Image> {
    let more = Tar::default().file("data/zeros", 0o644, &vec![0; 1 << 20]).bytes();
    let config = serde_json::json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    Ok(Image::new(vec![image::busybox_layer()?, Layer::gzip(&more)], config))
}

/// The lines of the checks among all that the console showed: `check: NAME: ok` or `check: NAME: failed: WHY`.
fn report(said: &str) -> Result<()> {
    let lines = said.lines().filter_map(|line| line.split_once("check: "));
    let (mut passed, mut failed) = (0, Vec::new());
    for (_, line) in lines {
        match line.trim_end().strip_suffix(": ok") {
            Some(_) => passed += 1,
            None => failed.push(line.trim_end().to_owned()),
        }
    }
    if !said.contains("checks: end") {
        let from = said.len().saturating_sub(4000);
        let tail: String = said.chars().skip(from).collect();
        return Err(format!("the guest did not come to the end of its checks:\n{tail}"));
    }
    println!("guest: {passed} passed, {} failed", failed.len());
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n")),
    }
}
