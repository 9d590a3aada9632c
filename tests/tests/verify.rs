//! Images checked on the disk, and healed from their registry while other layers stay as they are.

use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;
use tests::client::within;
use tests::delta::noise;
use tests::double::{Double, Fault};
use tests::image::{self, Image, Layer, Tar};
use tests::{Daemon, ground, seekable};

/// The file of a name in any layer.
fn file(daemon: &Daemon, name: &str) -> PathBuf {
    let layers = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().flatten();
    let mut found = layers
        .map(|layer| layer.path().join("diff").join(name))
        .filter(|path| path.exists());
    found.next().unwrap()
}

/// Changes a byte, and nothing that a look at the file would tell.
fn flip(path: &PathBuf) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[2] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

#[test]
fn damage_is_named_and_repaired() {
    ground::run(|g| {
        let daemon = g.daemon();
        let cli = daemon.cli();
        let ask = |flags: &[&str]| cli.run(&[&["image", "verify"], flags].concat());
        cli.ok(&["pull", "-q", &g.busybox]);
        let before = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().count();
        for flags in [&["--all"][..], &["--deep", &g.busybox]] {
            let ran = ask(flags);
            assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
            assert!(ran.out.contains(&format!("{}: whole", g.busybox)), "{}", ran.out);
        }
        assert_eq!(ask(&[]).code, 1);
        assert_eq!(ask(&["nobody/there"]).code, 1);
        flip(&file(&daemon, "www/index.html"));
        assert_eq!(ask(&["--all"]).code, 0);
        let ran = ask(&["--deep", "--all"]);
        assert_eq!(ran.code, 1);
        assert!(ran.out.contains("www/index.html: has another content"), "{}", ran.out);
        // A pull fetches what is known to be damaged, and does not say that it exists.
        let ran = cli.run(&["pull", &g.busybox]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(!ran.out.contains("Already exists"), "{}", ran.out);
        assert_eq!(ask(&["--deep", "--all"]).code, 0);
        fs::remove_file(file(&daemon, "etc/group")).unwrap();
        let ran = ask(&["--all"]);
        assert_eq!(ran.code, 1);
        assert!(ran.out.contains("etc/group: missing"), "{}", ran.out);
        let ran = ask(&["--repair", &g.busybox]);
        assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
        assert_eq!(ask(&["--deep", "--all"]).code, 0);
        let shown = cli.ok(&["run", "--rm", &g.busybox, "cat", "/www/index.html"]);
        assert_eq!(shown, "It runs.");
        let after = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().count();
        assert_eq!(after, before);
    });
}

/// An image that came from no registry is healed by loading it again, and by nothing else; while a container runs on it, by
/// nothing at all.
#[test]
fn what_was_loaded_is_healed_by_a_load() {
    ground::run(|g| {
        let daemon = g.daemon();
        let cli = daemon.cli();
        let top = Tar::default().file("text", 0o644, b"some text").bytes();
        let image = Image::new(vec![image::busybox_layer().unwrap(), Layer::plain(&top)], json!({}));
        let archive = image.docker_archive("loaded:1");
        let verify = |flags: &[&str]| cli.run(&[&["image", "verify", "--deep"], flags, &["loaded:1"]].concat());
        let load = || assert_eq!(cli.run_with(&["load", "-q"], &archive).code, 0);
        load();
        cli.ok(&[
            "run",
            "-d",
            "--name",
            "on",
            "--network",
            "none",
            "loaded:1",
            "sleep",
            "1000",
        ]);
        flip(&file(&daemon, "text"));
        let ran = verify(&["--repair"]);
        assert_eq!(ran.code, 1);
        assert!(ran.out.contains("text: has another content"), "{}", ran.out);
        assert!(
            ran.err.contains("it came from no registry; load it again"),
            "{}",
            ran.err
        );
        load();
        assert_eq!(verify(&[]).code, 1, "a running container has it");
        cli.ok(&["rm", "-f", "on"]);
        load();
        let ran = verify(&[]);
        assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
        assert_eq!(
            cli.ok(&["run", "--rm", "--network", "none", "loaded:1", "cat", "/text"]),
            "some text"
        );
        assert_eq!(
            fs::read_dir(daemon.data_root().join("balena-damaged")).unwrap().count(),
            0
        );
        // The record, too, is put right.
        let records = daemon.data_root().join("image/overlay2/layerdb/sha256");
        let size = fs::read_dir(&records)
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path()
            .join("size");
        fs::write(&size, "x").unwrap();
        let ran = verify(&[]);
        assert!(
            ran.code == 1 && ran.out.contains("/size: missing or damaged"),
            "{}",
            ran.out
        );
        load();
        assert_eq!(verify(&[]).code, 0);
        assert_ne!(fs::read_to_string(&size).unwrap(), "x");
    });
}

#[test]
fn after_a_kill_everything_is_looked_at() {
    ground::run(|g| {
        let mut daemon = g.daemon();
        daemon.docker().ok(&["pull", "-q", &g.busybox]);
        assert_eq!(daemon.stop(), Some(0));
        daemon.up().unwrap();
        assert!(!daemon.log().contains("the last stop was not clean"));
        daemon.kill();
        fs::remove_file(file(&daemon, "etc/group")).unwrap();
        daemon.up().unwrap();
        let told = || {
            let log = daemon.log();
            log.contains("etc/group: missing") && log.contains("the last stop was not clean")
        };
        assert!(within(Duration::from_secs(20), told), "{}", daemon.log());
        daemon.docker().ok(&["pull", "-q", &g.busybox]);
        assert_eq!(
            daemon
                .docker()
                .ok(&["run", "--rm", &g.busybox, "cat", "/etc/group"])
                .lines()
                .count(),
            2
        );
    });
}

/// Where the layer's blob can be read in its middle, repairing costs what is damaged; elsewhere the blob.
#[test]
fn only_what_is_damaged_is_fetched() {
    ground::run(|g| {
        let tar = Tar::default()
            .dir("app", 0o755)
            .file("app/library", 0o644, &noise(1, 1_000_000))
            .file("app/other", 0o644, &noise(2, 200_000))
            .dir("app/gone", 0o755)
            .file("app/gone/file", 0o640, &noise(3, 50_000))
            .file("app/mode", 0o600, &noise(4, 90_000))
            .symlink("app/link", "other")
            .bytes();
        let as_made = |_: &mut Vec<serde_json::Value>| {};
        let layers = [
            Layer::plain(&tar),
            seekable::estargz(&tar, &as_made),
            seekable::zstd_chunked(&tar, true, &as_made),
            Layer::gzip(&tar),
        ];
        for (number, layer) in layers.into_iter().enumerate() {
            let mut daemon = g.daemon();
            let (size, kind) = (layer.size, layer.media_type.clone());
            let image = Image::new(vec![image::busybox_layer().unwrap(), layer], json!({"Cmd": ["true"]}));
            let double = Double::start(image, Fault::None).unwrap();
            let reference = double.reference();
            daemon.docker().ok(&["pull", "-q", &reference]);
            let repair = || {
                let before = double.sent();
                let ran = daemon.cli().run(&["image", "verify", "--deep", "--repair", &reference]);
                assert_eq!(ran.code, 0, "{kind}: {} {}", ran.out, ran.err);
                assert!(ran.out.contains(&format!("{reference}: whole")), "{kind}: {}", ran.out);
                (ran.out, double.sent() - before)
            };
            // No content at all.
            let library = file(&daemon, "app/library");
            let inode = fs::metadata(&library).unwrap().ino();
            let mode = file(&daemon, "app/mode");
            fs::set_permissions(&mode, fs::Permissions::from_mode(0o666)).unwrap();
            fs::remove_file(file(&daemon, "app/link")).unwrap();
            let (said, sent) = repair();
            let is_gzip = number == 3;
            assert!(said.contains("Repaired by 0 B instead of"), "{kind}: {said}");
            assert_eq!(sent, 0, "{kind}");
            flip(&file(&daemon, "app/other"));
            fs::remove_dir_all(file(&daemon, "app/gone")).unwrap();
            let (said, sent) = repair();
            assert_eq!(
                said.contains("Repaired by 0.3 MB instead of"),
                !is_gzip,
                "{kind}: {said}"
            );
            match is_gzip {
                true => assert!(sent >= size && sent < size + 100, "{kind}: {sent}"),
                false => assert!((250_000..254_000).contains(&sent), "{kind}: {sent}"),
            }
            // What was whole is the same file as before.
            assert_eq!(fs::metadata(&library).unwrap().ino() == inode, !is_gzip, "{kind}");
            assert_eq!(fs::metadata(&mode).unwrap().mode() & 0o7777, 0o600);
            daemon.docker().ok(&["run", "--rm", &reference]);
            daemon.docker().ok(&["rmi", &reference]);
            assert_eq!(daemon.left_behind(), Vec::<String>::new());
        }
    });
}
