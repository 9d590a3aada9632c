//! What a campaign tries: which lives, on which file systems, with images of which size, and how many crashes of each.

use super::device::FileSystem;
use super::replay::Random;
use crate::command::Result;
use std::path::PathBuf;

pub const USAGE: &str = "usage: cargo xtask crash [--points N] [--fs ext4,xfs,btrfs,f2fs] [--size MB] [--seed N] [--jobs N] [--only OPERATION] [--keep DIR]";

/// Faults that each run must catch.
pub const KNOWN_BAD: [&str; 4] = ["no-data-sync", "record-first", "rename-without-sync", "files-first"];

pub struct Plan {
    pub points: usize,
    pub file_systems: Vec<FileSystem>,
    /// Megabytes of an image; without it a mixture.
    pub size: Option<u64>,
    pub seed: u64,
    pub jobs: usize,
    /// Only crashes during operations whose name has this in it.
    pub only: Option<String>,
    /// Where failing images are kept.
    pub keep: Option<PathBuf>,
}

/// One life on one device, and crashes in it.
#[derive(Clone, Debug)]
pub struct Shape {
    pub file_system: FileSystem,
    pub fault: Option<&'static str>,
    pub seed: u64,
    /// Of an image.
    pub bytes: u64,
    /// It crashed in the middle of a pull, and its second part, after that, is what is looked at.
    pub goes_on: bool,
    /// How many; with a fault as many as it takes.
    pub points: usize,
}

impl Shape {
    pub fn name(&self) -> String {
        let fault = self.fault.map(|fault| format!(", {fault}")).unwrap_or_default();
        let goes_on = if self.goes_on { ", going on after a crash" } else { "" };
        let name = self.file_system.name();
        format!("{name}, {} MB, seed {}{fault}{goes_on}", self.bytes >> 20, self.seed)
    }
}

impl Plan {
    pub fn parse(arguments: &[String]) -> Result<Plan> {
        // A point waits for the kernel as long as it computes: for mounts and flushes.
        let jobs = std::thread::available_parallelism().map_or(1, |n| n.get()) * 2;
        let mut plan = Plan {
            points: 1000,
            file_systems: FileSystem::ALL.to_vec(),
            size: None,
            seed: 1,
            jobs,
            only: None,
            keep: None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            let number = || value.parse::<u64>().map_err(|_| USAGE.to_owned());
            match word.as_str() {
                "--points" => plan.points = usize::try_from(number()?).map_err(|_| USAGE)?,
                "--size" => plan.size = Some(number()?.clamp(1, 500)),
                "--seed" => plan.seed = number()?,
                "--jobs" => plan.jobs = usize::try_from(number()?).map_err(|_| USAGE)?.max(1),
                "--only" => plan.only = Some(value.clone()),
                "--keep" => plan.keep = Some(value.into()),
                "--fs" => plan.file_systems = value.split(',').map(FileSystem::of_name).collect::<Result<_>>()?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(plan)
    }

    /// The largest image's bytes.
    pub fn largest(&self) -> u64 {
        self.size.unwrap_or(*SIZES.iter().max().unwrap_or(&1)) << 20
    }

    /// All lives, those with faults first.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut random = Random(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first file system has all the faults: that the campaign can fail is shown once in a run.
        let faults = KNOWN_BAD.iter().map(|&fault| Shape {
            file_system: self.file_systems[0],
            fault: Some(fault),
            seed: self.seed,
            bytes: 2 << 20,
            goes_on: false,
            points: 0,
        });
        let mut shapes: Vec<Shape> = faults.collect();
        let mut left = self.points;
        for number in 0.. {
            if left == 0 {
                break;
            }
            let size = self.size.unwrap_or_else(|| SIZES[random.below(SIZES.len())]);
            let points = left.min(points_of(size));
            left -= points;
            // Of four lives two are on the first file system, the one that devices have.
            let others = &self.file_systems[1..];
            let file_system = match number % 2 {
                1 if !others.is_empty() => others[number / 2 % others.len()],
                _ => self.file_systems[0],
            };
            shapes.push(Shape {
                file_system,
                fault: None,
                seed: self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64),
                bytes: size << 20,
                goes_on: random.below(4) == 0,
                points,
            });
        }
        shapes
    }
}

/// Megabytes of an image, as often as they are here: most of what can go wrong does not depend on it.
const SIZES: [u64; 10] = [1, 1, 1, 2, 2, 2, 3, 4, 8, 32];

/// Points of one life: enough of them that making it costs little.
fn points_of(megabytes: u64) -> usize {
    usize::try_from(400 / megabytes).unwrap_or(0).clamp(10, 100)
}
