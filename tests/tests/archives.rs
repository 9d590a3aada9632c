//! `save` and `load`, with the real client, with ours, and with archives of Docker's own daemon and of other makers.

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tests::daemon::Kind;
use tests::image::{self, Image, Layer, Tar, sha256};
use tests::{Client, Daemon, Ground, ground};

/// Directories that hold layers, records of layers, images, unfinished records, tags.
fn stored(daemon: &Daemon) -> (Vec<usize>, String) {
    let image = daemon.data_root().join("image/overlay2");
    let count = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().count();
    let counts = vec![
        count(&daemon.data_root().join("overlay2")),
        count(&daemon.data_root().join("overlay2/l")),
        count(&image.join("layerdb/sha256")),
        count(&image.join("layerdb/tmp")),
        count(&image.join("imagedb/content/sha256")),
    ];
    let tags = fs::read_to_string(image.join("repositories.json")).unwrap_or_default();
    // That there once was a name is no trace of an archive.
    (counts, tags.replace("{\"Repositories\":{}}", ""))
}

fn two_layers() -> Image {
    let base = image::busybox_layer().unwrap();
    let top = Tar::default()
        .dir("data", 0o755)
        .file("data/text", 0o640, &b"some text\n".repeat(50_000))
        .file("etc/.wh.group", 0o644, b"")
        .symlink("data/link", "text");
    Image::new(
        vec![base, Layer::gzip(&top.bytes())],
        json!({"Cmd": ["wc", "-c", "/data/text"]}),
    )
}

fn text(daemon: &Daemon, name: &str) -> String {
    daemon.dir().join(name).display().to_string()
}

/// The members of an archive with their content, in their order.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = oci::tar::Reader::new(bytes);
    let mut list = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
        list.push((String::from_utf8(entry.name).unwrap(), content));
    }
    list
}

fn packed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .args(["-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    Some(output.stdout)
}

fn remove_all(client: &Client) {
    for id in client.ok(&["images", "-aq", "--no-trunc"]).lines() {
        client.run(&["rmi", "-f", id]);
    }
    assert_eq!(client.ok(&["images", "-aq"]), "");
}

#[test]
fn there_and_back_with_both_clients() {
    ground::run(|g: &Ground| {
        let daemon = g.daemon();
        let (docker, cli) = (daemon.docker(), daemon.cli());
        let image = two_layers();
        let reference = g.registry.push("two", "v1", &image).unwrap();
        docker.ok(&["pull", "-q", &reference]);
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &reference, "one:a"]);
        docker.ok(&["tag", &reference, "one:b"]);
        let path = text(&daemon, "a.tar");
        docker.ok(&["save", "-o", &path, "one", &g.busybox]);
        let archive = fs::read(&path).unwrap();
        let found = members(&archive);
        for (name, content) in &found {
            if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                assert_eq!(sha256(content), format!("sha256:{hex}"));
            }
        }
        let manifest: Value = serde_json::from_slice(&found[0].1).unwrap();
        assert_eq!(found[0].0, "manifest.json");
        assert_eq!(manifest[0]["RepoTags"], json!(["one:a", "one:b"]));
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);

        // Our client writes the same bytes, and refuses what it must before it writes anything.
        let ours = text(&daemon, "b.tar");
        cli.ok(&["image", "save", "--output", &ours, "one", &g.busybox]);
        assert!(fs::read(&ours).unwrap() == archive, "the two archives differ");
        for wrong in [["save", "nope"], ["save", "one:nope"]] {
            assert_eq!(docker.run(&wrong), cli.run(&wrong), "{wrong:?}");
            assert_ne!(cli.run(&wrong).code, 0);
        }

        remove_all(&docker);
        let empty = stored(&daemon);
        let said = docker.ok(&["load", "-i", &path]);
        assert!(
            said.contains("Loaded image: one:a\nLoaded image: one:b\nLoaded image: "),
            "{said}"
        );
        assert_eq!(docker.ok(&["images", "-q", "--no-trunc", "one:a"]), image.id());
        assert_eq!(docker.ok(&["run", "--rm", "one:a"]), "500000 /data/text");
        let again = cli.ok(&["load", "-q", "-i", &path]);
        assert_eq!(again, said);
        // What is loaded is saved as the same bytes.
        cli.ok(&["save", "-o", &ours, "one", &g.busybox]);
        assert!(
            fs::read(&ours).unwrap() == archive,
            "the archive of what was loaded differs"
        );
        remove_all(&docker);
        assert_eq!(stored(&daemon), empty);

        for program in ["gzip", "zstd", "xz", "bzip2"] {
            let Some(bytes) = packed(program, &archive) else {
                println!("skipped: no {program} here");
                continue;
            };
            let loaded = docker.run_with(&["load"], &bytes);
            assert_eq!(
                (loaded.code, loaded.out.trim()),
                (0, &said[..]),
                "{program}: {}",
                loaded.err
            );
            remove_all(&docker);
        }
        assert_eq!(stored(&daemon), empty);
    });
}

#[test]
fn docker_reads_ours_and_we_read_dockers() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: no dockerd here");
            return;
        }
        let ours = g.daemon();
        let docker = g.start(Kind::Docker, &["--bridge=none", "--iptables=false"]);
        let image = two_layers();
        let reference = g.registry.push("two", "v1", &image).unwrap();
        let (we, they) = (ours.docker(), docker.docker());
        we.ok(&["pull", "-q", &reference]);
        we.ok(&["tag", &reference, "two:v1"]);
        let (from_us, from_them) = (text(&ours, "ours.tar"), text(&docker, "theirs.tar"));
        we.ok(&["save", "-o", &from_us, "two:v1"]);
        let said = they.ok(&["load", "-i", &from_us]);
        assert!(said.ends_with("Loaded image: two:v1"), "{said}");
        assert_eq!(they.ok(&["images", "-q", "--no-trunc", "two:v1"]), image.id());
        they.ok(&["tag", "two:v1", "two:other"]);
        they.ok(&["save", "-o", &from_them, "two"]);
        remove_all(&we);
        let said = we.ok(&["load", "-i", &from_them]);
        assert_eq!(said, "Loaded image: two:other\nLoaded image: two:v1");
        assert_eq!(we.ok(&["images", "-q", "--no-trunc", "two:other"]), image.id());
        assert_eq!(we.ok(&["run", "--rm", "--network=none", "two:v1"]), "500000 /data/text");
        // The same words for what is not there, and for what is no archive.
        for wrong in [&["save", "nope"][..], &["save", "nope:v1"], &["save", "two:nope"]] {
            assert_eq!(we.run(wrong), they.run(wrong), "{wrong:?}");
        }
    });
}

/// What other programs write: skopeo's names and links, gzip in the docker form, an OCI layout, the oldest form.
#[test]
fn archives_of_other_makers() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let layers: Vec<Vec<u8>> = ["one", "two"]
            .iter()
            .map(|text| Tar::default().file(text, 0o644, text.as_bytes()).bytes())
            .collect();
        let made = Image::new(
            layers.iter().map(|tar| Layer::plain(tar)).collect(),
            json!({"Cmd": ["x"]}),
        );
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_string();
        let (config, a, b) = (hex(&made.id()), hex(&sha256(&layers[0])), hex(&sha256(&layers[1])));
        let manifest = json!([{"Config": format!("{config}.json"), "RepoTags": ["made:1"],
            "Layers": [format!("{a}.tar"), format!("{b}.tar")]}]);
        // Upper layer first, a link between, the description last.
        let skopeo = Tar::default()
            .file(&format!("{b}.tar"), 0o644, &layers[1])
            .symlink("x/layer.tar", &format!("../{a}.tar"))
            .file(&format!("{a}.tar"), 0o644, &layers[0])
            .file(&format!("{config}.json"), 0o644, &made.config)
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .bytes();
        let by_links = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["x/layer.tar", "y/layer.tar"]}]);
        let linked = Tar::default()
            .symlink("x/layer.tar", "../z/a")
            .file("z/a", 0o644, &Layer::gzip(&layers[0]).blob)
            .file("y/layer.tar", 0o644, &Layer::gzip(&layers[1]).blob)
            .file("c.json", 0o644, &made.config)
            .file("manifest.json", 0o644, by_links.to_string().as_bytes())
            .bytes();
        let zipped = Image::new(
            layers.iter().map(|tar| Layer::gzip(tar)).collect(),
            json!({"Cmd": ["x"]}),
        );
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": image::MANIFEST, "digest": sha256(b"absent"), "size": 6,
             "platform": {"os": "unknown", "architecture": "unknown"}},
            {"mediaType": image::MANIFEST, "digest": zipped.digest(), "size": zipped.manifest.len(),
             "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/made:1"}}]});
        let blob = |digest: &str| format!("blobs/sha256/{}", hex(digest));
        let layout = Tar::default()
            .file("oci-layout", 0o644, b"{\"imageLayoutVersion\":\"1.0.0\"}")
            .file(&blob(&zipped.layers[1].digest), 0o644, &zipped.layers[1].blob)
            .file(&blob(&zipped.layers[0].digest), 0o644, &zipped.layers[0].blob)
            .file(&blob(&zipped.id()), 0o644, &zipped.config)
            .file(&blob(&zipped.digest()), 0o644, &zipped.manifest)
            .file("index.json", 0o644, index.to_string().as_bytes())
            .bytes();
        let empty = stored(&daemon);
        let mut twice = Vec::new();
        for (name, bytes, said) in [
            ("skopeo", &skopeo, "Loaded image: made:1".to_string()),
            ("linked", &linked, format!("Loaded image ID: {}", made.id())),
            ("layout", &layout, "Loaded image: made:1".to_string()),
        ] {
            // Once on nothing, once on itself.
            for round in 0..2 {
                let ran = docker.run_with(&["load", "-q"], bytes);
                assert_eq!(
                    (ran.code, ran.out.trim()),
                    (0, &said[..]),
                    "{name} {round}: {}",
                    ran.err
                );
                assert_eq!(docker.ok(&["images", "-aq", "--no-trunc"]), made.id(), "{name}");
                twice.push(stored(&daemon).0);
            }
            remove_all(&docker);
            assert_eq!(stored(&daemon), empty, "{name}");
        }
        assert!(twice.windows(2).all(|pair| pair[0] == pair[1]), "{twice:?}");

        // The oldest form; and a tag that another image has already.
        let (top, bottom) = ("1".repeat(64), "2".repeat(64));
        let old = |id: &str, parent: Option<&str>| {
            json!({"id": id, "parent": parent, "created": "2014-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
                "config": {"Cmd": ["x"]}, "container_config": {"Cmd": ["/bin/sh", "-c", "make"]}, "Size": 3})
            .to_string()
        };
        let legacy = Tar::default()
            .file(&format!("{top}/layer.tar"), 0o644, &layers[1])
            .file(&format!("{top}/json"), 0o644, old(&top, Some(&bottom)).as_bytes())
            .file(&format!("{top}/VERSION"), 0o644, b"1.0")
            .file(&format!("{bottom}/layer.tar"), 0o644, &layers[0])
            .file(&format!("{bottom}/json"), 0o644, old(&bottom, None).as_bytes())
            .file(
                "repositories",
                0o644,
                json!({"made": {"1": top}}).to_string().as_bytes(),
            )
            .bytes();
        docker.run_with(&["load"], &skopeo);
        let ran = docker.run_with(&["load"], &legacy);
        let renamed = format!(
            "The image made:1 already exists, renaming the old one with ID {} to empty string\nLoaded image: made:1\n",
            made.id()
        );
        assert_eq!((ran.code, &ran.out[..]), (0, &renamed[..]), "{}", ran.err);
        let shown: Value = serde_json::from_str(&docker.ok(&["inspect", "made:1"])).unwrap();
        assert_eq!(
            shown[0]["RootFS"]["Layers"],
            json!([format!("sha256:{a}"), format!("sha256:{b}")])
        );
        assert_eq!(
            docker.ok(&["history", "--format", "{{.CreatedBy}}", "made:1"]),
            "/bin/sh -c make\n/bin/sh -c make"
        );
    });
}

/// The config of an image in the oldest form is made up; its ID is Docker's all the same: with white space in the
/// description, of a Docker so old that it is written anew, and whatever the word `throwaway` says.
#[test]
fn the_oldest_form_has_the_ids_of_docker() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: no dockerd here");
            return;
        }
        let ours = g.daemon();
        let docker = g.start(Kind::Docker, &["--bridge=none", "--iptables=false"]);
        let id = "1".repeat(64);
        let layer = Tar::default().file("one", 0o644, b"one").bytes();
        let descriptions = [
            json!({"created": "2015-01-02T03:04:05.120000001Z", "docker_version": "1.9.1", "throwaway": true,
                "config": {"Cmd": ["a && b", "<c>"], "Other": null}, "os": "linux", "author": "me <x>", "Size": 3}),
            json!({"created": "2014-01-02T03:04:05.120Z", "docker_version": "1.6.2", "comment": "a&b", "checksum": "x",
                "config": {"Cmd": ["x"], "Memory": 0, "ExposedPorts": {"80/tcp": {}}, "Labels": {"b": "", "a": "<"}},
                "container_config": {"Cmd": ["/bin/sh", "-c", "make"]}, "architecture": "amd64", "container": "c"}),
            json!({"created": "2014-01-02T03:04:05+02:00", "architecture": "arm", "os": "linux"}),
        ];
        for mut description in descriptions {
            description["id"] = id.clone().into();
            let spaced = serde_json::to_string_pretty(&description).unwrap();
            let archive = Tar::default()
                .file(&format!("{id}/layer.tar"), 0o644, &layer)
                .file(&format!("{id}/json"), 0o644, spaced.as_bytes())
                .file(&format!("{id}/VERSION"), 0o644, b"1.0")
                .file(
                    "repositories",
                    0o644,
                    format!(r#"{{"made":{{"1":"{id}"}}}}"#).as_bytes(),
                )
                .bytes();
            let ids = [&ours, &docker].map(|daemon| {
                let client = daemon.docker();
                let ran = client.run_with(&["load", "-q"], &archive);
                assert_eq!(ran.code, 0, "{}", ran.err);
                let id = client.ok(&["images", "-q", "--no-trunc", "made:1"]);
                remove_all(&client);
                id
            });
            assert_eq!(ids[0], ids[1], "{description}");
        }
    });
}

/// An index that lists the images of several platforms under one name means that of this one, or the one asked for;
/// and what goes wrong is the last line of the answer, where clients look for it, not its status.
#[test]
fn an_index_of_several_platforms() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let platforms = [image::architecture(), "s390x"];
        let images = platforms.map(|architecture| {
            let layer = Tar::default().file(architecture, 0o644, b"").bytes();
            Image::for_platform(vec![Layer::plain(&layer)], json!({}), architecture, "")
        });
        let entries: Vec<Value> = images
            .iter()
            .zip(platforms)
            .map(|(image, architecture)| {
                json!({"mediaType": image::MANIFEST, "digest": image.digest(), "size": image.manifest.len(),
                "platform": {"os": "linux", "architecture": architecture},
                "annotations": {"io.containerd.image.name": "docker.io/library/both:1"}})
            })
            .collect();
        let blob = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        let mut archive = Tar::default();
        for image in &images {
            archive = archive
                .file(&blob(&image.layers[0].digest), 0o644, &image.layers[0].blob)
                .file(&blob(&image.id()), 0o644, &image.config)
                .file(&blob(&image.digest()), 0o644, &image.manifest);
        }
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let archive = archive.file("index.json", 0o644, index.as_bytes()).bytes();
        for (wanted, image) in [(&[][..], &images[0]), (&["--platform", "linux/s390x"], &images[1])] {
            let ran = docker.run_with(&[&["load"], wanted].concat(), &archive);
            assert_eq!(
                (ran.code, ran.out.lines().last()),
                (0, Some("Loaded image: both:1")),
                "{}",
                ran.err
            );
            assert_eq!(docker.ok(&["images", "-aq", "--no-trunc"]), image.id(), "{wanted:?}");
            remove_all(&docker);
        }
        let answer = daemon.api("POST", "/images/load", "no archive");
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .text()
                .starts_with(r#"{"errorDetail":{"message":"invalid archive"#),
            "{}",
            answer.text()
        );
    });
}

/// A layer may be a file of no bytes.
#[test]
fn a_tar_of_nothing() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let image = Image::new(vec![Layer::plain(b""), Layer::plain(b"")], json!({}));
        let name = |layer: &Layer| json!(format!("{}/layer.tar", layer.digest.trim_start_matches("sha256:")));
        let names: Vec<Value> = image.layers.iter().map(name).collect();
        let manifest = json!([{"Config": "c.json", "RepoTags": ["nothing:1"], "Layers": names}]);
        let archive = Tar::default()
            .file("c.json", 0o644, &image.config)
            .file(names[0].as_str().unwrap(), 0o644, b"")
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .bytes();
        for _ in 0..2 {
            let ran = docker.run_with(&["load", "-q"], &archive);
            assert_eq!(
                (ran.code, ran.out.trim()),
                (0, "Loaded image: nothing:1"),
                "{}",
                ran.err
            );
            assert_eq!(docker.ok(&["images", "-q", "--no-trunc"]), image.id());
        }
    });
}

/// From a web server, whole, cut short, and from where there is none.
#[test]
fn imports_from_a_url() {
    ground::run(|g| {
        let image = two_layers();
        let reference = g.registry.push("two", "v1", &image).unwrap();
        let host = reference.split('/').next().unwrap();
        let layer = format!("http://{host}/v2/two/blobs/{}", image.layers[0].digest);
        let absent = layer.replace("/blobs/sha256:", "/blobs/sha256:0");
        let commands = [
            format!("import -c CMD_[\"cat\",\"/etc/passwd\"] {layer} here:1"),
            "inspect -f {{.Comment}}|{{.Config.Cmd}}|{{json_.RootFS.Layers}} here:1".into(),
            "run --rm --network none here:1".into(),
            format!("import {absent}"),
            "import http://127.0.0.1:1/none.tar".into(),
            "images -q none".into(),
        ];
        tests::compare::compare(g, &commands.iter().map(String::as_str).collect::<Vec<_>>());
        // A server that says how much it has, and stops before.
        let daemon = g.daemon();
        let empty = stored(&daemon);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cut.tar", listener.local_addr().unwrap());
        let tar = Tar::default().file("big", 0o644, &vec![7; 1 << 20]).bytes();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", tar.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&tar[..tar.len() / 2]).unwrap();
        });
        let ran = daemon.cli().run(&["import", &url]);
        serving.join().unwrap();
        assert_eq!((ran.code, ran.out), (1, format!("Downloading from {url}\n")));
        assert!(ran.err.contains("unexpected end of file"), "{}", ran.err);
        assert_eq!(stored(&daemon), empty);
    });
}

/// One layer in the chains of two images, on different parents, and twice in one.
#[test]
fn a_layer_in_several_places() {
    ground::run(|g| {
        let daemon = g.daemon();
        let docker = daemon.docker();
        let tar = |name: &str| Tar::default().file(name, 0o644, name.as_bytes()).bytes();
        let (a, b, c) = (tar("a"), tar("b"), tar("c"));
        let image = |list: &[&Vec<u8>]| Image::new(list.iter().map(|tar| Layer::plain(tar)).collect(), json!({}));
        let (first, second, third) = (image(&[&a, &c]), image(&[&b, &c]), image(&[&c, &a, &c]));
        let item = |name: &str, layers: &[&str]| json!({"Config": format!("{name}.json"), "RepoTags": [format!("{name}:1")], "Layers": layers});
        let manifest = json!([
            item("x", &["a", "c"]),
            item("y", &["b", "c"]),
            item("z", &["c", "a", "c"])
        ]);
        let archive = Tar::default()
            .file("c", 0o644, &c)
            .file("b", 0o644, &b)
            .file("a", 0o644, &a)
            .file("x.json", 0o644, &first.config)
            .file("y.json", 0o644, &second.config)
            .file("z.json", 0o644, &third.config)
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .bytes();
        let empty = stored(&daemon);
        let ran = docker.run_with(&["load"], &archive);
        assert_eq!(ran.code, 0, "{}", ran.err);
        for (name, image) in [("x:1", &first), ("y:1", &second), ("z:1", &third)] {
            assert_eq!(docker.ok(&["images", "-q", "--no-trunc", name]), image.id());
        }
        let path = text(&daemon, "z.tar");
        docker.ok(&["save", "-o", &path, "x:1", "y:1", "z:1"]);
        remove_all(&docker);
        assert_eq!(stored(&daemon), empty);
        docker.ok(&["load", "-i", &path]);
        assert_eq!(docker.ok(&["images", "-q", "--no-trunc", "z:1"]), third.id());
    });
}

/// Nothing of a hostile archive stays, and each is refused with a reason.
#[test]
fn hostile_archives_leave_nothing() {
    ground::run(|g| {
        let mut daemon = g.daemon();
        let docker = daemon.docker();
        let layer = Tar::default().file("f", 0o644, b"content").bytes();
        let other = Tar::default().file("f", 0o644, b"contenT").bytes();
        let image = Image::new(vec![Layer::plain(&layer)], json!({}));
        let manifest = |layers: Value| {
            json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": layers}])
                .to_string()
                .into_bytes()
        };
        let good = manifest(json!(["l.tar"]));
        let whole = |tar: Tar, manifest: &[u8]| {
            tar.file("c.json", 0o644, &image.config)
                .file("manifest.json", 0o644, manifest)
                .bytes()
        };
        let fine = whole(Tar::default().file("l.tar", 0o644, &layer), &good);
        let mut flipped = layer.clone();
        flipped[600] ^= 1;
        let escape = Tar::default()
            .symlink("out", "/")
            .file("out/../../../../tmp/balena-was-here", 0o644, b"x")
            .bytes();
        let escaping = Image::new(vec![Layer::plain(&escape)], json!({}));
        let long = "d/".repeat(3000);
        let deep = Tar::default().file(&format!("{long}f"), 0o644, b"x").bytes();
        let deep_image = Image::new(vec![Layer::plain(&deep)], json!({}));
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("nothing", Vec::new(), "does not contain a manifest.json"),
            (
                "noise",
                b"hello, this is no archive at all".repeat(100),
                "invalid archive",
            ),
            ("cut", fine[..fine.len() / 3].to_vec(), "unexpected end of archive"),
            (
                "other content",
                whole(Tar::default().file("l.tar", 0o644, &other), &good),
                "invalid diffID for layer 0",
            ),
            (
                "flipped bit",
                whole(Tar::default().file("l.tar", 0o644, &flipped), &good),
                "invalid diffID for layer 0",
            ),
            (
                "blob is not its name",
                whole(
                    Tar::default().file(&format!("blobs/sha256/{}", "1".repeat(64)), 0o644, &layer),
                    &good,
                ),
                "the digest of blobs/sha256/1111",
            ),
            (
                "links in a circle",
                whole(
                    Tar::default().symlink("l.tar", "m.tar").symlink("m.tar", "l.tar"),
                    &good,
                ),
                "too many levels of symbolic links",
            ),
            (
                "a link outside",
                whole(Tar::default().symlink("l.tar", "../../etc/passwd"), &good),
                "leads out of it",
            ),
            (
                "a layer outside",
                whole(
                    Tar::default().file("l.tar", 0o644, &layer),
                    &manifest(json!(["../l.tar"])),
                ),
                "leads out of it",
            ),
            (
                "no such layer",
                whole(Tar::default().file("l.tar", 0o644, &layer), &manifest(json!(["m.tar"]))),
                "has no layer m.tar",
            ),
            (
                "more layers than the config",
                whole(
                    Tar::default().file("l.tar", 0o644, &layer),
                    &manifest(json!(["l.tar", "l.tar"])),
                ),
                "layers length mismatch",
            ),
            (
                "a name that is none",
                whole(
                    Tar::default().file("l.tar", 0o644, &layer),
                    json!([{"Config": "c.json", "RepoTags": ["../x"], "Layers": ["l.tar"]}])
                        .to_string()
                        .as_bytes(),
                ),
                "invalid reference format",
            ),
            (
                "descriptions without end",
                (0..5)
                    .fold(Tar::default(), |tar, n| {
                        tar.file(
                            &format!("{n}.json"),
                            0o644,
                            &[b"[1".to_vec(), vec![b' '; 4 << 20]].concat(),
                        )
                    })
                    .bytes(),
                "descriptions are larger",
            ),
            (
                "a path beyond the kernel's",
                Tar::default()
                    .file("l.tar", 0o644, &deep)
                    .file("c.json", 0o644, &deep_image.config)
                    .file("manifest.json", 0o644, &good)
                    .bytes(),
                "name too long",
            ),
        ];
        let empty = stored(&daemon);
        for (name, bytes, why) in cases {
            let ran = docker.run_with(&["load"], &bytes);
            assert_ne!(ran.code, 0, "{name}: {}", ran.out);
            assert!(ran.err.contains(why), "{name}: {}{}", ran.out, ran.err);
            assert_eq!(stored(&daemon), empty, "{name}");
        }
        // Names that lead out of a layer lead to its own root.
        let archive = Tar::default()
            .file("l.tar", 0o644, &escape)
            .file("c.json", 0o644, &escaping.config)
            .file("manifest.json", 0o644, &good)
            .bytes();
        docker.run_with(&["load"], &archive);
        assert!(!Path::new("/tmp/balena-was-here").exists());
        remove_all(&docker);
        assert_eq!(stored(&daemon), empty);
        // A client that leaves in the middle, and a daemon that dies in it.
        let slow = Tar::default().file("big", 0o644, &vec![7; 30 << 20]).bytes();
        let slow = Tar::default().file("l.tar", 0o644, &slow).bytes();
        let mut child = docker
            .command(&["load"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&slow[..20 << 20]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stdin);
        let gone = || stored(&daemon) == empty;
        assert!(
            tests::client::within(std::time::Duration::from_secs(10), gone),
            "{:?}",
            stored(&daemon)
        );
        let mut child = docker
            .command(&["load"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&slow[..20 << 20]).unwrap();
        daemon.kill();
        drop(stdin);
        child.wait().unwrap();
        daemon.up().unwrap();
        let swept = || stored(&daemon) == empty;
        assert!(
            tests::client::within(std::time::Duration::from_secs(10), swept),
            "{:?}",
            stored(&daemon)
        );
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}
