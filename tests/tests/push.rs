//! `push`, beside Docker's own daemon: the same lines, digests and errors.

use serde_json::{Value, json};
use std::fs;
use tests::daemon::Kind;
use tests::image::{self, Image, Layer, SCHEMA2, Tar};
use tests::registry::{PASSWORD, USER};
use tests::{Client, Daemon, Ground, Registry, ground, http};

fn two_layers() -> Image {
    let base = image::busybox_layer().unwrap();
    let top = Tar::default()
        .dir("data", 0o755)
        .file("data/text", 0o640, &b"some text\n".repeat(50_000));
    Image::new(
        vec![base, Layer::gzip(&top.bytes())],
        json!({"Cmd": ["wc", "-c", "/data/text"]}),
    )
}

/// A manifest as the registry has it: its type, and its bytes.
fn manifest(registry: &Registry, repository: &str, tag: &str) -> (String, Vec<u8>) {
    let accept = [image::MANIFEST, SCHEMA2, image::INDEX].join(", ");
    let target = format!("/v2/{repository}/manifests/{tag}");
    let answer = http::local(registry.port, "GET", &target, &[("Accept", &accept)], b"").unwrap();
    assert_eq!(answer.status, 200, "{target}");
    (
        answer.header("content-type").unwrap_or_default().to_string(),
        answer.body,
    )
}

#[test]
fn pushed_again_it_is_the_same() {
    ground::run(|g: &Ground| {
        let daemon = g.daemon();
        let (docker, cli) = (daemon.docker(), daemon.cli());
        for (name, image) in [("oci", two_layers()), ("schema2", two_layers().into_schema2())] {
            let reference = g.registry.push(name, "v1", &image).unwrap();
            docker.ok(&["pull", "-q", &reference]);
            // To where it came from: all is there.
            let again = format!("{}:again", g.registry.name(name));
            docker.ok(&["tag", &reference, &again]);
            let said = docker.ok(&["push", &again]);
            assert_eq!(said.matches("Layer already exists").count(), 2, "{said}");
            let line = format!("again: digest: {} size: {}", image.digest(), image.manifest.len());
            assert!(said.ends_with(&line), "{said}");
            assert_eq!(manifest(&g.registry, name, "again").1, image.manifest);
            // Beside it: mounted.
            let beside = format!("{}:1", g.registry.name(&format!("beside/{name}")));
            docker.ok(&["tag", &reference, &beside]);
            let said = cli.ok(&["push", &beside]);
            assert_eq!(said.matches("Mounted from ").count(), 2, "{said}");
            let repository = format!("beside/{name}");
            assert_eq!(
                manifest(&g.registry, &repository, "1"),
                (image.media_type.clone(), image.manifest.clone())
            );
            let digests = docker.ok(&["inspect", "-f", "{{join .RepoDigests \" \"}}", &beside]);
            assert!(
                digests.contains(&format!("{}@{}", g.registry.name(&repository), image.digest())),
                "{digests}"
            );
            docker.ok(&["rmi", &reference, &again, &beside]);
        }
    });
}

#[test]
fn a_new_registry_gets_what_comes_back_whole() {
    ground::run(|g| {
        let daemon = g.daemon();
        let (docker, cli) = (daemon.docker(), daemon.cli());
        let image = two_layers();
        let reference = g.registry.push("two", "v1", &image).unwrap();
        docker.ok(&["pull", "-q", &reference]);
        let other = Registry::start().unwrap();
        let there = format!("{}:v1", other.name("team/two"));
        docker.ok(&["tag", &reference, &there]);
        let said = cli.ok(&["push", &there]);
        assert!(
            said.starts_with(&format!("The push refers to repository [{}]", other.name("team/two"))),
            "{said}"
        );
        assert_eq!(said.matches(": Pushed").count(), 2, "{said}");
        let (kind, bytes) = manifest(&other, "team/two", "v1");
        assert_eq!(kind, SCHEMA2);
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(parsed["config"]["digest"], image.id());
        let again = cli.ok(&["push", "-q", &there]);
        assert_eq!(again, there);
        assert_eq!(manifest(&other, "team/two", "v1").1, bytes);
        // From there it comes to another daemon, and runs.
        let second = g.daemon();
        second.docker().ok(&["pull", "-q", &there]);
        assert_eq!(second.docker().ok(&["images", "-q", "--no-trunc"]), image.id());
        assert_eq!(
            second.docker().ok(&["run", "--rm", "--network=none", &there]),
            "500000 /data/text"
        );
        // All tags, and only tags.
        docker.ok(&["tag", &reference, &format!("{}:b", other.name("team/two"))]);
        let said = docker.ok(&["push", "-a", &other.name("team/two")]);
        assert!(
            said.contains("\nb: digest: ") && said.contains("\nv1: digest: "),
            "{said}"
        );
        assert_eq!(manifest(&other, "team/two", "b").1, bytes);
    });
}

/// Layers whose files were changed on the disk are not pushed as what they are not.
#[test]
fn a_damaged_layer_is_not_pushed() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let reference = g.registry.push("two", "v1", &two_layers()).unwrap();
        docker.ok(&["pull", "-q", &reference]);
        for entry in fs::read_dir(daemon.data_root().join("overlay2")).unwrap().flatten() {
            let file = entry.path().join("diff/data/text");
            if file.exists() {
                let mut bytes = fs::read(&file).unwrap();
                bytes[1000] ^= 1;
                fs::write(&file, bytes).unwrap();
            }
        }
        let other = Registry::start().unwrap();
        let there = format!("{}:v1", other.name("two"));
        docker.ok(&["tag", &reference, &there]);
        let ran = docker.run(&["push", &there]);
        assert_ne!(ran.code, 0, "{}", ran.out);
        assert!(ran.err.contains("file integrity checksum failed"), "{}", ran.err);
        let target = "/v2/two/manifests/v1";
        assert_eq!(http::local(other.port, "GET", target, &[], b"").unwrap().status, 404);
        let ran = docker.run(&["save", &reference, "-o", "/dev/null"]);
        assert_ne!(ran.code, 0, "a damaged layer was saved");
    });
}

/// Lines in any order, without the digest: Docker's gzip has other bytes than ours.
fn lines(text: &str) -> Vec<String> {
    let cut = |line: &str| match line.split_once(" digest: sha256:") {
        Some((tag, rest)) => format!("{tag} digest: …{}", &rest[64..]),
        None => line.to_string(),
    };
    let mut lines: Vec<String> = text.lines().map(cut).collect();
    lines.sort();
    lines
}

#[test]
fn beside_docker() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: no dockerd here");
            return;
        }
        let ours = g.daemon();
        let docker = g.start(Kind::Docker, &["--bridge=none", "--iptables=false"]);
        let locked = Registry::with_password().unwrap();
        let image = two_layers().into_schema2();
        let reference = g.registry.push("two", "v1", &image).unwrap();
        let other = Registry::start().unwrap();
        let run = |daemon: &Daemon, name: &str| {
            let client: Client = daemon.docker();
            client.ok(&["pull", "-q", &reference]);
            let mut said = Vec::new();
            let mut go = |arguments: &[&str]| {
                let ran = client.run(arguments);
                said.push((arguments.join(" "), ran.code, lines(&ran.out), ran.err));
            };
            let (there, denied) = (format!("{}:v1", other.name(name)), format!("{}:v1", locked.name("two")));
            go(&["tag", &reference, &there]);
            go(&["push", &there]);
            go(&["push", &there]);
            go(&["push", &other.name("nope")]);
            go(&["push", "-a", &other.name("nope")]);
            go(&["push", &format!("{}:nope", other.name(name))]);
            go(&["push", "-a", &other.name(name)]);
            go(&["tag", &reference, &format!("{}:v2", other.name(name))]);
            go(&["push", "-a", &other.name(name)]);
            go(&["tag", &reference, &denied]);
            go(&["push", &denied]);
            go(&["login", "-u", USER, "-p", "wrong", &locked.name("")]);
            go(&["login", "-u", USER, "-p", PASSWORD, &locked.name("")]);
            go(&["push", &denied]);
            go(&["push", "127.0.0.1:1/two:v1"]);
            go(&["tag", &reference, "127.0.0.1:1/two:v1"]);
            go(&["push", "127.0.0.1:1/two:v1"]);
            said
        };
        let mut differ = Vec::new();
        for (we, they) in run(&ours, "same").into_iter().zip(run(&docker, "same2")) {
            let text = |said: &(String, i32, Vec<String>, String)| {
                format!("{said:?}")
                    .replace("same2", "same")
                    .replace(&ours.dir().display().to_string(), "DIR")
                    .replace(&docker.dir().display().to_string(), "DIR")
            };
            if text(&we) != text(&they) {
                differ.push(format!("ours   {}\ndocker {}", text(&we), text(&they)));
            }
        }
        assert!(differ.is_empty(), "{}", differ.join("\n"));
    });
}
