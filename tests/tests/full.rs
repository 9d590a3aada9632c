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
use tests::delta::Artifact;
use tests::double::{Double, Fault};
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
        Disk::of(DISK, 8192, "-O ^has_journal")
    }

    fn of(bytes: u64, inodes: u64, options: &str) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk { dir };
        fs::File::create(disk.path("disk")).unwrap().set_len(bytes).unwrap();
        fs::create_dir(disk.at()).unwrap();
        disk.sh(&format!(
            "mkfs.ext4 -q -m 0 -N {inodes} {options} disk && mount -o loop disk at"
        ));
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
        // Blocks of 1 KiB leave odd ones behind; of 4 KiB nothing is left, and nothing is reserved for root.
        for (options, is_full) in [("-O ^has_journal", false), ("-b 4096", true)] {
            let disk = Disk::of(DISK, 8192, options);
            let options = Options {
                binary: g.binary.clone(),
                data_root: Some(disk.at().join("root")),
                ..Options::default()
            };
            let daemon = Daemon::start(Kind::Ours, options).unwrap();
            let docker = daemon.docker();
            docker.ok(&["pull", "-q", &g.busybox]);
            docker.ok(&["tag", &g.busybox, "other"]);
            disk.leave(0);
            if is_full {
                let ran = docker.run(&["tag", "other", "third"]);
                assert!(ran.code != 0, "there is room for one name more");
            }
            docker.ok(&["rmi", "other"]);
            docker.ok(&["rmi", &g.busybox]);
            assert_eq!(docker.ok(&["images", "-aq"]), "");
        }
    });
}

/// A work on a file system that may be too small for it: it makes `made` and all of it is good, or it says why not and
/// leaves everything as it was.
fn whole_or_nothing(disk: &Disk, daemon: &Daemon, made: &str, about: &str, ran: impl FnOnce(&Client) -> Ran) -> bool {
    let docker = daemon.docker();
    let root = daemon.data_root();
    let before = tree(&root);
    // The client's own order of one image's names is another each time.
    let names = || -> BTreeSet<String> {
        let all = docker.ok(&["images", "-a", "--no-trunc"]);
        all.lines().map(str::to_owned).collect()
    };
    let named = names();
    let ran = ran(&docker);
    if ran.code == 0 {
        let file = disk.path("saved").display().to_string();
        let saved = docker.run(&["save", "-o", &file, made]);
        assert_eq!(saved.code, 0, "{about}: {made}: {}", saved.err);
        return true;
    }
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("no space left on device"), "{about}: {made}: {said}");
    assert!(said.contains(" free"), "{about}: {made}: how much there is: {said}");
    let same = within(Duration::from_secs(5), || tree(&root) == before);
    let now = tree(&root);
    let differ: Vec<_> = now.symmetric_difference(&before).collect();
    assert!(same, "{about}: {made}: {differ:?}");
    assert_eq!(names(), named, "{about}: {made}");
    false
}

/// File systems from one that holds next to nothing to one that holds all, with few inodes and with many: on each, all
/// works one after the other, so that they meet it as empty, half full and full.
#[test]
fn whatever_the_size_of_the_device() {
    ground::run(|g| {
        let sample = sample();
        let pulled = g.registry.push("sample", "1", &sample).unwrap();
        let mut changed = noise(9999, 3_000_000);
        changed[1_000_000..1_000_008].copy_from_slice(b"a change");
        let later = Layer::gzip(
            &Tar::default()
                .file("large", 0o644, &changed)
                .file("more", 0o644, &noise(7, 400_000))
                .bytes(),
        );
        let delta = tests::delta::between(&[&sample.layers[0]], &later);
        let later = Image::new(vec![later], json!({"Cmd": ["later"]}));
        let artifact = Artifact::new(&later, &[delta]);
        let (mut good, mut full, mut random) = (0, 0, 12_345u64);
        for number in 0..14 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bytes = (9 << 20) + number % 7 * (3 << 20) + (((random >> 33) % 512) << 12);
            // Every other one has so few inodes that these are what is used up.
            let inodes = if number % 2 == 0 {
                4096
            } else {
                80 + (random >> 45) % 700
            };
            let about = format!("{bytes} bytes, {inodes} inodes");
            let disk = Disk::of(bytes, inodes, "-b 4096");
            let options = Options {
                binary: g.binary.clone(),
                data_root: Some(disk.at().join("root")),
                ..Options::default()
            };
            let daemon = Daemon::start(Kind::Ours, options).unwrap();
            let archive = disk.path("archive");
            fs::write(&archive, sample.docker_archive("loaded:1")).unwrap();
            let archive = archive.display().to_string();
            let double = Double::with_deltas(later.clone(), vec![artifact.clone()], Fault::None).unwrap();
            let mut made = Vec::new();
            let mut tried = |name: &str, work: &dyn Fn(&Client) -> Ran| {
                let is_good = whole_or_nothing(&disk, &daemon, name, &about, work);
                if is_good {
                    made.push(name.to_owned());
                    good += 1;
                } else {
                    full += 1;
                }
                is_good
            };
            tried(&g.busybox, &|docker| docker.run(&["pull", "-q", &g.busybox]));
            let loaded = tried("loaded:1", &|docker| docker.run(&["load", "-q", "-i", &archive]));
            let is_there = tried(&pulled, &|docker| docker.run(&["pull", "-q", &pulled])) || loaded;
            let delta = if is_there { "--delta=only" } else { "--delta=auto" };
            tried(&double.reference(), &|_| {
                daemon.cli().run(&["pull", "-q", delta, &double.reference()])
            });
            let docker = daemon.docker();
            let content = disk.path("content");
            fs::write(&content, noise(5, 700_000)).unwrap();
            let copied = docker.run(&["create", "--name", "changed", &g.busybox]).code == 0
                && docker
                    .run(&["cp", &content.display().to_string(), "changed:/content"])
                    .code
                    == 0;
            if copied {
                tried("committed:1", &|docker| {
                    docker.run(&["commit", "changed", "committed:1"])
                });
            }
            let _ = docker.run(&["rm", "-f", "changed"]);
            let verified = daemon.cli().run(&["image", "verify", "--deep", "--all"]);
            assert_eq!(verified.code, 0, "{about}: {}{}", verified.out, verified.err);
            for name in made.iter().rev() {
                docker.ok(&["rmi", name]);
            }
            assert_eq!(docker.ok(&["images", "-aq"]), "", "{about}");
            println!("{about}: made {made:?}");
        }
        println!("{good} times good, {full} times full");
        assert!(good > 10 && full > 10, "{good} times good, {full} times full");
    });
}
