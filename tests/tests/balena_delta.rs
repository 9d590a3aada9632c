//! balenaEngine's deltas: loaded and pulled, with the base in the store or in a second one.

use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tests::client::within;
use tests::delta::{balena_image, kept_delta, noise};
use tests::double::{Double, Fault};
use tests::image::{self, Image, Layer, Tar};
use tests::{Daemon, Kind, ground};

const BASE: &str = "sha256:47bcc53f74dc94b1920f0b34f6036096526296767650f223433fe65c35f149eb";
const TARGET: &str = "sha256:758ec7f3a1ee85f8f08399b55641bfb13e8c1109287ddc5e22b68c3d653152ee";

/// A golden file of balenaEngine's, if they are here.
fn golden(name: &str) -> Option<String> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../shared/vectors/balena-delta", name]
        .iter()
        .collect();
    if !path.exists() {
        println!("skipped: no {}", path.display());
        return None;
    }
    Some(path.display().to_string())
}

/// What is stored: directories of layers, records, tags.
fn stored(daemon: &Daemon) -> (usize, usize, String) {
    let root = daemon.data_root();
    let count = |path: &str| fs::read_dir(root.join(path)).into_iter().flatten().flatten().count();
    let tags = fs::read_to_string(root.join("image/overlay2/repositories.json")).unwrap_or_default();
    (count("overlay2"), count("image/overlay2/layerdb/sha256"), tags)
}

#[test]
fn what_balena_engine_saved_is_loaded() {
    let (Some(base), Some(delta)) = (golden("busybox-1.24.tar.gz"), golden("busybox-delta.tar.gz")) else {
        return;
    };
    let bad = ["busybox-delta-bad-magic.tar.gz", "busybox-delta-truncated.tar.gz"];
    let bad = bad.map(|name| golden(name).expect("it lies beside the others"));
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let empty = stored(&daemon);
        let ran = docker.run(&["load", "-i", &delta]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(
            ran.err.contains(&format!("the delta's base {BASE} is not here")),
            "{}",
            ran.err
        );
        assert_eq!(stored(&daemon), empty);
        docker.ok(&["load", "-i", &base]);
        let before = stored(&daemon);
        for bad in &bad {
            let ran = docker.run(&["load", "-i", bad]);
            assert_eq!(ran.code, 1, "{bad}: {}", ran.out);
            assert_eq!(stored(&daemon), before, "{bad}");
        }
        docker.ok(&["load", "-i", &delta]);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.Id}}", "busybox:delta"]), TARGET);
        let said = docker.ok(&[
            "run",
            "--rm",
            "busybox:delta",
            "busybox",
            "head",
            "-n",
            "1",
            "/etc/passwd",
        ]);
        assert!(said.starts_with("root:"), "{said}");
        // A second time there is nothing to do, and without the delta the target stays.
        docker.ok(&["load", "-i", &delta]);
        docker.ok(&["rmi", BASE]);
        let verified = daemon.cli().run(&["image", "verify", "busybox:delta"]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        // Another engine's store has the base.
        let other = g.daemon();
        other.docker().ok(&["load", "-i", &base]);
        let root = other.data_root().display().to_string();
        let options = ["--delta-data-root", &root, "--delta-storage-driver", "overlay2"];
        let second = g.start(Kind::Ours, &options);
        second.docker().ok(&["load", "-i", &delta]);
        assert_eq!(
            second.docker().ok(&["inspect", "-f", "{{.Id}}", "busybox:delta"]),
            TARGET
        );
        let third = g.start(Kind::Ours, &["--delta-data-root", "/nowhere"]);
        let ran = third.docker().run(&["load", "-i", &delta]);
        assert!(
            ran.err
                .contains(&format!("the delta's base {BASE} is not here, nor in /nowhere")),
            "{}",
            ran.err
        );
    });
}

#[test]
fn pulled_it_is_its_target() {
    ground::run(|g| {
        let busybox = image::busybox_layer().unwrap();
        let app = |version: &str| {
            let library: Vec<u8> = (0..400_000u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            let tar = Tar::default()
                .file("library", 0o644, &library)
                .file("version", 0o644, version.as_bytes());
            Image::new(
                vec![busybox.clone(), Layer::gzip(&tar.bytes())],
                json!({"Cmd": ["cat", "/version"]}),
            )
        };
        let (old, new) = (app("one\n"), app("two\n"));
        let delta = balena_image(&old, &new);
        let daemon = g.daemon();
        let docker = daemon.docker();
        let base = g.registry.push("app", "old", &old).unwrap();
        let name = g.registry.push("app", "delta", &delta).unwrap();
        let ran = docker.run(&["pull", &name]);
        assert!(ran.err.contains("pull the image itself"), "{}", ran.err);
        docker.ok(&["pull", "-q", &base]);
        docker.ok(&["pull", &name]);
        let shown: Value = serde_json::from_str(&docker.ok(&["inspect", &name])).unwrap();
        assert_eq!(shown[0]["Id"], new.id());
        assert!(
            !shown[0]["RepoDigests"].to_string().contains(&delta.digest()),
            "{shown}"
        );
        assert_eq!(docker.ok(&["run", "--rm", &name]), "two");
        let again = docker.ok(&["pull", &name]);
        assert!(again.contains("Image is up to date"), "{again}");
        // By its digest it has that name, for who asked by it.
        let by_digest = format!("{}@{}", g.registry.name("app"), delta.digest());
        docker.ok(&["pull", "-q", &by_digest]);
        assert_eq!(docker.ok(&["inspect", "-f", "{{.Id}}", &by_digest]), new.id());
        // In a store beside: the shared layer is made again, too.
        let root = daemon.data_root().display().to_string();
        let second = g.start(Kind::Ours, &["--delta-data-root", &root]);
        second.docker().ok(&["pull", "-q", &name]);
        assert_eq!(second.docker().ok(&["inspect", "-f", "{{.Id}}", &name]), new.id());
        assert_eq!(second.docker().ok(&["run", "--rm", &name]), "two");
        // Of a base that is damaged nothing comes.
        docker.ok(&["rmi", &name]);
        let top = docker.ok(&["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", &base]);
        let library = PathBuf::from(top.trim()).join("library");
        let mut content = fs::read(&library).unwrap();
        content[1000] ^= 1;
        fs::write(&library, content).unwrap();
        let before = stored(&daemon);
        let ran = docker.run(&["pull", &name]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert_eq!(stored(&daemon), before);
    });
}

#[test]
fn killed_in_the_middle_it_goes_on() {
    ground::run(|g| {
        let busybox = image::busybox_layer().unwrap();
        let app = |seed: u64| {
            let tar =
                Tar::default()
                    .file("library", 0o644, &noise(1, 1_500_000))
                    .file("new", 0o644, &noise(seed, 5_000_000));
            Image::new(
                vec![busybox.clone(), Layer::gzip(&tar.bytes())],
                json!({"Cmd": ["true"]}),
            )
        };
        let (old, new) = (app(2), app(3));
        let delta = balena_image(&old, &new);
        let length = delta.layers[1].blob.len() as u64;
        let mut daemon = g.daemon();
        let base = g.registry.push("app", "old", &old).unwrap();
        daemon.docker().ok(&["pull", "-q", &base]);
        let before = stored(&daemon);
        let slow = Double::start(delta.clone(), Fault::Slow(length / 16)).unwrap();
        let mut client = daemon.docker().spawn(&["pull", &slow.reference()]);
        let kept = |daemon: &Daemon| kept_delta(daemon).and_then(|path| Some(path.metadata().ok()?.len()));
        assert!(within(Duration::from_secs(60), || kept(&daemon) > Some(length / 2)));
        daemon.kill();
        let _ = client.wait();
        daemon.up().unwrap();
        let kept_bytes = kept(&daemon).expect("what was kept stays");
        assert!(kept_bytes < length, "it was stopped in the middle");
        // A network that breaks in between costs nothing either: what has come is kept.
        let cut = Double::start(delta.clone(), Fault::Truncated).unwrap();
        let ran = daemon.docker().run(&["pull", &cut.reference()]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        let kept_bytes = kept(&daemon).expect("what was kept stays").max(kept_bytes);
        let good = Double::start(delta.clone(), Fault::None).unwrap();
        daemon.docker().ok(&["pull", "-q", &good.reference()]);
        assert_eq!(
            good.sent(),
            length - kept_bytes,
            "of {length} bytes {kept_bytes} were here"
        );
        assert_eq!(kept(&daemon), None);
        let id = daemon.docker().ok(&["inspect", "-f", "{{.Id}}", &good.reference()]);
        assert_eq!(id, new.id());
        let verified = daemon.cli().run(&["image", "verify", "--deep", &good.reference()]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        assert_eq!(stored(&daemon).0, before.0 + 1);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}
