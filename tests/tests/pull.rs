//! Pulling, with the real client from a real registry and from its double.

use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;
use tests::client::within;
use tests::delta::noise;
use tests::double::{Double, Fault};
use tests::image::{self, INDEX, Image, Layer, Tar};
use tests::{Daemon, Ground, Kind, ground};

/// Directories that hold layers, files of layer records, tags.
fn stored(daemon: &Daemon) -> (usize, usize, String) {
    let root = daemon.data_root();
    let count = |path: &str| fs::read_dir(root.join(path)).into_iter().flatten().flatten().count();
    let layers = fs::read_dir(root.join("overlay2")).into_iter().flatten().flatten();
    let layers = layers.filter(|entry| entry.file_name() != "l").count();
    let tags = fs::read_to_string(root.join("image/overlay2/repositories.json")).unwrap_or_default();
    (layers, count("image/overlay2/layerdb/sha256"), tags)
}

fn two_layers() -> Image {
    let base = image::busybox_layer().unwrap();
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let top = Tar::default()
        .dir("data", 0o755)
        .file("data/noise", 0o644, &noise)
        .file("etc/.wh.group", 0o644, b"")
        .symlink("data/link", "noise");
    Image::new(vec![base, Layer::gzip(&top.bytes())], json!({"Cmd": ["sh"]}))
}

#[test]
fn by_tag_and_by_digest() {
    ground::run(|g: &Ground| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let image = two_layers();
        let reference = g.registry.push("two", "v1", &image).unwrap();
        let said = docker.ok(&["pull", &reference]);
        assert!(said.contains(&format!("Digest: {}", image.digest())), "{said}");
        assert!(
            said.contains(&format!("Status: Downloaded newer image for {reference}")),
            "{said}"
        );
        let again = docker.ok(&["pull", &reference]);
        assert!(
            again.contains(&format!("Status: Image is up to date for {reference}")),
            "{again}"
        );
        assert_eq!(docker.ok(&["images", "-q", "--no-trunc"]), image.id());

        let by_digest = format!("{}@{}", g.registry.name("two"), image.digest());
        docker.ok(&["rmi", &reference]);
        assert_eq!(docker.ok(&["images", "-aq"]), "");
        let said = docker.ok(&["pull", "-q", &by_digest]);
        assert_eq!(said, by_digest);
        let shown: Value = serde_json::from_str(&docker.ok(&["inspect", &by_digest])).unwrap();
        assert_eq!(shown[0]["Id"], image.id());
        assert_eq!(shown[0]["RepoDigests"][0], by_digest);
        // What the upper layer hides is gone, what it has is there.
        let ran = docker.run(&[
            "run",
            "--rm",
            &by_digest,
            "sh",
            "-c",
            "test ! -e /etc/group && wc -c </data/link",
        ]);
        assert_eq!((ran.code, ran.out.trim()), (0, "3000000"), "{}", ran.err);
        assert_eq!(daemon_clean(daemon), Vec::<String>::new());
    });
}

fn daemon_clean(mut daemon: Daemon) -> Vec<String> {
    daemon.left_behind()
}

#[test]
fn docker_types_and_plain_layers() {
    ground::run(|g| {
        let docker_daemon = g.daemon();
        let docker = docker_daemon.docker();
        let base = image::busybox_layer().unwrap();
        let plain = Layer::plain(&Tar::default().file("plain", 0o644, b"yes\n").bytes());
        let image = Image::new(vec![base, plain], json!({"Cmd": ["cat", "/plain"]})).into_schema2();
        let reference = g.registry.push("schema2", "1", &image).unwrap();
        assert_eq!(docker.ok(&["run", "--rm", "--pull=always", "-q", &reference]), "yes");
    });
}

#[test]
fn a_list_has_one_for_this_machine() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let layer = |text: &str| Layer::gzip(&Tar::default().file("which", 0o644, text.as_bytes()).bytes());
        let base = image::busybox_layer().unwrap();
        let config = || json!({"Cmd": ["cat", "/which"]});
        let images = [
            (
                "arm",
                "v7",
                Image::for_platform(vec![layer("arm")], config(), "arm", "v7"),
            ),
            (
                "s390x",
                "",
                Image::for_platform(vec![layer("s390x")], config(), "s390x", ""),
            ),
            (
                image::architecture(),
                "",
                Image::new(vec![base, layer("here\n")], config()),
            ),
        ];
        let mut list = Vec::new();
        for (architecture, variant, image) in &images {
            g.registry.push("many", architecture, image).unwrap();
            list.push(json!({
                "mediaType": image.media_type, "digest": image.digest(), "size": image.manifest.len(),
                "platform": {"architecture": architecture, "os": "linux", "variant": variant},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": list}).to_string();
        g.registry.put_manifest("many", "all", INDEX, index.as_bytes()).unwrap();
        let reference = format!("{}:all", g.registry.name("many"));
        docker.ok(&["pull", "-q", &reference]);
        assert_eq!(docker.ok(&["run", "--rm", &reference]), "here");
        docker.ok(&["pull", "-q", "--platform", "linux/arm/v7", &reference]);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.Architecture}}", &reference]), "arm");
        let none = docker.run(&["pull", "-q", "--platform", "linux/riscv64", &reference]);
        assert_ne!(none.code, 0);
        assert!(
            none.err.contains("no matching manifest for linux/riscv64"),
            "{}",
            none.err
        );
    });
}

#[test]
fn what_is_not_there_is_said_in_dockers_words() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let absent = format!("{}:none", g.registry.name("busybox"));
        let ran = docker.run(&["pull", &absent]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err
                .contains(&format!("manifest for {absent} not found: manifest unknown")),
            "{}",
            ran.err
        );
        let down = format!("127.0.0.1:{}/x:1", tests::registry::free_port().unwrap());
        let ran = docker.run(&["pull", &down]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("connect: connection refused"), "{}", ran.err);
        let ran = docker.run(&["run", "--pull=never", "no-such-image"]);
        assert_eq!(ran.code, 125);
        assert!(ran.err.contains("No such image: no-such-image:latest"), "{}", ran.err);
        let answer = daemon.api("GET", "/v1.41/images/no-such/json", "");
        assert_eq!(
            (answer.status, answer.text().trim()),
            (404, r#"{"message":"No such image: no-such:latest"}"#)
        );
    });
}

/// Devices ask all day whether there is something new, and Docker Hub counts every manifest that it gives out.
#[test]
fn what_is_unchanged_costs_no_manifest() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let double = Double::start(two_layers(), Fault::None).unwrap();
        let reference = double.reference();
        let asked = |requests: usize| -> Vec<String> {
            let requests = double.requests().split_off(requests);
            let clear = requests.into_iter().filter(|line| line.contains(" HTTP/1.1"));
            clear
                .map(|line| line.split(" HTTP").next().unwrap().to_string())
                .collect()
        };
        docker.ok(&["pull", &reference]);
        let before = double.requests().len();
        let again = docker.ok(&["pull", &reference]);
        assert!(
            again.contains(&format!("Status: Image is up to date for {reference}")),
            "{again}"
        );
        assert!(again.contains("Digest: sha256:"), "{again}");
        assert_eq!(asked(before), ["HEAD /v2/me/app/manifests/1"]);
        // The tag was moved to another image here: all of it is looked at.
        docker.ok(&["tag", &reference, "other:1"]);
        docker.ok(&["rmi", &reference]);
        let before = double.requests().len();
        let again = docker.ok(&["pull", &reference]);
        assert!(
            again.contains(&format!("Status: Downloaded newer image for {reference}")),
            "{again}"
        );
        assert_eq!(asked(before), ["GET /v2/me/app/manifests/1"]);
    });
}

/// One bad copy in a mirror's cache, and Docker Hub was never asked again.
#[test]
fn a_bad_mirror_is_not_the_last_word() {
    ground::run(|g| {
        let good = Double::start(two_layers(), Fault::None).unwrap();
        for fault in [Fault::Corrupt, Fault::Truncated, Fault::Status(503), Fault::Status(404)] {
            let bad = Double::start(two_layers(), fault).unwrap();
            let mirrors = [bad.port, good.port].map(|port| format!("--registry-mirror=http://127.0.0.1:{port}"));
            let daemon = g.start(
                tests::daemon::Kind::Ours,
                &[&mirrors[0], &mirrors[1], "--max-download-attempts=2"],
            );
            let said = daemon.docker().ok(&["pull", "me/app:1"]);
            assert!(
                said.contains("Status: Downloaded newer image for me/app:1"),
                "{fault:?}: {said}"
            );
            assert!(!bad.requests().is_empty());
        }
        // Of the last there is, its own error.
        let bad = Double::start(two_layers(), Fault::Corrupt).unwrap();
        let daemon = g.daemon();
        let ran = daemon.docker().run(&["pull", &bad.reference()]);
        assert!(ran.err.contains("filesystem layer verification failed"), "{}", ran.err);
    });
}

/// 404 says that there is no such image, to clients that then look no further.
#[test]
fn who_is_not_known_has_not_heard_that_there_is_no_image() {
    ground::run(|g| {
        let daemon = g.daemon();
        let locked = tests::registry::Registry::with_password().unwrap();
        let target = format!("/images/create?fromImage={}&tag=1", locked.name("app"));
        let answer = daemon.api("POST", &target, "");
        let said = answer.text();
        assert_eq!(answer.status, 500, "{said}");
        assert!(said.contains("no basic auth credentials"), "{said}");
    });
}

#[test]
fn a_bad_registry_leaves_nothing() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        let before = stored(&daemon);
        for status in [401, 403, 404, 500] {
            let double = Double::start(two_layers(), Fault::Status(status)).unwrap();
            let ran = docker.run(&["pull", &double.reference()]);
            assert_eq!(ran.code, 1, "status {status}: {}", ran.out);
        }
        let double = Double::start(two_layers(), Fault::Corrupt).unwrap();
        let ran = docker.run(&["pull", &double.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(
            within(Duration::from_secs(10), || stored(&daemon) == before),
            "{:?}",
            stored(&daemon)
        );
        // What came before the connection broke stays for the next pull, and is no layer.
        let double = Double::start(two_layers(), Fault::Truncated).unwrap();
        let ran = docker.run(&["pull", &double.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        let (_, records, tags) = stored(&daemon);
        assert_eq!((records, &tags), (before.1, &before.2));
        // A layer that is what the manifest says, but not what the config says.
        let mut wrong = two_layers();
        wrong.layers[1].diff_id = image::sha256(b"another");
        let wrong = Image::new(wrong.layers, json!({}));
        let double = Double::start(wrong, Fault::None).unwrap();
        let ran = docker.run(&["pull", &double.reference()]);
        assert_eq!(ran.code, 1, "wrong diff ID: {}", ran.out);
        assert!(
            within(Duration::from_secs(10), || stored(&daemon).2 == before.2),
            "{:?}",
            stored(&daemon)
        );
        // What was there is whole.
        assert_eq!(docker.ok(&["run", "--rm", &g.busybox, "echo", "whole"]), "whole");
    });
}

#[test]
fn a_broken_connection_is_resumed() {
    ground::run(|g| {
        let daemon = g.daemon();
        let double = Double::start(two_layers(), Fault::CutEvery(300_000)).unwrap();
        let reference = double.reference();
        daemon.docker().ok(&["pull", "-q", &reference]);
        let resumed = double.requests().iter().filter(|line| line.contains("Some(")).count();
        assert!(resumed >= 2, "{:?}", double.requests());
        assert_eq!(
            daemon
                .docker()
                .ok(&["run", "--rm", &reference, "wc", "-c", "/data/noise"]),
            "3000000 /data/noise"
        );
    });
}

#[test]
fn hostile_layers_stay_inside() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let outside = daemon.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "safe").unwrap();
        let up = "../".repeat(20);
        let at = outside.display().to_string();
        let relative = at.trim_start_matches('/');
        let tars = [
            (
                "dot-dot",
                Tar::default().file(&format!("{up}{relative}/file"), 0o644, b"bad"),
            ),
            ("absolute", Tar::default().file(&format!("{at}/file"), 0o644, b"bad")),
            (
                "symlink",
                Tar::default().symlink("way", &at).file("way/file", 0o644, b"bad"),
            ),
            (
                "hard link",
                Tar::default()
                    .hard_link("linked", &format!("{up}{relative}/file"))
                    .file("linked", 0o644, b"bad"),
            ),
            (
                "whiteout",
                Tar::default().file(&format!("{up}{relative}/.wh.file"), 0o644, b""),
            ),
            (
                "symlinked whiteout",
                Tar::default().symlink("way", &at).file("way/.wh..wh..opq", 0o644, b""),
            ),
        ];
        for (name, tar) in tars {
            let image = Image::new(vec![Layer::gzip(&tar.bytes())], json!({}));
            let reference = g.registry.push("hostile", "1", &image).unwrap();
            // Refused or taken into the layer: either way nothing outside changes.
            let _ = docker.run(&["pull", "-q", &reference]);
            assert_eq!(
                fs::read_to_string(outside.join("file")).unwrap_or_default(),
                "safe",
                "{name}"
            );
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{name}");
        }
    });
}

#[test]
fn killed_in_mid_pull_leaks_nothing() {
    ground::run(|g| {
        let mut daemon = g.daemon();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        let before = stored(&daemon);
        let double = Double::start(two_layers(), Fault::Slow(1_000_000)).unwrap();
        let mut client = docker.spawn(&["pull", &double.reference()]);
        assert!(
            within(Duration::from_secs(10), || stored(&daemon).0 > before.0),
            "the pull does not begin"
        );
        daemon.kill();
        let _ = client.wait();
        daemon.up().unwrap();
        assert!(
            within(Duration::from_secs(20), || stored(&daemon).1 == before.1),
            "{:?}",
            stored(&daemon)
        );
        assert_eq!(stored(&daemon).2, before.2);
        assert_eq!(docker.ok(&["run", "--rm", &g.busybox, "echo", "whole"]), "whole");
        let again = Double::start(two_layers(), Fault::None).unwrap();
        docker.ok(&["pull", "-q", &again.reference()]);
        docker.ok(&["rmi", &again.reference()]);
        assert!(
            within(Duration::from_secs(20), || stored(&daemon) == before),
            "{:?} {before:?}",
            stored(&daemon)
        );
    });
}

/// An image of so many files of a million bytes, and two layers with one large one each.
fn large(files: u64, base: usize, top: usize) -> Image {
    let mut tar = Tar::default();
    for n in 0..files {
        tar = tar.file(&format!("files/{n}"), 0o644, &noise(n, 1_000_000));
    }
    let lower = tar.file("large", 0o600, &noise(100, base)).bytes();
    let upper = Tar::default().file("top", 0o644, &noise(101, top)).bytes();
    Image::new(vec![Layer::gzip(&lower), Layer::gzip(&upper)], json!({"Cmd": ["sh"]}))
}

/// Bytes of all packets that went over this network namespace's loopback: what nobody read has come too.
fn over_loopback() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Cuts a pull ten times at equal distances, every other time with the daemon; what came may be 1.15 times what was needed.
fn cut_ten_times(g: &Ground, flags: &[&str], rate: u64, image: &Image) {
    let mut daemon = g.start(Kind::Ours, flags);
    let docker = daemon.docker();
    let whole: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let double = Double::start(image.clone(), Fault::Slow(rate)).unwrap();
    let reference = double.reference();
    let start = over_loopback();
    for cut in 1..=10 {
        let until = over_loopback() + whole / 12;
        let mut client = docker.spawn(&["pull", "-q", &reference]);
        assert!(
            within(Duration::from_secs(60), || over_loopback() >= until),
            "cut {cut}: {} of {until} bytes came: {}",
            over_loopback(),
            daemon.log()
        );
        match cut % 2 {
            0 => client.kill().unwrap(),
            _ => daemon.kill(),
        }
        client.wait().unwrap();
        if cut % 2 == 1 {
            daemon.up().unwrap();
        } else {
            // The pull ends when it notices.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    docker.ok(&["pull", "-q", &reference]);
    let ratio = (over_loopback() - start) as f64 / whole as f64;
    println!("a pull cut ten times downloaded {ratio:.3} times its bytes");
    assert!(ratio <= 1.15, "{ratio}");
    let id = docker.ok(&["image", "inspect", "-f", "{{.Id}}", &reference]);
    assert_eq!(id, image.id());
    // It is what was pushed, to the byte: everything was hashed on the way, and nothing is left over.
    assert_eq!(stored(&daemon).0, 2);
    let pulls = daemon.data_root().join("balena-pulls");
    assert_eq!(fs::read_dir(pulls).unwrap().count(), 0);
    docker.ok(&["rmi", &reference]);
    assert_eq!(daemon.left_behind(), Vec::<String>::new());
}

/// 120 MB in two blobs: large beside what a cut may cost.
#[test]
fn a_pull_cut_ten_times_downloads_little_twice() {
    ground::run(|g| cut_ten_times(g, &[], 15_000_000, &large(40, 45_000_000, 35_000_000)));
}

/// The network gives more than is taken, so that bytes wait in the kernel, and a cut loses them. 60 MB.
#[test]
fn a_pull_with_a_limit_cut_ten_times_downloads_little_twice() {
    let flags = ["--max-download-rate", "6m"];
    ground::run(|g| cut_ten_times(g, &flags, 60_000_000, &large(20, 25_000_000, 15_000_000)));
}

#[test]
fn a_full_device_is_an_error_and_leaves_nothing() {
    ground::run(|g| {
        let base = tempfile::tempdir().unwrap();
        let (file, at) = (base.path().join("disk"), base.path().join("root"));
        fs::File::create(&file).unwrap().set_len(24 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let sh = |line: String| Command::new("sh").args(["-c", &line]).status().unwrap().success();
        let quoted = (file.display(), at.display());
        assert!(sh(format!(
            "mkfs.ext4 -q -O ^has_journal {} && mount -o loop {} {}",
            quoted.0, quoted.0, quoted.1
        )));
        let options = tests::daemon::Options {
            binary: g.binary.clone(),
            data_root: Some(at.clone()),
            ..Default::default()
        };
        let daemon = Daemon::start(tests::Kind::Ours, options).unwrap();
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        let before = stored(&daemon);
        let image = Image::new(
            vec![Layer::gzip(
                &Tar::default().file("big", 0o644, &noise(1, 30_000_000)).bytes(),
            )],
            json!({}),
        );
        let reference = g.registry.push("big", "1", &image).unwrap();
        let ran = docker.run(&["pull", &reference]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        // Known before anything is written: what is downloaded is larger than what is free.
        assert!(
            ran.err.contains("no space left on device: the image needs"),
            "{}",
            ran.err
        );
        assert_eq!(stored(&daemon), before);
        // Not known before: what it is unpacked to is.
        let zeros = Layer::gzip(&Tar::default().file("zeros", 0o644, &vec![0; 40_000_000]).bytes());
        let double = Double::start(Image::new(vec![zeros], json!({})), Fault::None).unwrap();
        let ran = docker.run(&["pull", &double.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains("no space left on device"), "{}", ran.err);
        assert!(
            within(Duration::from_secs(10), || stored(&daemon) == before),
            "{:?}",
            stored(&daemon)
        );
        assert_eq!(docker.ok(&["run", "--rm", &g.busybox, "echo", "whole"]), "whole");
        drop(daemon);
        assert!(sh(format!("umount {}", quoted.1)));
    });
}

#[test]
fn a_client_that_leaves_ends_the_pull() {
    ground::run(|g| {
        let daemon = g.daemon();
        let before = stored(&daemon);
        let double = Double::start(two_layers(), Fault::Slow(400_000)).unwrap();
        let mut client = daemon.docker().spawn(&["pull", &double.reference()]);
        assert!(
            within(Duration::from_secs(10), || stored(&daemon).0 > before.0),
            "the pull does not begin"
        );
        client.kill().unwrap();
        client.wait().unwrap();
        let asked = double.requests().len();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(stored(&daemon).2, before.2);
        assert_eq!(daemon.docker().ok(&["images", "-aq"]), "");
        assert!(
            double.requests().len() <= asked + 1,
            "it goes on asking: {:?}",
            double.requests()
        );
    });
}
