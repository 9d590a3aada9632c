//! Updates by delta: found on a registry with and without the referrers API, applied, and never in the way of a pull.

mod rescue;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use tests::client::within;
use tests::delta::{self, Artifact, Delta, kept_delta, noise};
use tests::double::{Double, Fault};
use tests::image::{self, INDEX, Image, Layer, Tar, sha256};
use tests::{Daemon, Ground, ground};

/// An image and a later one of it, with the delta of the layer that changed.
struct Update {
    old: Image,
    new: Image,
    delta: Delta,
}

fn update() -> Update {
    let busybox = image::busybox_layer().expect("busybox");
    let mut program = noise(2, 700_000);
    let old = Tar::default()
        .dir("app", 0o755)
        .file("app/library", 0o644, &noise(1, 1_000_000))
        .file("app/old-name", 0o644, &noise(3, 200_000))
        .file("app/program", 0o755, &program)
        .file("app/version", 0o644, b"one\n")
        .file("app/mode", 0o644, &noise(4, 5_000));
    program[300_000..300_009].copy_from_slice(b"a change.");
    let new = Tar::default()
        .dir("app", 0o755)
        .file("app/library", 0o644, &noise(1, 1_000_000))
        .file("app/new-name", 0o644, &noise(3, 200_000))
        .file("app/program", 0o755, &program)
        .file("app/version", 0o644, b"two\n")
        .file("app/mode", 0o755, &noise(4, 5_000));
    let (old, new) = (Layer::gzip(&old.bytes()), Layer::gzip(&new.bytes()));
    Update::of(busybox, old, new)
}

impl Update {
    /// Two images of a layer each on top of busybox, and the delta between them.
    fn of(busybox: Layer, old: Layer, new: Layer) -> Update {
        let delta = delta::between(&[&busybox, &old], &new);
        let config = || json!({"Cmd": ["cat", "/app/version"]});
        Update {
            old: Image::new(vec![busybox.clone(), old], config()),
            new: Image::new(vec![busybox, new], config()),
            delta,
        }
    }

    fn artifact(&self) -> Artifact {
        Artifact::new(&self.new, std::slice::from_ref(&self.delta))
    }

    /// Has a daemon with the old image, and that alone.
    fn daemon(&self, g: &Ground) -> (Daemon, String) {
        let daemon = g.daemon();
        let reference = g.registry.push("app", "old", &self.old).unwrap();
        daemon.docker().ok(&["pull", "-q", &reference]);
        (daemon, reference)
    }
}

/// Where the topmost layer of an image lies.
fn top(daemon: &Daemon, image: &str) -> PathBuf {
    let shown = daemon
        .docker()
        .ok(&["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", image]);
    PathBuf::from(shown.trim())
}

/// The digests of the layers' tars as `save` makes them again.
fn saved(daemon: &Daemon, image: &str) -> Vec<String> {
    let file = daemon.dir().join("saved.tar");
    daemon.docker().ok(&["save", "-o", &file.display().to_string(), image]);
    let archive = fs::read(&file).unwrap();
    let mut digests = Vec::new();
    let mut reader = oci::tar::Reader::new(&archive[..]);
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
        let is_layer =
            entry.kind == oci::tar::Kind::Regular && oci::tar::is_header(content.get(..512).unwrap_or(&[0; 512]));
        if is_layer {
            digests.push(image::sha256(&content));
        }
    }
    digests
}

/// Checks that the new image is there, whole, under its own names.
fn is_new(daemon: &Daemon, update: &Update, reference: &str) {
    let docker = daemon.docker();
    let shown: Value = serde_json::from_str(&docker.ok(&["inspect", reference])).unwrap();
    assert_eq!(shown[0]["Id"], update.new.id());
    let digests = shown[0]["RepoDigests"].to_string();
    assert!(digests.contains(&update.new.digest()), "{digests}");
    let ran = docker.run(&["run", "--rm", reference]);
    assert_eq!((ran.code, ran.out.trim()), (0, "two"), "{}", ran.err);
    let digests = saved(daemon, reference);
    for layer in &update.new.layers {
        assert!(digests.contains(&layer.diff_id), "{} not in {digests:?}", layer.diff_id);
    }
    let verified = daemon.cli().run(&["image", "verify", reference]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

fn asked_for(double: &Double, what: &str) -> usize {
    double.requests().iter().filter(|line| line.contains(what)).count()
}

#[test]
fn by_the_tag_of_a_registry_without_referrers() {
    ground::run(|g| {
        let update = update();
        let (daemon, old) = update.daemon(g);
        let new = g.registry.push("app", "new", &update.new).unwrap();
        let artifact = update.artifact();
        for blob in &artifact.blobs {
            g.registry.put_blob("app", blob).unwrap();
        }
        g.registry
            .put_manifest("app", &artifact.digest(), image::MANIFEST, &artifact.manifest)
            .unwrap();
        let tag = update.new.digest().replace(':', "-");
        g.registry
            .put_manifest("app", &tag, INDEX, &delta::index(&[artifact]))
            .unwrap();
        let said = daemon.docker().ok(&["pull", &new]);
        assert!(said.contains(&format!("Delta from {old}: ")), "{said}");
        assert!(said.contains(" instead of 1.9 MB"), "{said}");
        assert!(said.contains(&format!("Digest: {}", update.new.digest())), "{said}");
        is_new(&daemon, &update, &new);
    });
}

#[test]
fn what_did_not_change_is_a_link_and_the_wire_carries_the_change() {
    ground::run(|g| {
        let update = update();
        let (mut daemon, old) = update.daemon(g);
        let double = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::None).unwrap();
        let new = double.reference();
        let said = daemon.cli().ok(&["pull", "--delta", "only", &new]);
        assert!(said.contains("Delta from"), "{said}");
        assert_eq!(double.sent(), update.delta.bytes.len() as u64);
        assert_eq!(asked_for(&double, "/referrers/"), 1);
        let (was, is) = (top(&daemon, &old), top(&daemon, &new));
        let inode = |path: PathBuf| path.metadata().unwrap().ino();
        assert_eq!(inode(was.join("app/library")), inode(is.join("app/library")));
        assert_eq!(inode(was.join("app/old-name")), inode(is.join("app/new-name")));
        for name in ["app/program", "app/version", "app/mode"] {
            assert_ne!(inode(was.join(name)), inode(is.join(name)), "{name}");
        }
        is_new(&daemon, &update, &new);
        // A container that writes to a shared file writes to its own.
        let docker = daemon.docker();
        docker.ok(&[
            "run",
            "--rm",
            &new,
            "sh",
            "-c",
            "echo x > /app/library; chmod 777 /app/new-name",
        ]);
        assert_eq!(was.join("app/library").metadata().unwrap().len(), 1_000_000);
        assert_eq!(was.join("app/old-name").metadata().unwrap().mode() & 0o777, 0o644);
        // Again: everything is there, and nobody is asked for a delta.
        docker.ok(&["pull", "-q", &new]);
        assert_eq!(asked_for(&double, "/referrers/"), 1);
        // The old one goes, the new one stays whole.
        docker.ok(&["rmi", &old]);
        assert!(!was.exists());
        is_new(&daemon, &update, &new);
        docker.ok(&["rmi", &new]);
        // Nothing is there to apply a delta to.
        docker.ok(&["pull", "-q", &new]);
        assert_eq!(asked_for(&double, "/referrers/"), 1);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn off_and_only() {
    ground::run(|g| {
        let update = update();
        let (daemon, _) = update.daemon(g);
        let without = Double::start(update.new.clone(), Fault::None).unwrap();
        let ran = daemon.cli().run(&["pull", "--delta=only", &without.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains("delta=only was asked for"), "{}", ran.err);
        assert_eq!(without.sent(), 0);
        let gone = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::NoDeltas).unwrap();
        let ran = daemon.cli().run(&["pull", "--delta=only", &gone.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert_eq!(gone.sent(), 0);
        let double = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::None).unwrap();
        let bad = daemon.cli().run(&["pull", "--delta=some", &double.reference()]);
        assert!(bad.err.contains("known are auto, off and only"), "{}", bad.err);
        daemon.cli().ok(&["pull", "--delta=off", &double.reference()]);
        assert_eq!(asked_for(&double, "/referrers/"), 0);
        assert_eq!(double.sent(), update.new.layers[1].size);
        is_new(&daemon, &update, &double.reference());
        // Where none is from what is here, a line says why everything comes.
        let other = g.daemon();
        let unlike = Layer::gzip(&Tar::default().file("unlike", 0o644, b"it").bytes());
        let unlike = Image::new(vec![unlike], json!({}));
        let unlike = g.registry.push("unlike", "1", &unlike).unwrap();
        other.docker().ok(&["pull", "-q", &unlike]);
        let said = other.docker().ok(&["pull", &double.reference()]);
        assert!(
            said.contains("Delta not used: of 1 on the registry none is smaller and from what is here"),
            "{said}"
        );
        is_new(&other, &update, &double.reference());
    });
}

#[test]
fn whatever_is_wrong_with_a_delta_the_image_comes() {
    ground::run(|g| {
        let update = update();
        let (daemon, _) = update.daemon(g);
        let docker = daemon.docker();
        let good = &update.delta.bytes;
        let with = |bytes: Vec<u8>| Delta {
            bytes,
            ..update.delta.clone()
        };
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            with(bytes)
        };
        // A bomb: it says that what it makes is a terabyte.
        let mut bomb = good[..40].to_vec();
        bomb.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1, 0]);
        let other = delta::between(&[], &Layer::plain(&Tar::default().file("other", 0o644, b"x").bytes()));
        let cases = [
            ("truncated", with(good[..good.len() / 2].to_vec())),
            ("no delta", with(b"no delta at all".to_vec())),
            ("of nothing", with(Vec::new())),
            ("a bit in the head", flipped(20)),
            ("a bit in the base", flipped(50)),
            ("a bit in the middle", flipped(good.len() / 2)),
            ("a bomb", with(bomb)),
            ("of another layer", with(other.bytes)),
        ];
        for (story, bad) in cases {
            let artifact = Artifact::new(&update.new, &[bad]);
            let double = Double::with_deltas(update.new.clone(), vec![artifact], Fault::None).unwrap();
            let said = docker.ok(&["pull", &double.reference()]);
            assert!(said.contains("Delta not used: "), "{story}: {said}");
            assert!(!said.contains("Delta from"), "{story}: {said}");
            is_new(&daemon, &update, &double.reference());
            docker.ok(&["rmi", &double.reference()]);
        }
        // One that is bad and smaller, and one that is good.
        let artifacts = vec![
            Artifact::new(&update.new, &[with(good[..100].to_vec())]),
            update.artifact(),
        ];
        let double = Double::with_deltas(update.new.clone(), artifacts, Fault::None).unwrap();
        let said = docker.ok(&["pull", &double.reference()]);
        assert!(
            said.contains("Delta not used: ") && said.contains("Delta from"),
            "{said}"
        );
        assert!(double.sent() < update.new.layers[1].size / 2, "{}", double.sent());
        is_new(&daemon, &update, &double.reference());
        docker.ok(&["rmi", &double.reference()]);
        let gone = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::NoDeltas).unwrap();
        docker.ok(&["pull", "-q", &gone.reference()]);
        is_new(&daemon, &update, &gone.reference());
        docker.ok(&["rmi", &gone.reference()]);
        let cut = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::CutDeltas(50)).unwrap();
        daemon.cli().ok(&["pull", "--delta=only", &cut.reference()]);
        is_new(&daemon, &update, &cut.reference());
    });
}

#[test]
fn a_damaged_base_is_noticed() {
    ground::run(|g| {
        let update = update();
        let (daemon, old) = update.daemon(g);
        let library = top(&daemon, &old).join("app/library");
        let times = library.metadata().unwrap().modified().unwrap();
        let mut content = fs::read(&library).unwrap();
        content[500_000] ^= 1;
        fs::write(&library, &content).unwrap();
        fs::File::options()
            .write(true)
            .open(&library)
            .unwrap()
            .set_modified(times)
            .unwrap();
        let double = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::None).unwrap();
        let said = daemon.docker().ok(&["pull", &double.reference()]);
        assert!(said.contains("Delta not used: "), "{said}");
        assert!(said.contains("has changed"), "{said}");
        is_new(&daemon, &update, &double.reference());
        // From then on it is known, and no base: who wants nothing but deltas gets nothing, and not the layer in full.
        daemon.docker().ok(&["rmi", &double.reference()]);
        let sent = double.sent();
        let ran = daemon.cli().run(&["pull", "--delta=only", &double.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains("delta=only was asked for"), "{}", ran.err);
        assert_eq!(double.sent(), sent);
        // The pull of its own image mends it.
        daemon.docker().ok(&["pull", "-q", &old]);
        daemon.cli().ok(&["pull", "--delta=only", &double.reference()]);
        is_new(&daemon, &update, &double.reference());
    });
}

#[test]
fn two_at_once_and_the_base_is_removed_meanwhile() {
    ground::run(|g| {
        let update = update();
        let (mut daemon, old) = update.daemon(g);
        let was = top(&daemon, &old);
        let rate = update.delta.bytes.len() as u64 / 3;
        let double = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::SlowDeltas(rate)).unwrap();
        let names = [double.reference(), double.reference().replace(":1", ":2")];
        let clients: Vec<_> = names
            .iter()
            .map(|name| daemon.docker().spawn(&["pull", name]))
            .collect();
        assert!(within(Duration::from_secs(10), || double.sent() > 0), "no delta comes");
        daemon.docker().ok(&["rmi", &old]);
        for client in clients {
            let ran = tests::client::finish(client, Duration::from_secs(60));
            assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        }
        assert!(
            double.sent() <= 2 * update.delta.bytes.len() as u64,
            "{}",
            double.sent()
        );
        for name in &names {
            is_new(&daemon, &update, name);
        }
        assert!(
            within(Duration::from_secs(10), || !was.exists()),
            "what was held is gone when it is let go"
        );
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

/// An update of which much is new: five megabytes that no base has, beside what stays.
fn large_update() -> Update {
    let busybox = image::busybox_layer().expect("busybox");
    let tar = |version: &[u8], seed: u64| {
        let mut tar = Tar::default().dir("app", 0o755).file("app/version", 0o644, version);
        for n in 0..5 {
            tar = tar
                .file(&format!("app/new{n}"), 0o644, &noise(seed + n, 1_000_000))
                .file(&format!("app/same{n}"), 0o644, &noise(n + 1, 300_000));
        }
        Layer::gzip(&tar.file("app/library", 0o644, &noise(9, 1_500_000)).bytes())
    };
    let (old, new) = (tar(b"one\n", 100), tar(b"two\n", 200));
    Update::of(busybox, old, new)
}

/// Begins to pull the new image, and stops it with half of the delta here. Returns bytes that were kept.
fn interrupted(daemon: &mut Daemon, update: &Update, stop: impl FnOnce(&mut Daemon, &mut Child)) -> u64 {
    let length = update.delta.bytes.len() as u64;
    let fault = Fault::SlowDeltas(length / 16);
    let slow = Double::with_deltas(update.new.clone(), vec![update.artifact()], fault).unwrap();
    let mut client = daemon.docker().spawn(&["pull", &slow.reference()]);
    let kept = |daemon: &Daemon| kept_delta(daemon).and_then(|path| Some(path.metadata().ok()?.len()));
    let half = || kept(daemon).is_some_and(|bytes| bytes > length / 2);
    assert!(
        within(Duration::from_secs(60), half),
        "of {length} bytes: {:?}",
        kept(daemon)
    );
    stop(daemon, &mut client);
    let _ = client.wait();
    let kept = kept(daemon).expect("what was kept stays");
    assert!(kept < length, "it was stopped in the middle");
    kept
}

/// As [`interrupted`], by a client that leaves.
fn cancelled(daemon: &mut Daemon, update: &Update) -> u64 {
    interrupted(daemon, update, |_, client| client.kill().unwrap());
    let kept = || Some(kept_delta(daemon)?.metadata().ok()?.len());
    // The daemon notices it a moment later.
    let quiet = || {
        let seen = kept();
        std::thread::sleep(Duration::from_millis(700));
        seen == kept()
    };
    assert!(within(Duration::from_secs(20), quiet), "it goes on without a client");
    kept().expect("what was kept stays")
}

/// The next pull fetches the rest of the delta, and no byte more.
fn goes_on(daemon: &mut Daemon, update: &Update, kept: u64) {
    let good = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::None).unwrap();
    let said = daemon.cli().ok(&["pull", "--delta=only", &good.reference()]);
    assert!(said.contains("Delta from"), "{said}");
    assert_eq!(good.sent(), update.delta.bytes.len() as u64 - kept);
    is_new(daemon, update, &good.reference());
    assert_eq!(kept_delta(daemon), None);
    let links = top(daemon, &good.reference())
        .join("app/library")
        .metadata()
        .unwrap()
        .nlink();
    assert_eq!(links, 2, "what stays is a link all the same");
}

#[test]
fn killed_in_the_middle_it_goes_on() {
    ground::run(|g| {
        let update = large_update();
        let (mut daemon, old) = update.daemon(g);
        let count = |path: &str| {
            let entries = fs::read_dir(daemon.data_root().join(path)).unwrap();
            entries
                .filter(|entry| entry.as_ref().unwrap().file_name() != "l")
                .count()
        };
        let before = count("overlay2");
        assert_eq!(before, count("image/overlay2/layerdb/sha256"));
        let kept = interrupted(&mut daemon, &update, |daemon, _| daemon.kill());
        daemon.up().unwrap();
        let count = |path: &str| {
            let entries = fs::read_dir(daemon.data_root().join(path)).unwrap();
            entries
                .filter(|entry| entry.as_ref().unwrap().file_name() != "l")
                .count()
        };
        // The layers of before, and the one that was begun, which is none yet.
        assert_eq!(count("image/overlay2/layerdb/sha256"), before);
        assert_eq!(count("overlay2"), before + 1);
        let verified = daemon.cli().run(&["image", "verify", &old]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        goes_on(&mut daemon, &update, kept);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn cancelled_in_the_middle_it_goes_on() {
    ground::run(|g| {
        let update = large_update();
        let (mut daemon, _) = update.daemon(g);
        let kept = cancelled(&mut daemon, &update);
        assert!(kept < update.delta.bytes.len() as u64);
        goes_on(&mut daemon, &update, kept);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

/// The file that carries an update without a network.
fn offline(update: &Update, artifacts: &[Artifact], name: &str) -> Vec<u8> {
    let mut image = json!({
        "mediaType": update.new.media_type, "digest": update.new.digest(), "size": update.new.manifest.len(),
    });
    image["annotations"] = json!({"io.containerd.image.name": name});
    let mut list = vec![image];
    list.extend(artifacts.iter().map(|artifact| artifact.descriptor.clone()));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": list}).to_string();
    let blob = |bytes: &[u8]| image::sha256(bytes).replace("sha256:", "blobs/sha256/");
    let mut tar = Tar::default()
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", 0o644, index.as_bytes())
        .file(&blob(&update.new.config), 0o644, &update.new.config)
        .file(&blob(&update.new.manifest), 0o644, &update.new.manifest);
    for artifact in artifacts {
        tar = tar.file(&blob(&artifact.manifest), 0o644, &artifact.manifest);
    }
    let mut blobs: Vec<&Vec<u8>> = artifacts.iter().flat_map(|artifact| &artifact.blobs).collect();
    blobs.sort();
    blobs.dedup();
    for bytes in blobs {
        tar = tar.file(&blob(bytes), 0o644, bytes);
    }
    tar.bytes()
}

#[test]
fn a_file_carries_it_without_a_network() {
    ground::run(|g| {
        let update = update();
        let (daemon, old) = update.daemon(g);
        let docker = daemon.docker();
        let name = "docker.io/library/app:new";
        let load = |artifacts: &[Artifact]| docker.run_with(&["load"], &offline(&update, artifacts, name));
        let bad = Delta {
            bytes: update.delta.bytes[..100].to_vec(),
            ..update.delta.clone()
        };
        let bad = Artifact::new(&update.new, &[bad]);
        let ran = load(&[]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        let ran = load(std::slice::from_ref(&bad));
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains("by delta: "), "{}", ran.err);
        // A file that was damaged on its way is told from a delta that is no good.
        let mut flipped = offline(&update, &[update.artifact()], name);
        let at = flipped.windows(6).position(|bytes| bytes == b"\x89Delta").unwrap();
        flipped[at + update.delta.bytes.len() / 2] ^= 1;
        let ran = docker.run_with(&["load"], &flipped);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(
            ran.err.contains("is damaged in the archive: copy it here once more"),
            "{}",
            ran.err
        );
        let other = Tar::default().file("other", 0o644, &noise(1, 1_000_000)).bytes();
        let elsewhere = delta::between(&[&Layer::plain(&other)], &update.new.layers[1]);
        let elsewhere = Artifact::new(&update.new, &[elsewhere]);
        // Of two that fail, what is said is about the one that there is a base for.
        let ran = load(&[bad.clone(), elsewhere.clone()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(!ran.err.contains("the delta's base layer"), "{}", ran.err);
        let ran = load(&[bad, elsewhere, update.artifact()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("Loaded image: app:new"), "{}", ran.out);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.Id}}", "app:new"]), update.new.id());
        assert_eq!(docker.ok(&["run", "--rm", "app:new"]), "two");
        let inode = |image: &str| top(&daemon, image).join("app/library").metadata().unwrap().ino();
        assert_eq!(inode(&old), inode("app:new"));
        // Elsewhere there is no base, and nothing is left.
        let empty = g.daemon();
        let ran = empty
            .docker()
            .run_with(&["load"], &offline(&update, &[update.artifact()], name));
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains("is not here"), "{}", ran.err);
        assert!(ran.err.contains("needs no base"), "{}", ran.err);
        assert_eq!(empty.docker().ok(&["images", "-aq"]), "");
    });
}

#[test]
fn a_full_device_is_an_error_and_leaves_nothing() {
    ground::run(|g| {
        let dir = tempfile::tempdir().unwrap();
        let (file, at) = (dir.path().join("disk"), dir.path().join("root"));
        fs::File::create(&file).unwrap().set_len(24 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let sh = |line: String| Command::new("sh").args(["-c", &line]).status().unwrap().success();
        let (disk, root) = (file.display(), at.display());
        assert!(sh(format!(
            "mkfs.ext4 -q -O ^has_journal {disk} && mount -o loop {disk} {root}"
        )));
        let options = tests::daemon::Options {
            binary: g.binary.clone(),
            data_root: Some(at.clone()),
            ..Default::default()
        };
        let daemon = Daemon::start(tests::Kind::Ours, options).unwrap();
        let docker = daemon.docker();
        let busybox = image::busybox_layer().unwrap();
        let shared = noise(1, 2_000_000);
        let old = Layer::gzip(&Tar::default().file("shared", 0o644, &shared).bytes());
        // Zeros: the delta is small, what it makes is not.
        let new = Tar::default()
            .file("shared", 0o644, &shared)
            .file("zeros", 0o644, &vec![0; 30_000_000]);
        let new = Layer::gzip(&new.bytes());
        let mut delta = delta::between(&[&old], &new);
        let old = g
            .registry
            .push(
                "app",
                "old",
                &Image::new(vec![busybox.clone(), old], json!({"Cmd": ["true"]})),
            )
            .unwrap();
        docker.ok(&["pull", "-q", &old]);
        let count = || fs::read_dir(at.join("overlay2")).unwrap().count();
        let before = count();
        let new = Image::new(vec![busybox, new], json!({}));
        for (written, words) in [
            // Known before anything of it is fetched.
            (delta.written, "the image needs 30MB at least, "),
            // Not said: known when it is full. That is no reason to fetch more.
            (0, "write"),
        ] {
            delta.written = written;
            let artifact = Artifact::new(&new, std::slice::from_ref(&delta));
            let double = Double::with_deltas(new.clone(), vec![artifact], Fault::None).unwrap();
            let ran = docker.run(&["pull", &double.reference()]);
            assert_eq!(ran.code, 1, "{}", ran.out);
            assert!(ran.err.contains("no space left on device"), "{}", ran.err);
            assert!(ran.err.contains(words), "{}", ran.err);
            assert!(!ran.out.contains("Delta not used"), "{}", ran.out);
            let fetched = double
                .requests()
                .iter()
                .any(|line| line.contains(&format!("blobs/{}", sha256(&delta.bytes))));
            assert_eq!(fetched, written == 0, "{:?}", double.requests());
        }
        assert!(within(Duration::from_secs(10), || count() == before), "{}", count());
        docker.ok(&["run", "--rm", &old]);
        let verified = daemon.cli().run(&["image", "verify", &old]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        drop(daemon);
        assert!(sh(format!("umount {root}")));
    });
}
