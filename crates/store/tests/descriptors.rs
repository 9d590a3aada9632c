//! A process that may open few files unpacks many, and lets go of their pages all the same.
//!
//! In a file of its own: the limit is the whole process's.

mod common;

use common::{Root, Tar, root};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::Command;

#[test]
fn more_files_than_descriptors() {
    if !root() {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(160),
        ..limit
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut tar = Tar::new().dir("a b").dir("a b/deep");
    for number in 0..500 {
        tar = tar.file(&format!("a b/deep/{number}"), &"content".repeat(3000));
    }
    let at = Root::new();
    let layer = at.layer(None, &tar.done()).unwrap();
    let diff = at.diff(&layer);
    assert_eq!(std::fs::read_dir(diff.join("a b/deep")).unwrap().count(), 500);
    let told = Command::new("sh")
        .args(["-c", "fincore --bytes --noheadings --output RES \"$0\"/*"])
        .arg(diff.join("a b/deep"))
        .output()
        .unwrap();
    let resident: Vec<u64> = String::from_utf8_lossy(&told.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    if resident.len() != 500 {
        eprintln!("skipped: no fincore here");
        return;
    }
    if rustix::fs::statfs(&diff).unwrap().f_type == 0x0102_1994 {
        eprintln!("skipped: a tmpfs keeps everything in memory");
        return;
    }
    // Now and then the kernel holds on to a page.
    let kept = resident.iter().filter(|&&bytes| bytes > 0).count();
    assert!(kept < 50, "{kept} of 500 files are still in the page cache");
}
