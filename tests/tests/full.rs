//! A device that fills up at any point of whatever makes an image: all is as it was, and good when there is room again.

use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tests::client::{Client, Ran, within};
use tests::daemon::Options;
use tests::image::{Layer, Tar};
use tests::{Daemon, Image, Kind, ground};

const DISK: u64 = 40 << 20;
/// Room that is certainly enough for each of the works.
const ENOUGH: u64 = 9 << 20;
/// The last of it is gone through block by block, the rest in larger steps.
const FINE: u64 = 64 << 10;
const STEP: u64 = 288 << 10;

/// A small file system, and a file that takes the room away.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn make() -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk { dir };
        fs::File::create(disk.path("disk")).unwrap().set_len(DISK).unwrap();
        fs::create_dir(disk.at()).unwrap();
        disk.sh("mkfs.ext4 -q -m 0 -N 8192 -O ^has_journal disk && mount -o loop disk at");
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self) -> PathBuf {
        self.path("at")
    }

    fn sh(&self, line: &str) {
        let status = Command::new("sh")
            .args(["-c", line])
            .current_dir(self.dir.path())
            .status();
        assert!(status.unwrap().success(), "{line}");
    }

    fn free(&self) -> u64 {
        let free = rustix::fs::statvfs(self.at()).unwrap();
        free.f_bavail * free.f_frsize
    }

    /// Leaves so much room.
    fn leave(&self, bytes: u64) {
        self.release();
        // What a file takes besides its blocks is found out by the last of them.
        let most = self.free().saturating_sub(bytes + 65_536);
        if most > 0 {
            self.sh(&format!("fallocate -l {most} at/ballast"));
        }
        let mut rest = fs::File::create(self.at().join("rest")).unwrap();
        while self.free() > bytes && rest.write_all(&[1; 4096]).and_then(|()| rest.sync_data()).is_ok() {}
    }

    fn release(&self) {
        for name in ["ballast", "rest"] {
            let _ = fs::remove_file(self.at().join(name));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at()).status();
    }
}

/// Everything below a directory, by name, but the notes of which blob a layer came in: they outlive it, as Docker's do.
fn tree(directory: &Path) -> BTreeSet<PathBuf> {
    fn walk(directory: &Path, into: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name() == "distribution" {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), into);
            }
            into.insert(entry.path());
        }
    }
    let mut all = BTreeSet::new();
    walk(directory, &mut all);
    all
}

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

/// Two layers, of large files and of many small ones.
fn sample() -> Image {
    let mut many = Tar::default();
    for number in 0..200 {
        many = many.file(&format!("many/{number}"), 0o644, &noise(number, 300));
    }
    let large = Tar::default().file("large", 0o644, &noise(9999, 3_000_000));
    let layers = vec![Layer::gzip(&large.bytes()), Layer::gzip(&many.bytes())];
    Image::new(layers, json!({"Cmd": ["true"]}))
}

/// Does a work with ever less room; it makes `made`, or leaves all as it was.
fn at_each_point(disk: &Disk, daemon: &Daemon, made: &str, work: &dyn Fn(&Client) -> Ran) {
    let docker = daemon.docker();
    let root = daemon.data_root();
    let before = tree(&root);
    let names = || {
        docker.ok(&[
            "images",
            "-a",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Repository}}:{{.Tag}}",
        ])
    };
    let named = names();
    let coarse = (0..ENOUGH / STEP).map(|step| ENOUGH - step * STEP);
    let fine = (0..FINE / 4096).map(|step| FINE - step * 4096);
    let (mut good, mut full) = (0, 0);
    for room in coarse.chain(fine).chain([0]) {
        disk.leave(room);
        let ran = work(&docker);
        if ran.code == 0 {
            good += 1;
            // What is said to be there is whole, to its last byte.
            disk.release();
            let file = disk.path("saved").display().to_string();
            let saved = docker.run(&["save", "-o", &file, made]);
            assert_eq!(saved.code, 0, "{made} with {room} bytes left: {}", saved.err);
            docker.ok(&["rmi", made]);
        } else {
            full += 1;
            let said = format!("{}{}", ran.out, ran.err);
            assert!(
                said.contains("no space left on device"),
                "{made} with {room} bytes left: {said}"
            );
        }
        let same = within(Duration::from_secs(5), || tree(&root) == before);
        let now = tree(&root);
        let differ: Vec<_> = now.symmetric_difference(&before).collect();
        assert!(same, "{made} with {room} bytes left, {ran:?}: {differ:?}");
        assert_eq!(names(), named, "{made} with {room} bytes left");
    }
    assert!(good > 0 && full > 0, "{made}: {good} times good, {full} times full");
    disk.release();
    // All of it still works.
    assert_eq!(work(&docker).code, 0);
    docker.ok(&["rmi", made]);
}

#[test]
fn all_is_as_it_was() {
    ground::run(|g| {
        let disk = Disk::make();
        let options = Options {
            binary: g.binary.clone(),
            data_root: Some(disk.at().join("root")),
            ..Options::default()
        };
        let daemon = Daemon::start(Kind::Ours, options).unwrap();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&[
            "run",
            "--name",
            "changed",
            &g.busybox,
            "sh",
            "-c",
            "dd if=/dev/urandom of=/f bs=1M count=2 && mkdir /d && touch /d/a /d/b",
        ]);

        let sample = sample();
        let archive = disk.path("archive");
        fs::write(&archive, sample.docker_archive("loaded:1")).unwrap();
        let archive = archive.display().to_string();
        at_each_point(&disk, &daemon, "loaded:1", &|docker| {
            docker.run(&["load", "-q", "-i", &archive])
        });

        let pulled = g.registry.push("sample", "1", &sample).unwrap();
        at_each_point(&disk, &daemon, &pulled, &|docker| docker.run(&["pull", "-q", &pulled]));

        let tar = disk.path("tar");
        fs::write(&tar, sample.layers[0].tar()).unwrap();
        let tar = tar.display().to_string();
        at_each_point(&disk, &daemon, "imported:1", &|docker| {
            docker.run(&["import", &tar, "imported:1"])
        });

        at_each_point(&disk, &daemon, "committed:1", &|docker| {
            docker.run(&["commit", "changed", "committed:1"])
        });

        assert_eq!(docker.ok(&["run", "--rm", &g.busybox, "echo", "whole"]), "whole");
    });
}

#[test]
fn a_full_device_can_be_emptied() {
    ground::run(|g| {
        let disk = Disk::make();
        let options = Options {
            binary: g.binary.clone(),
            data_root: Some(disk.at().join("root")),
            ..Options::default()
        };
        let daemon = Daemon::start(Kind::Ours, options).unwrap();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        disk.leave(0);
        docker.ok(&["rmi", &g.busybox]);
        assert_eq!(docker.ok(&["images", "-aq"]), "");
    });
}
