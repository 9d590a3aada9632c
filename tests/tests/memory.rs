//! What hostile images cost in memory: the daemon's peak stays small whatever it is fed, and nothing is left.

use flate2::{Compression, write::GzEncoder};
use oci::tar::{Entry, Kind as EntryKind, Writer};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tests::client::Ran;
use tests::daemon::Options;
use tests::double::{Double, Fault};
use tests::image::{Layer, Tar};
use tests::{Daemon, Image, Kind, delta, ground, seekable};

/// Bytes of resident memory at its peak, beyond what the idle daemon had.
const BOUND: u64 = 32 << 20;

/// The daemon's peak while something is done, and before.
fn peak(daemon: &Daemon, work: impl FnOnce() -> Ran) -> (Ran, u64) {
    let status = || {
        let text = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    };
    // Has the kernel count the peak anew (proc(5)).
    fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5").unwrap();
    let before = status().0;
    let ran = work();
    (ran, status().1.saturating_sub(before))
}

/// A gzip stream made piece by piece: no test holds a bomb in memory.
fn gzip(write: impl FnOnce(&mut dyn Write)) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    write(&mut out);
    out.finish().unwrap()
}

/// An archive whose one layer is compressed already. The config does not name its diff ID: that is found out last.
fn archive(layer: &[u8], config: Option<Vec<u8>>) -> Vec<u8> {
    let diff = format!("sha256:{}", "00".repeat(32));
    let plain = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}});
    let config = config.unwrap_or_else(|| plain.to_string().into_bytes());
    let manifest = json!([{"Config": "config.json", "RepoTags": ["hostile:1"], "Layers": ["layer.tar"]}]).to_string();
    Tar::default()
        .file("manifest.json", 0o644, manifest.as_bytes())
        .file("config.json", 0o644, &config)
        .file("layer.tar", 0o644, layer)
        .bytes()
}

/// A small file system for the data root: a bomb must not fill the machine's.
fn with_daemon(g: &ground::Ground, megabytes: u64, work: impl FnOnce(&Daemon, &Path)) {
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("at");
    fs::create_dir(&at).unwrap();
    let size = format!("size={megabytes}m,nr_inodes=1500000");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        .arg(&at)
        .status();
    assert!(mounted.unwrap().success());
    let options = Options {
        binary: g.binary.clone(),
        data_root: Some(at.join("root")),
        ..Options::default()
    };
    let daemon = Daemon::start(Kind::Ours, options).unwrap();
    work(&daemon, place.path());
    drop(daemon);
    let _ = Command::new("umount").arg("-l").arg(&at).status();
}

fn load(daemon: &Daemon, place: &Path, bytes: &[u8]) -> (Ran, u64) {
    let file = place.join("archive");
    fs::write(&file, bytes).unwrap();
    let file = file.display().to_string();
    let layers = || fs::read_dir(daemon.data_root().join("overlay2")).unwrap().count();
    let before = layers();
    let (ran, peak) = peak(daemon, || daemon.docker().run(&["load", "-q", "-i", &file]));
    if ran.code != 0 {
        assert_eq!(layers(), before, "something is left");
    }
    (ran, peak)
}

/// A regular file's header alone.
fn header(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).start(entry).unwrap();
    assert_eq!(bytes.len(), 512);
    bytes
}

#[test]
fn bombs() {
    ground::run(|g| {
        with_daemon(g, 64, |daemon, place| {
            let zeros = vec![0; 1 << 20];
            let mut huge = Entry::new(EntryKind::Regular, "zeros");
            huge.size = 1 << 30;
            huge.mode = 0o644;
            let first = header(&huge);
            let bomb = gzip(|out| {
                out.write_all(&first).unwrap();
                for _ in 0..1024 {
                    out.write_all(&zeros).unwrap();
                }
            });
            let (ran, peak) = load(daemon, place, &archive(&bomb, None));
            assert!(ran.err.contains("no space left on device"), "{}{}", ran.out, ran.err);
            assert!(peak < BOUND, "a file of zeros: {peak} bytes");
            // Padding behind the archive is part of the layer, and of its tar-split.
            let padding = gzip(|out| {
                for _ in 0..128 {
                    out.write_all(&zeros).unwrap();
                }
            });
            let (ran, peak) = load(daemon, place, &archive(&padding, None));
            assert_ne!(ran.code, 0);
            assert!(peak < BOUND, "padding: {peak} bytes");
            assert_eq!(daemon.docker().ok(&["images", "-aq"]), "");
        });
    });
}

#[test]
fn a_million_files() {
    ground::run(|g| {
        with_daemon(g, 4096, |daemon, place| {
            // Not optimized, the daemon would take minutes; what it needs is in proportion.
            let files = match std::env::var_os("BALENA_BINARY") {
                Some(_) => 1_000_000,
                None => 200_000,
            };
            let layer = gzip(|out| {
                for number in 0..files {
                    let name = format!("{}/{number}", number / 10_000);
                    out.write_all(&header(&Entry::new(EntryKind::Regular, name.as_str())))
                        .unwrap();
                }
            });
            let (ran, peak) = load(daemon, place, &archive(&layer, None));
            assert!(ran.err.contains("invalid diffID"), "{}{}", ran.out, ran.err);
            println!("{files} files: {peak} bytes");
            assert!(peak < BOUND, "{files} files: {peak} bytes");
        });
    });
}

#[test]
fn names_and_links() {
    ground::run(|g| {
        with_daemon(g, 64, |daemon, place| {
            let longest = "n".repeat(255);
            let deep = format!("{}/", "d".repeat(200)).repeat(19);
            let tar = Tar::default()
                .file(&longest, 0o644, b"x")
                .file(&format!("{deep}file"), 0o644, b"x")
                .symlink("a", "b")
                .symlink("b", "a")
                .symlink("self", "self")
                .symlink("up", "../../../..")
                .bytes();
            let image = Image::new(vec![Layer::plain(&tar)], json!({}));
            let (ran, peak) = load(daemon, place, &image.docker_archive("names:1"));
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert!(peak < BOUND, "{peak} bytes");
            for (what, tar) in [
                (
                    "a name of 256 bytes",
                    Tar::default().file(&"n".repeat(256), 0o644, b"x"),
                ),
                (
                    "a path of 4,200 bytes",
                    Tar::default().file(&format!("{deep}{deep}"), 0o644, b"x"),
                ),
                (
                    "a file below a link that goes in circles",
                    Tar::default()
                        .symlink("a", "b")
                        .symlink("b", "a")
                        .file("a/x", 0o644, b"x"),
                ),
                ("a hard link to itself", Tar::default().hard_link("a", "a")),
            ] {
                let image = Image::new(vec![Layer::plain(&tar.bytes())], json!({}));
                let (ran, peak) = load(daemon, place, &image.docker_archive("refused:1"));
                assert_ne!(ran.code, 0, "{what}: {}", ran.out);
                assert!(peak < BOUND, "{what}: {peak} bytes");
            }
            assert_eq!(daemon.docker().ok(&["images", "-q"]).lines().count(), 1);
        });
    });
}

#[test]
fn documents_that_grow_in_memory() {
    ground::run(|g| {
        with_daemon(g, 64, |daemon, place| {
            let many = |item: &str, count: usize| vec![item; count].join(",");
            let labels: Vec<String> = (0..400_000).map(|n| format!("\"{n}\":\"\"")).collect();
            for (what, config) in [
                (
                    "history",
                    format!("{{\"os\":\"linux\",\"history\":[{}]}}", many("{}", 1_300_000)),
                ),
                (
                    "diff IDs",
                    format!(
                        "{{\"os\":\"linux\",\"rootfs\":{{\"diff_ids\":[{}]}}}}",
                        many("\"\"", 1_300_000)
                    ),
                ),
                (
                    "environment",
                    format!(
                        "{{\"os\":\"linux\",\"config\":{{\"Env\":[{}]}}}}",
                        many("\"\"", 1_300_000)
                    ),
                ),
                (
                    "labels",
                    format!(
                        "{{\"os\":\"linux\",\"config\":{{\"Labels\":{{{}}}}}}}",
                        labels.join(",")
                    ),
                ),
                ("depth", "[".repeat(4_000_000)),
            ] {
                let (ran, peak) = load(daemon, place, &archive(&[0; 1024], Some(config.into_bytes())));
                println!("{what}: {peak} bytes, {}", ran.err.trim());
                assert_ne!(ran.code, 0, "{what}");
                assert!(peak < BOUND, "{what}: {peak} bytes");
            }
        });
    });
}

/// The index of a layer's blob is asked for when a delta's base lacks a file.
#[test]
fn indexes_of_blobs() {
    ground::run(|g| {
        let tar = |version: &[u8]| {
            Tar::default()
                .file("lacking", 0o644, &delta::noise(1, 100_000))
                .file("large", 0o644, &delta::noise(2, 6_000_000))
                .file("version", 0o644, version)
                .bytes()
        };
        let entry = json!({"type": "reg", "name": "other", "size": 1, "offset": 1});
        let many = |entries: &mut Vec<Value>| entries.extend(vec![entry.clone(); 600_000]);
        let most = |entries: &mut Vec<Value>| entries.extend(vec![entry.clone(); 130_000]);
        let long = |entries: &mut Vec<Value>| {
            let mut long = entry.clone();
            long["name"] = "x".repeat(40 << 20).into();
            entries.insert(0, long);
        };
        let before_it = |entries: &mut Vec<Value>| entries[0]["innerOffset"] = (60 << 20).into();
        let cases: [(&str, seekable::Change<'_>, bool); 4] = [
            ("too many chunks", &many, false),
            ("as many as there may be", &most, true),
            ("a name of 40 MB", &long, false),
            ("much before a file", &before_it, false),
        ];
        for (number, (story, change, used)) in cases.into_iter().enumerate() {
            let new = match number % 2 {
                0 => seekable::zstd_chunked(&tar(b"two"), true, change),
                _ => seekable::estargz(&tar(b"two"), change),
            };
            let old = Layer::gzip(&tar(b"one"));
            let update = delta::between(&[&old], &new);
            let daemon = g.daemon();
            let reference = g
                .registry
                .push("app", "old", &Image::new(vec![old], json!({})))
                .unwrap();
            daemon.docker().ok(&["pull", "-q", &reference]);
            let layers = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().flatten();
            let lacking = layers.map(|layer| layer.path().join("diff/lacking"));
            let lacking = lacking.filter(|path| path.exists()).collect::<Vec<_>>();
            assert_eq!(lacking.len(), 1);
            fs::remove_file(&lacking[0]).unwrap();
            let new = Image::new(vec![new], json!({}));
            let artifact = delta::Artifact::new(&new, &[update]);
            let double = Double::with_deltas(new, vec![artifact], Fault::None).unwrap();
            let (ran, peak) = peak(&daemon, || daemon.docker().run(&["pull", &double.reference()]));
            println!("{story}: {} KiB", peak >> 10);
            assert_eq!(ran.code, 0, "{story}: {}", ran.err);
            assert_eq!(ran.out.contains("Delta from"), used, "{story}: {}", ran.out);
            assert!(peak < BOUND, "{story}: {peak}");
        }
    });
}
