//! Deltas as they are made: balenaEngine's by its own route, ours as archives and as artifacts of a registry.

use oci::tar::{Kind, Reader};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::image::{self, INDEX, Image, Layer, Tar, sha256};
use tests::referrers::{Manner, Referrers};
use tests::{Client, Daemon, Ground, ground, http};

const ARTIFACT: &str = "application/vnd.balena.delta.v1";
const LAYER: &str = "application/vnd.balena.delta.layer.v1";

/// The golden files of balenaEngine, where they are.
fn vectors() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/balena-delta");
    let found = path.is_dir();
    if !found {
        println!("skipped: no golden files at {}", path.display());
    }
    found.then_some(path)
}

/// The files of a tar.
fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut reader = Reader::new(tar);
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.kind == Kind::Regular {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            all.insert(String::from_utf8(entry.name).unwrap(), content);
        }
    }
    all
}

fn unzipped(path: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    let file = fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    tar
}

/// An application's versions: a common layer, and one that changes a little.
fn version(number: u32) -> Image {
    let base = image::busybox_layer().unwrap();
    let mut text: Vec<u8> = (0..40_000u32)
        .flat_map(|n| format!("line {}\n", n * 7919 % 65_521).into_bytes())
        .collect();
    text.extend_from_slice(format!("version {number}\n").as_bytes());
    let noise: Vec<u8> = (0..200_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let top = Tar::default()
        .dir("app", 0o755)
        .file("app/text", 0o644, &text)
        .file("app/noise", 0o644, &noise)
        .file("app/version", 0o644, format!("{number}\n").as_bytes());
    Image::new(
        vec![base, Layer::gzip(&top.bytes())],
        json!({"Cmd": ["cat", "/app/version"]}),
    )
}

fn post(daemon: &Daemon, target: &str) -> (u16, Vec<Value>) {
    let answer = http::unix(&daemon.socket(), "POST", target, &[], b"").unwrap();
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    (
        answer.status,
        lines.map(|line| serde_json::from_str(line).unwrap()).collect(),
    )
}

fn manifest(port: u16, repository: &str, name: &str) -> Option<Value> {
    let accept = [image::MANIFEST, image::SCHEMA2, INDEX].join(", ");
    let target = format!("/v2/{repository}/manifests/{name}");
    let answer = http::local(port, "GET", &target, &[("Accept", &accept)], b"").unwrap();
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
}

/// What is listed for a digest under the tag of the referrers tag schema.
fn listed(port: u16, repository: &str, subject: &str) -> Vec<Value> {
    let index = manifest(port, repository, &subject.replace(':', "-"));
    index.map_or(Vec::new(), |index| index["manifests"].as_array().unwrap().clone())
}

/// The daemon with versions 1 to `last` pulled.
fn with_versions(g: &Ground, last: u32) -> (Daemon, Client, Vec<Image>) {
    let daemon = g.daemon();
    let docker = daemon.docker();
    let images: Vec<Image> = (1..=last).map(version).collect();
    for (number, image) in (1..).zip(&images) {
        let reference = g.registry.push("app", &number.to_string(), image).unwrap();
        docker.ok(&["pull", "-q", &reference]);
        docker.ok(&["tag", &reference, &format!("app:{number}")]);
    }
    (daemon, docker, images)
}

#[test]
fn balenas_golden_delta_is_made_again() {
    let Some(vectors) = vectors() else { return };
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        for name in ["busybox-1.24", "busybox-1.29"] {
            let path = vectors.join(format!("{name}.tar.gz"));
            docker.ok(&["load", "-q", "-i", path.to_str().unwrap()]);
        }
        // As balenaEngine's clients ask.
        let target = "/v1.40/images/delta?src=busybox%3A1.24&dest=busybox%3A1.29&t=busybox%3Adelta";
        let (status, lines) = post(&daemon, target);
        assert_eq!(status, 200, "{lines:?}");
        let said: Vec<&str> = lines.iter().filter_map(|line| line["status"].as_str()).collect();
        for text in [
            "Fingerprinting",
            "Fingerprint complete",
            "Computing delta",
            "Delta complete",
        ] {
            assert!(said.contains(&text), "{text}: {said:?}");
        }
        let (sizes, created) = (said[said.len() - 2], said[said.len() - 1]);
        assert!(sizes.starts_with("Normal size: 1.37MB, Delta size: "), "{sizes}");
        assert!(sizes.ends_with("x improvement"), "{sizes}");
        let id = docker.ok(&["inspect", "-f", "{{.Id}}", "busybox:delta"]);
        assert_eq!(created, format!("Created delta: {id}"));

        let saved = daemon.dir().join("delta.tar");
        docker.ok(&["save", "-o", saved.to_str().unwrap(), "busybox:delta"]);
        let ours = files(&fs::read(&saved).unwrap());
        let golden = files(&unzipped(&vectors.join("busybox-delta.tar.gz")));
        let of = |files: &BTreeMap<String, Vec<u8>>, key: &str| -> Vec<Vec<u8>> {
            let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
            let names = match &manifest[0][key] {
                Value::Array(all) => all.clone(),
                one => vec![one.clone()],
            };
            names.iter().map(|name| files[name.as_str().unwrap()].clone()).collect()
        };
        assert_eq!(of(&ours, "Layers"), of(&golden, "Layers"), "the layers' tars");
        // The config differs in nothing but the time at which it was made.
        let untimed = |files| {
            let text = String::from_utf8(of(files, "Config").remove(0)).unwrap();
            let rest = text.split_once("\",\"container_config\"").unwrap().1.to_string();
            assert!(text.starts_with("{\"created\":\""));
            rest
        };
        assert_eq!(untimed(&ours), untimed(&golden));

        if !ground::there("rdiff") {
            println!("skipped: no rdiff here");
            return;
        }
        let delta = files(&of(&ours, "Layers")[0]).remove("delta").unwrap();
        let base = files(&unzipped(&vectors.join("busybox-1.24.tar.gz")));
        let (base_file, delta_file, made) = ("base", "delta", "made");
        let at = |name: &str| daemon.dir().join(name);
        fs::write(at(base_file), of(&base, "Layers").concat()).unwrap();
        fs::write(at(delta_file), delta).unwrap();
        let mut rdiff = Command::new("rdiff");
        rdiff.arg("patch").args([at(base_file), at(delta_file), at(made)]);
        assert!(rdiff.status().unwrap().success());
        let target = files(&unzipped(&vectors.join("busybox-1.29.tar.gz")));
        assert_eq!(fs::read(at(made)).unwrap(), of(&target, "Layers")[0]);
    });
}

#[test]
fn balenas_common_layers_are_empty_and_nothing_is_left() {
    ground::run(|g| {
        let (daemon, docker, _) = with_versions(g, 2);
        let said = daemon.cli().ok(&[
            "image",
            "delta",
            "--format",
            "balena",
            "-t",
            "app:delta",
            "app:1",
            "app:2",
        ]);
        assert!(
            said.contains("Skipping common layer") && said.contains("x improvement"),
            "{said}"
        );
        let saved = daemon.dir().join("delta.tar");
        docker.ok(&["save", "-o", saved.to_str().unwrap(), "app:delta"]);
        let all = files(&fs::read(&saved).unwrap());
        let manifest: Value = serde_json::from_slice(&all["manifest.json"]).unwrap();
        let layer = |at: usize| &all[manifest[0]["Layers"][at].as_str().unwrap()];
        assert_eq!(*layer(0), vec![0; 1024]);
        let names: Vec<String> = files(layer(1)).into_keys().collect();
        assert_eq!(names, ["delta"]);
        // It is an image as others are.
        let labels = docker.ok(&["inspect", "-f", "{{json .Config.Labels}}", "app:delta"]);
        let labels: Value = serde_json::from_str(&labels).unwrap();
        let (base, target) = (
            docker.ok(&["inspect", "-f", "{{.Id}}", "app:1"]),
            docker.ok(&["inspect", "-f", "{{.Id}}", "app:2"]),
        );
        assert_eq!(labels["io.resin.delta.base"], *base);
        assert_eq!(
            sha256(labels["io.resin.delta.config"].as_str().unwrap().as_bytes()),
            target
        );
        docker.ok(&["rmi", "app:delta"]);
        let left: Vec<_> = fs::read_dir(daemon.data_root().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    ground::run(|g| {
        let (daemon, _, _) = with_versions(g, 1);
        let cli = daemon.cli();
        for (query, status, text) in [
            ("src=nothing&dest=app:1", 404, "No such image: nothing:latest"),
            ("src=app:1&dest=nothing", 404, "No such image: nothing:latest"),
            ("src=app:1", 400, "src and dest must name images"),
            ("dest=app:1", 400, "src and dest must name images"),
            (
                "src=app:1&dest=app:1&format=file",
                400,
                "app:1 and app:1 are the same image",
            ),
            ("src=app:1&src=app:1&dest=app:1", 400, "balena's format has one src"),
            (
                "src=app:1&dest=app:1&format=zip",
                400,
                "unknown format \"zip\": balena or file",
            ),
            (
                "src=app:1&dest=app:1&t=a@b",
                400,
                "name \"a@b\": invalid reference format",
            ),
        ] {
            let (got, lines) = post(&daemon, &format!("/v1.50/images/delta?{query}"));
            assert_eq!(
                (got, lines[0]["message"].as_str().unwrap_or_default()),
                (status, text),
                "{query}"
            );
        }
        // Where the registry has another image, or none at all, nothing is made.
        let ran = cli.run(&["image", "delta", "--push", "busybox:1", "app:1"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("No such image: busybox:1"), "{}", ran.err);
        for (line, text) in [
            (&["image", "delta", "app:1"][..], "requires at least 2 arguments"),
            (
                &["image", "delta", "--push", "--dry-run", "a", "b"],
                "exclude each other",
            ),
            (&["image", "delta", "--format", "zip", "a", "b"], "unknown format"),
            (
                &["image", "delta", "--format", "balena", "./a", "b"],
                "made by a daemon",
            ),
            (&["save", "--delta-from", "a", "-o", "x", "b", "c"], "for one image"),
            (
                &["save", "--delta-from", "a", "--platform", "linux/arm64", "-o", "x", "b"],
                "without --platform",
            ),
            (
                &["image", "delta", "--format", "balena", "--platform", "all", "a", "b"],
                "is not for the format balena",
            ),
            (&["image", "delta", "--dry-run", "-t", "x", "a", "b"], "--tag names"),
        ] {
            let ran = cli.run(line);
            assert_eq!(ran.code, 1, "{line:?}");
            assert!(ran.err.contains(text), "{line:?}: {}", ran.err);
        }
    });
}

/// Looks at an offline archive and gives its artifacts' manifests.
fn checked(archive: &[u8], target: &Image, name: &str) -> Vec<Value> {
    let all = files(archive);
    for (name, bytes) in all.iter().filter(|(name, _)| name.starts_with("blobs/sha256/")) {
        assert_eq!(sha256(bytes), name.replace("blobs/sha256/", "sha256:"));
    }
    let blob = |digest: &Value| &all[&digest.as_str().unwrap().replace("sha256:", "blobs/sha256/")];
    let index: Value = serde_json::from_slice(&all["index.json"]).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries[0]["annotations"]["io.containerd.image.name"], name);
    assert_eq!(*blob(&entries[0]["digest"]), target.manifest);
    let manifest: Value = serde_json::from_slice(&target.manifest).unwrap();
    assert_eq!(*blob(&manifest["config"]["digest"]), target.config);
    let artifacts = entries[1..].iter().map(|entry| {
        assert_eq!(entry["artifactType"], ARTIFACT);
        let artifact: Value = serde_json::from_slice(blob(&entry["digest"])).unwrap();
        assert_eq!(entry["annotations"], artifact["annotations"]);
        artifact_of(&artifact, target);
        for layer in artifact["layers"].as_array().unwrap() {
            assert!(blob(&layer["digest"]).starts_with(b"\x89Delta"));
        }
        artifact
    });
    artifacts.collect()
}

/// An artifact says of itself what it should.
fn artifact_of(artifact: &Value, target: &Image) {
    assert_eq!(artifact["artifactType"], ARTIFACT);
    assert_eq!(artifact["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    assert_eq!(artifact["subject"]["digest"], target.digest());
    assert_eq!(artifact["subject"]["size"], target.manifest.len());
    let layers = artifact["layers"].as_array().unwrap();
    // The common layer needs none.
    assert_eq!(layers.len(), 1, "{artifact}");
    assert_eq!(layers[0]["mediaType"], LAYER);
    assert_eq!(
        layers[0]["annotations"]["io.balena.delta.target"],
        target.layers[1].diff_id
    );
    let number = |key: &str| -> u64 { artifact["annotations"][key].as_str().unwrap().parse().unwrap() };
    assert_eq!(number("io.balena.delta.size"), layers[0]["size"].as_u64().unwrap());
    assert_eq!(number("io.balena.delta.full"), target.layers[1].size);
    assert!(number("io.balena.delta.size") < 2000, "{artifact}");
    // The text that changed, in blocks, and the small file.
    let text = number("io.balena.delta.space");
    assert!(text.is_multiple_of(4096) && text > 300_000 && text < 600_000, "{text}");
}

#[test]
fn an_archive_for_devices_that_are_offline() {
    ground::run(|g| {
        let (daemon, _, images) = with_versions(g, 3);
        let cli = daemon.cli();
        let path = daemon.dir().join("app.delta");
        let path = path.to_str().unwrap();
        let ran = cli.run(&["image", "delta", "-o", path, "app:1", "app:2", "app:3"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(ran.err.matches("Delta from app:").count(), 2, "{}", ran.err);
        let archive = fs::read(path).unwrap();
        let artifacts = checked(&archive, &images[2], "docker.io/library/app:3");
        let bases: Vec<&str> = artifacts
            .iter()
            .map(|a| a["annotations"]["io.balena.delta.bases"].as_str().unwrap())
            .collect();
        assert_eq!(bases, [&images[0].layers[1].diff_id, &images[1].layers[1].diff_id]);
        // Smaller by far, and the same each time, on standard output as well.
        assert!(archive.len() < 20_000);
        let again = cli
            .command(&["save", "--delta-from", "app:1", "--delta-from", "app:2", "app:3"])
            .output()
            .unwrap();
        assert!(again.status.success());
        assert!(again.stdout == archive);
        // A name of its own.
        cli.ok(&["image", "delta", "-o", path, "-t", "other/name:x", "app:2", "app:3"]);
        checked(&fs::read(path).unwrap(), &images[2], "docker.io/other/name:x");
        // A failure leaves what was there.
        let before = fs::read(path).unwrap();
        let ran = cli.run(&["image", "delta", "-o", path, "app:3", "app:3"]);
        assert_eq!((ran.code, fs::read(path).unwrap()), (1, before));
        // What is in it.
        let said = cli.ok(&["image", "delta", "--dry-run", "app:1", "app:3"]);
        assert!(said.contains("times smaller") && said.contains("app/text"), "{said}");
    });
}

#[test]
fn pushed_beside_the_target() {
    ground::run(|g| {
        let (daemon, docker, images) = with_versions(g, 3);
        let cli = daemon.cli();
        let name = |number: u32| format!("{}:{number}", g.registry.name("app"));
        let port = g.registry.port;
        let said = cli.ok(&["image", "delta", "--push", &name(1), &name(3)]);
        assert!(said.contains("the registry has no referrers API"), "{said}");
        let subject = images[2].digest();
        let first = listed(port, "app", &subject);
        assert_eq!(first.len(), 1);
        let artifact = manifest(port, "app", first[0]["digest"].as_str().unwrap()).unwrap();
        artifact_of(&artifact, &images[2]);
        assert_eq!(first[0]["annotations"], artifact["annotations"]);
        // Once more is the same; from another base is another.
        cli.ok(&["image", "delta", "--push", &name(1), &name(3)]);
        assert_eq!(listed(port, "app", &subject), first);
        let said = cli.ok(&["push", "--delta-from", &name(2), &name(3)]);
        assert!(
            said.contains("Layer already exists") && said.contains("Pushed delta"),
            "{said}"
        );
        let both = listed(port, "app", &subject);
        assert_eq!((both.len(), &both[0]), (2, &first[0]));
        // The target is what it was.
        assert_eq!(
            manifest(port, "app", "3").unwrap(),
            serde_json::from_slice::<Value>(&images[2].manifest).unwrap()
        );
        // An image that the registry does not have under that name.
        docker.ok(&["tag", "app:2", &name(3)]);
        let ran = cli.run(&["image", "delta", "--push", &name(1), &name(3)]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.contains("in its registry is another image: push it first"),
            "{}",
            ran.err
        );
        // No registry at all.
        let nowhere = format!("127.0.0.1:{}/app:3", tests::registry::free_port().unwrap());
        docker.ok(&["tag", "app:3", &nowhere]);
        let ran = cli.run(&["image", "delta", "--push", &name(1), &nowhere]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("connection refused"), "{}", ran.err);
    });
}

#[test]
fn a_registry_that_knows_referrers_and_one_where_another_writes() {
    ground::run(|g| {
        let daemon = g.daemon();
        let cli = daemon.cli();
        let images = [version(1), version(2)];
        for (number, image) in (1..).zip(&images) {
            g.registry.push("app", &number.to_string(), image).unwrap();
        }
        let subject = images[1].digest();
        let front = Referrers::start(g.registry.port, Manner::Api).unwrap();
        let name = |number: u32| format!("{}:{number}", front.name("app"));
        let said = cli.ok(&["image", "delta", "--registry", "--push", &name(1), &name(2)]);
        assert!(
            said.contains("Pushed delta") && !said.contains("no referrers API"),
            "{said}"
        );
        let target = format!("/v2/app/referrers/{subject}?artifactType=application%2Fvnd.balena.delta.v1");
        let answer = http::local(front.port, "GET", &target, &[], b"").unwrap();
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
        // The list is the registry's: no tag is written.
        assert!(
            !front
                .requests()
                .iter()
                .any(|request| request.contains("/manifests/sha256-"))
        );
        assert!(listed(g.registry.port, "app", &subject).is_empty());

        let race = Referrers::start(g.registry.port, Manner::Race).unwrap();
        let name = |number: u32| format!("{}:{number}", race.name("app"));
        cli.ok(&["image", "delta", "--registry", "--push", &name(1), &name(2)]);
        let list = listed(g.registry.port, "app", &subject);
        let kinds: Vec<&str> = list.iter().filter_map(|entry| entry["artifactType"].as_str()).collect();
        assert!(kinds.contains(&ARTIFACT), "{list:?}");
    });
}

#[test]
fn from_registry_to_registry_for_all_platforms_without_a_daemon() {
    ground::run(|g| {
        let none = daemonless(g);
        let mut indexes = Vec::new();
        for number in [1, 2] {
            let mut list = Vec::new();
            for (architecture, variant) in [("amd64", ""), ("arm", "v7")] {
                let base = Layer::gzip(&Tar::default().file("which", 0o644, architecture.as_bytes()).bytes());
                let top = version(number).layers.remove(1);
                let image = Image::for_platform(vec![base, top], json!({}), architecture, variant);
                g.registry
                    .push("multi", &format!("{number}-{architecture}"), &image)
                    .unwrap();
                let mut platform = json!({"os": "linux", "architecture": architecture});
                if !variant.is_empty() {
                    platform["variant"] = variant.into();
                }
                list.push((image, platform));
            }
            let entries: Vec<Value> = list
                .iter()
                .map(|(image, platform)| json!({
                    "mediaType": image::MANIFEST, "digest": image.digest(), "size": image.manifest.len(), "platform": platform,
                }))
                .collect();
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
            g.registry
                .put_manifest("multi", &number.to_string(), INDEX, index.as_bytes())
                .unwrap();
            indexes.push(list);
        }
        let name = |tag: &str| format!("{}:{tag}", g.registry.name("multi"));
        let said = none.ok(&[
            "image",
            "delta",
            "--registry",
            "--push",
            "--platform",
            "all",
            &name("1"),
            &name("2"),
        ]);
        assert_eq!(said.matches("Pushed delta").count(), 2, "{said}");
        for (image, _) in &indexes[1] {
            assert_eq!(listed(g.registry.port, "multi", &image.digest()).len(), 1);
        }
        // One of them, as an archive; from one image to an index.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arm.delta");
        let path = path.to_str().unwrap();
        let temp = directory.path().to_str().unwrap();
        none.ok(&[
            "image",
            "delta",
            "--registry",
            "--temp",
            temp,
            "--platform",
            "linux/arm/v7",
            "-o",
            path,
            &name("1-arm"),
            &name("2"),
        ]);
        let (arm, _) = &indexes[1][1];
        assert_eq!(checked(&fs::read(path).unwrap(), arm, &name("2")).len(), 1);
        let ran = none.run(&[
            "image",
            "delta",
            "--registry",
            "--dry-run",
            "--platform",
            "linux/riscv64",
            &name("1"),
            &name("2"),
        ]);
        assert!(
            ran.code == 1 && ran.err.contains("has no image for linux/riscv64"),
            "{}",
            ran.err
        );
        let ran = none.run(&[
            "image",
            "delta",
            "--registry",
            "--dry-run",
            &name("1-amd64"),
            &name("2-arm"),
        ]);
        assert!(
            ran.code == 1 && ran.err.contains("is for the same platform"),
            "{}",
            ran.err
        );
        let ran = none.run(&["image", "delta", "--registry", "--dry-run", &name("9"), &name("2")]);
        assert!(ran.code == 1 && ran.err.contains("manifest unknown"), "{}", ran.err);
        let gone = format!("127.0.0.1:{}/multi:1", tests::registry::free_port().unwrap());
        let ran = none.run(&["image", "delta", "--registry", "--dry-run", &gone, &name("2")]);
        assert!(ran.code == 1 && ran.err.contains("connection refused"), "{}", ran.err);
        let left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["arm.delta"]);
    });
}

/// A client whose daemon does not exist.
fn daemonless(g: &Ground) -> Client {
    Client::new(&g.binary, Path::new("/nowhere/docker.sock"), Path::new("/nowhere"))
}

#[test]
fn from_archives_and_what_no_archive_is() {
    ground::run(|g| {
        let (daemon, docker, images) = with_versions(g, 2);
        let dir = daemon.dir().to_owned();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_string();
        docker.ok(&["save", "-o", &at("1.tar"), "app:1"]);
        docker.ok(&["save", "-o", &at("2.tar"), "app:2"]);
        let none = daemonless(g);
        let said = none.ok(&["image", "delta", "--dry-run", &at("1.tar"), &at("2.tar")]);
        assert!(said.contains("times smaller"), "{said}");
        none.ok(&["image", "delta", "-o", &at("x.delta"), &at("1.tar"), &at("2.tar")]);
        let all = files(&fs::read(at("x.delta")).unwrap());
        assert!(all.contains_key(&images[1].id().replace("sha256:", "blobs/sha256/")));
        // An archive, and a registry.
        let name = format!("{}:2", g.registry.name("app"));
        let said = none.ok(&["image", "delta", "--push", &at("1.tar"), &name]);
        assert!(said.contains("Pushed delta"), "{said}");
        let ran = none.run(&["image", "delta", "--push", &at("1.tar"), &at("2.tar")]);
        assert!(
            ran.code == 1 && ran.err.contains("a target that is in a registry"),
            "{}",
            ran.err
        );

        // What is alone is meant, but not for another platform than was asked for.
        let line = ["image", "delta", "--dry-run", "--platform", "linux/riscv64"];
        let ran = none.run(&[&line[..], &[&at("1.tar"), &at("2.tar")]].concat());
        assert!(
            ran.code == 1 && ran.err.contains("has no image for linux/riscv64"),
            "{}",
            ran.err
        );
        let ran = none.run(&["image", "delta", "--dry-run", &at("x.delta"), &at("2.tar")]);
        assert!(
            ran.code == 1 && ran.err.contains("deltas stand in its place"),
            "{}",
            ran.err
        );
        docker.ok(&["save", "-o", &at("both.tar"), "app:1", "app:2"]);
        let ran = none.run(&["image", "delta", "--dry-run", &at("both.tar"), &at("2.tar")]);
        assert!(ran.code == 1 && ran.err.contains("save the one alone"), "{}", ran.err);

        let whole = fs::read(at("2.tar")).unwrap();
        let mut bad: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", Vec::new(), "invalid archive"),
            ("short", whole[..whole.len() / 2].to_vec(), "invalid archive"),
            ("noise", b"no tar at all ".repeat(500), "invalid archive"),
        ];
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        bad.push(("flipped", flipped, "its diff ID is"));
        let tar = |manifest: &str| Tar::default().file("manifest.json", 0o644, manifest.as_bytes()).bytes();
        bad.push((
            "manifest",
            tar("[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]"),
            "it has no ../../etc/passwd",
        ));
        bad.push((
            "circle",
            Tar::default().symlink("manifest.json", "manifest.json").bytes(),
            "it has no manifest.json",
        ));
        bad.push((
            "large",
            {
                let mut entry = oci::tar::Entry::new(Kind::Regular, "manifest.json");
                entry.size = 1 << 40;
                let mut bytes = Vec::new();
                oci::tar::Writer::new(&mut bytes).start(&entry).unwrap();
                bytes
            },
            "invalid archive",
        ));
        for (name, bytes, text) in bad {
            fs::write(at(name), bytes).unwrap();
            let ran = none.run(&["image", "delta", "--dry-run", &at("1.tar"), &at(name)]);
            assert_eq!(ran.code, 1, "{name}");
            assert!(ran.err.contains(text), "{name}: {}", ran.err);
        }
    });
}

#[test]
fn no_common_ground_and_a_client_that_leaves() {
    ground::run(|g| {
        let (daemon, docker, _) = with_versions(g, 1);
        let other = Image::new(
            vec![Layer::gzip(
                &Tar::default()
                    .file("other", 0o644, &b"something else\n".repeat(50))
                    .bytes(),
            )],
            json!({}),
        );
        let reference = g.registry.push("other", "1", &other).unwrap();
        docker.ok(&["pull", "-q", &reference]);
        let path = daemon.dir().join("x.delta");
        daemon
            .cli()
            .ok(&["image", "delta", "-o", path.to_str().unwrap(), "app:1", &reference]);
        let all = files(&fs::read(&path).unwrap());
        let index: Value = serde_json::from_slice(&all["index.json"]).unwrap();
        // It needs no base.
        assert_eq!(index["manifests"][1]["annotations"]["io.balena.delta.bases"], "");
        // One who leaves at once: the daemon goes on, and nothing of it is left.
        let mut child = daemon
            .cli()
            .spawn(&["image", "delta", "-o", path.to_str().unwrap(), &reference, "app:1"]);
        child.kill().unwrap();
        child.wait().unwrap();
        docker.ok(&["ps"]);
        let left = || fs::read_dir(daemon.data_root().join("tmp")).map_or(0, Iterator::count);
        assert!(tests::client::within(std::time::Duration::from_secs(10), || left() == 0));
    });
}

#[test]
fn several_images_together_are_one_base() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let noise = |seed: u32| -> Vec<u8> {
            let mut state = seed;
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            (0..100_000).map(next).collect()
        };
        let image = |files: &[(&str, u32)]| {
            let tar = files
                .iter()
                .fold(Tar::default(), |tar, (name, seed)| tar.file(name, 0o644, &noise(*seed)));
            Image::new(vec![Layer::gzip(&tar.bytes())], json!({}))
        };
        for (name, files) in [
            ("a", &[("one", 1)][..]),
            ("b", &[("two", 2)]),
            ("c", &[("one", 1), ("two", 2), ("three", 3)]),
        ] {
            let reference = g.registry.push(name, "1", &image(files)).unwrap();
            docker.ok(&["pull", "-q", &reference]);
            docker.ok(&["tag", &reference, name]);
        }
        let sizes = |flags: &[&str]| -> Vec<u64> {
            let query = format!("src=a&src=b&dest=c&format=file&dry=1{}", flags.concat());
            let answer = http::unix(
                &daemon.socket(),
                "POST",
                &format!("/v1.50/images/delta?{query}"),
                &[],
                b"",
            )
            .unwrap();
            let text = answer.text();
            let sizes = text
                .split("\"size\":")
                .skip(1)
                .map(|rest| rest.split([',', '}']).next().unwrap());
            sizes.filter_map(|size| size.parse().ok()).collect()
        };
        let apart = sizes(&[]);
        assert!(
            apart.len() >= 2 && apart.iter().all(|size| (200_000..210_000).contains(size)),
            "{apart:?}"
        );
        let together = sizes(&["&together=1"]);
        assert!(
            !together.is_empty() && together.iter().all(|size| (100_000..105_000).contains(size)),
            "{together:?}"
        );
    });
}

#[test]
fn what_is_made_here_is_used_there() {
    ground::run(|g| {
        let (daemon, docker, images) = with_versions(g, 3);
        let cli = daemon.cli();
        let name = |tag: &str| format!("{}:{tag}", g.registry.name("app"));
        cli.ok(&["image", "delta", "--push", &name("1"), &name("2"), &name("3")]);
        let delta = name("delta");
        cli.ok(&[
            "image",
            "delta",
            "--format",
            "balena",
            "-t",
            &delta,
            &name("1"),
            &name("2"),
        ]);
        docker.ok(&["push", "-q", &delta]);

        let device = g.daemon();
        let there = device.cli();
        there.ok(&["pull", "-q", &name("1")]);
        let said = there.ok(&["pull", &name("3")]);
        assert!(said.contains("Delta from"), "{said}");
        let id = |name: &str| there.ok(&["inspect", "-f", "{{.Id}}", name]);
        assert_eq!(id(&name("3")), images[2].id());
        let digests = there.ok(&["inspect", "-f", "{{join .RepoDigests \" \"}}", &name("3")]);
        assert_eq!(digests, format!("{}@{}", g.registry.name("app"), images[2].digest()));
        there.ok(&["pull", &delta]);
        assert_eq!(id(&delta), images[1].id());
        // From a file, by a name of its own, onto a device that has the base only.
        let path = daemon.dir().join("app.delta");
        let path = path.to_str().unwrap();
        cli.ok(&["save", "--delta-from", &name("1"), "-o", path, &name("3")]);
        let offline = g.daemon();
        offline.cli().ok(&["pull", "-q", &name("1")]);
        offline.cli().ok(&["load", "-q", "-i", path]);
        assert_eq!(
            offline.cli().ok(&["inspect", "-f", "{{.Id}}", &name("3")]),
            images[2].id()
        );
        for image in [&name("3"), &delta] {
            there.ok(&["run", "--rm", "--network", "none", image]);
        }
    });
}
