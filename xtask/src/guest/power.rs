//! `cargo xtask guest --power-cuts N`: a whole machine that updates, and loses power in the middle, N times.
//!
//! The guest's own kernel writes to a disk that keeps what reached it when qemu is killed: what was in the guest's memory
//! is gone, as is what was on its way. (What a disk of its own loses is the other campaign's business: `cargo xtask
//! crash`.) After each boot everything that was acknowledged must be whole or gone as it was acknowledged, and what was
//! under way whole or absent.

use super::disk::{Disk, Start};
use super::machine::{self, Machine};
use crate::command::{Result, checkout};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::Registry;
use tests::image::{self, Image, Layer, Tar};

/// A boot and a look at everything, under emulation beside other work.
const PATIENCE: Duration = Duration::from_secs(300);
/// The switch is thrown within this time after updates began.
const WINDOW: Duration = Duration::from_secs(25);

/// What must be found of a version.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Absent,
    Whole,
    /// Something was being done to it.
    Either,
}

pub fn main(cuts: u32, data: Option<&str>, binary: &Path) -> Result<()> {
    let registry = Registry::start().map_err(|e| format!("start a registry: {e}"))?;
    for version in ["1", "2"] {
        let image = image_of(version).map_err(|e| format!("make an image: {e}"))?;
        let pushed = registry.push("power", version, &image);
        pushed.map_err(|e| format!("push an image: {e}"))?;
    }
    let start = Start::Program {
        binary,
        script: &checkout().join("xtask/guest/power.sh"),
        data,
    };
    let disk = Disk::make(&start, &format!("{}:{}", machine::HOST, registry.port))?;
    let mut known = [Known::Absent; 2];
    // Without a clock: the same moments each time, as far as the machine allows.
    let mut chance = 0x9e37_79b9_7f4a_7c15u64;
    let (mut damaged, mut during) = (Vec::new(), 0);
    for cut in 1..=cuts {
        let mut guest = Machine::boot(&disk)?;
        let found = look(&mut guest, &known)?;
        for complaint in found {
            damaged.push(format!("after cut {}: {complaint}", cut - 1));
        }
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        let after = Duration::from_millis(1000 + (chance >> 33) % window);
        let doing = update(&mut guest, &mut known, after)?;
        println!("  cut {cut} after {} ms, while {doing}", after.as_millis());
        during += u32::from(doing.starts_with("pulling"));
        drop(guest);
    }
    let mut guest = Machine::boot(&disk)?;
    for complaint in look(&mut guest, &known)? {
        damaged.push(format!("after the last cut: {complaint}"));
    }
    println!(
        "power: {cuts} cuts, {during} of them in mid-pull, {} failures{}",
        damaged.len(),
        data.map_or(String::new(), |fs| format!(" on {fs}"))
    );
    match damaged.is_empty() {
        true => Ok(()),
        false => Err(damaged.join("\n")),
    }
}

/// A version of the image: busybox, and files that no other version has.
fn image_of(version: &str) -> std::io::Result<Image> {
    let mut state = version.bytes().fold(1u64, |state, byte| state * 31 + u64::from(byte));
    let mut tar = Tar::default().file("version", 0o644, version.as_bytes());
    for number in 0..400 {
        let content: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()
        })
        .take(4096)
        .flatten()
        .collect();
        tar = tar.file(&format!("data/{version}/{number:04}"), 0o644, &content);
    }
    let layers = vec![image::busybox_layer()?, Layer::gzip(&tar.bytes())];
    Ok(Image::new(
        layers,
        serde_json::json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}),
    ))
}

/// Waits for the guest's account of what it found, and compares.
fn look(guest: &mut Machine, known: &[Known; 2]) -> Result<Vec<String>> {
    let until = Instant::now() + PATIENCE;
    let mut complaints = Vec::new();
    loop {
        let Some(line) = guest.line(until)? else {
            return Err(format!("the guest did not say what it found:\n{}", guest.said()));
        };
        let Some((_, said)) = line.split_once("power: ") else {
            continue;
        };
        let words: Vec<&str> = said.split_whitespace().collect();
        match words[..] {
            ["found", "all"] => return Ok(complaints),
            ["found", version, ref state @ ..] => {
                let index = usize::from(version == "2");
                let state = state.join(" ");
                let right = match state.as_str() {
                    "whole" => known[index] != Known::Absent,
                    "absent" => known[index] != Known::Whole,
                    _ => false,
                };
                if !right {
                    complaints.push(format!(
                        "version {version} is {state}, and should be {:?}",
                        known[index]
                    ));
                }
            }
            ["log", ..] => println!("  {said}"),
            _ => {}
        }
    }
}

/// Lets the guest update for a while and keeps account; says what it was doing when the time was over.
fn update(guest: &mut Machine, known: &mut [Known; 2], time: Duration) -> Result<String> {
    let until = Instant::now() + time;
    let mut doing = "nothing".to_owned();
    while let Some(line) = guest.line(until)? {
        let Some((_, said)) = line.split_once("power: ") else {
            continue;
        };
        let words: Vec<&str> = said.split_whitespace().collect();
        let [verb, version] = words[..] else {
            return Err(format!("the guest said: {said}"));
        };
        let index = usize::from(version == "2");
        known[index] = match verb {
            "pulling" | "removing" => Known::Either,
            "pulled" => Known::Whole,
            _ => Known::Absent,
        };
        doing = said.trim().to_owned();
    }
    Ok(doing)
}
