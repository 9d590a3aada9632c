//! `manifest`: lists of images are made, shown and pushed as docker's client does it, in the same files, without a daemon.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tests::client::{Ran, finish, within};
use tests::image::{INDEX, Image, Layer, SCHEMA2, Tar, sha256};
use tests::registry::{PASSWORD, USER, forward};
use tests::{Client, Ground, Registry, ground, http};

const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A client with a home of its own and no daemon. Ours is called `docker`, too, for its own name is in some texts.
struct Side {
    client: Client,
    home: TempDir,
}

impl Side {
    fn docker() -> Side {
        Side::new(|_| "docker".into())
    }

    fn ours(g: &Ground) -> Side {
        Side::new(|home| {
            let name = home.join("docker");
            std::os::unix::fs::symlink(&g.binary, &name).unwrap();
            name
        })
    }

    fn new(program: impl FnOnce(&Path) -> PathBuf) -> Side {
        let home = tempfile::tempdir().unwrap();
        let client = Client::new(program(home.path()), &home.path().join("no-daemon"), home.path());
        Side { client, home }
    }

    /// Runs a line, in which `R/…` is on a registry.
    fn say(&self, line: &str, registry: &str) -> Ran {
        let words: Vec<String> = line.split(' ').map(|word| named(word, registry)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.client.run(&[&["manifest"], &words[..]].concat())
    }

    fn lists(&self) -> PathBuf {
        self.home.path().join(".docker/manifests")
    }

    /// The same with some of its environment.
    fn say_with(&self, line: &str, registry: &str, environment: &[(&str, &str)]) -> Ran {
        let words: Vec<String> = line.split(' ').map(|word| named(word, registry)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.client.command(&[&["manifest"], &words[..]].concat());
        command.envs(environment.iter().copied());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        finish(child, Duration::from_secs(60))
    }

    fn configure(&self, config: &Value) {
        let directory = self.home.path().join(".docker");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
    }

    /// All files of the store, a registry's port left out.
    fn store(&self, port: u16) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let port = port.to_string();
        for list in fs::read_dir(self.lists()).into_iter().flatten().flatten() {
            let name = list.file_name().into_string().unwrap().replace(&port, "PORT");
            assert!(list.path().is_dir(), "{name} is left over");
            for image in fs::read_dir(list.path()).unwrap().flatten() {
                let file = image.file_name().into_string().unwrap().replace(&port, "PORT");
                let text = fs::read_to_string(image.path()).unwrap().replace(&port, "PORT");
                files.insert(format!("{name}/{file}"), text);
            }
        }
        files
    }
}

/// `R/app:1` on a registry.
fn named(word: &str, registry: &str) -> String {
    match word.strip_prefix("R/") {
        Some(rest) => format!("{registry}/{rest}"),
        None => word.to_string(),
    }
}

fn layer(text: &str) -> Layer {
    Layer::gzip(&Tar::default().file("f", 0o644, text.as_bytes()).bytes())
}

fn image(architecture: &str, variant: &str) -> Image {
    Image::for_platform(vec![layer(architecture)], json!({}), architecture, variant)
}

/// Puts an image whose config and manifest are written here.
fn put(registry: &Registry, name: (&str, &str), media_type: &str, config: &str, manifest: impl Fn(Value) -> String) {
    registry.put_blob(name.0, config.as_bytes()).unwrap();
    let config = json!({"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": sha256(config.as_bytes())});
    let text = manifest(config);
    registry
        .put_manifest(name.0, name.1, media_type, text.as_bytes())
        .unwrap();
}

/// Images of all kinds, and what is none.
fn fill(registry: &Registry) {
    for (repository, tag, image) in [
        ("app", "amd64", image("amd64", "").into_schema2()),
        ("app", "arm", image("arm", "v7").into_schema2()),
        ("app", "oci", image("amd64", "")),
        ("app", "a-oci", image("arm64", "v8")),
        ("other", "oci", image("arm64", "v8")),
        ("other", "386", image("386", "").into_schema2()),
        ("a/b", "1", image("arm", "v6").into_schema2()),
    ] {
        registry.push(repository, tag, &image).unwrap();
    }
    let indented = |config: Value| {
        let manifest = json!({"schemaVersion": 2, "mediaType": SCHEMA2, "config": config, "layers": [],
            "annotations": {"x": "&<>\u{2028}é\"\u{7f}"}, "unknown": [1.0, 1e3]});
        serde_json::to_string_pretty(&manifest).unwrap()
    };
    for (tag, config) in [
        (
            "odd",
            r#"{"architecture":"arm","os":"linux","os.features":null,"variant":"v5<","OS.version":"q"}"#,
        ),
        ("none", "{}"),
        (
            "windows",
            r#"{"architecture":"amd64","os":"windows","os.version":"10.0.1","os.features":["win32k"]}"#,
        ),
    ] {
        put(registry, ("app", tag), SCHEMA2, config, indented);
    }
    let untyped = |config: Value| {
        json!({"schemaVersion": 2, "config": config, "layers": [], "annotations": {"a": "b"}}).to_string()
    };
    let oci = "application/vnd.oci.image.manifest.v1+json";
    put(
        registry,
        ("app", "untyped"),
        oci,
        "{\"architecture\":\"arm\",\"os\":\"linux\"}",
        untyped,
    );
    for (tag, media_type, images) in [
        (
            "list",
            LIST,
            [image("amd64", "").into_schema2(), image("arm", "v7").into_schema2()],
        ),
        ("index", INDEX, [image("amd64", ""), image("arm64", "v8")]),
    ] {
        let platforms = [
            json!({"architecture": "amd64", "os": "linux"}),
            json!({"architecture": "arm", "os": "linux", "variant": "of the list"}),
        ];
        let entries = images.iter().zip(platforms).map(|(image, platform)| {
            json!({"mediaType": image.media_type, "digest": image.digest(), "size": image.manifest.len(), "platform": platform})
        });
        let text = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries.collect::<Vec<_>>()});
        registry
            .put_manifest("app", tag, media_type, text.to_string().as_bytes())
            .unwrap();
    }
}

/// What a registry has under a name, as it is.
fn pushed(registry: &Registry, repository: &str, tag: &str) -> (u16, String, String) {
    let accept = format!("{LIST}, {INDEX}, {SCHEMA2}, application/vnd.oci.image.manifest.v1+json");
    let target = format!("/v2/{repository}/manifests/{tag}");
    let answer = http::local(registry.port, "GET", &target, &[("Accept", &accept)], b"").unwrap();
    let kind = answer.header("content-type").unwrap_or_default().to_string();
    (answer.status, kind, answer.text())
}

const LINES: &[&str] = &[
    "create l",
    "rm",
    "push",
    "push a b",
    "annotate a",
    "inspect",
    "inspect a b c",
    "push --foo x",
    "foo",
    "create R/app:l1 R/app:amd64",
    "create --insecure R/app:l1 R/app:amd64 R/app:arm",
    "create --insecure R/app:l1 R/app:amd64 R/app:arm",
    "create --insecure -a R/app:l1 R/other:oci R/other:386",
    "inspect R/app:l1",
    "inspect -v R/app:l1",
    "inspect R/app:l1 R/app:arm",
    "inspect -v R/app:l1 R/other:oci",
    "inspect R/app:l1 R/app:nothing",
    "push R/app:l1",
    "push --insecure R/app:l1",
    // The first by name decides what kind of list it is.
    "create --insecure R/app:l2 R/app:oci R/app:arm",
    "push R/app:l2",
    "create --insecure R/app:l2i R/app:a-oci R/app:arm",
    "inspect R/app:l2i",
    "push R/app:l2i",
    // Of another repository, all new to this one.
    "create --insecure R/fresh/one:l R/app:amd64 R/app:oci R/other:386",
    "push --purge R/fresh/one:l",
    "push --purge R/fresh/one:l",
    // What their configs do not say.
    "create --insecure R/app:l3 R/app:none R/app:odd R/app:windows R/app:untyped",
    "push -p R/app:l3",
    "inspect R/app:l3",
    "annotate R/app:l3 R/app:none --os linux",
    "annotate R/app:l3 R/app:none --os linux --arch vax",
    "annotate R/app:l3 R/app:none --os linux --arch arm --variant v6 --os-features a,b --os-features c --os-features a --os-version 1",
    "annotate R/app:l3 R/app:odd --os-features= --variant=",
    "annotate R/app:l3 R/app:odd --arch riscv64",
    "annotate R/app:l3 R/app:odd --arch loong64",
    "annotate R/app:l3 R/app:windows --arch arm",
    "annotate R/app:l3 R/app:nothing --os linux --arch arm",
    "annotate R/app:nothing R/app:odd --os linux --arch arm",
    "inspect R/app:l3",
    "inspect -v R/app:l3",
    "inspect R/app:l3 R/app:odd",
    "inspect -v R/app:l3 R/app:odd",
    "push -p R/app:l3",
    "rm R/app:l3 R/app:l2 App R/app:l2i",
    "rm x y:z q@sha256:12",
    "push x",
    "push X",
    "inspect X",
    "inspect x X",
    "inspect X x",
    "create X x",
    "create x X",
    "annotate App Foo",
    "annotate app Foo",
    "create --insecure R/app:l4 R/app:list",
    "create --insecure R/app:l4 R/app:index",
    "create --insecure R/app:l4 R/app:amd64",
    "create --insecure --amend R/app:l4 R/app:nothing",
    "create --insecure --amend R/app:l4 R/nothing:1",
    "create --amend R/app:l4 R/app:amd64",
    "create --amend R/app:l4 R/app:arm",
    "annotate R/app:l4 R/app:amd64 --variant v3",
    "create --amend R/app:l4 R/app:amd64",
    "inspect R/app:l4",
    "create --insecure elsewhere.example/app:l R/app:amd64",
    "push elsewhere.example/app:l",
    "inspect elsewhere.example/app:l",
    "inspect -v elsewhere.example/app:l",
    "create 127.0.0.1:1/app:l 127.0.0.1:1/app:1",
    "create --insecure 127.0.0.1:1/app:l 127.0.0.1:1/app:1",
    "inspect 127.0.0.1:1/app",
    "create --insecure 127.0.0.1:1/app:l R/app:amd64",
    "inspect R/app:amd64",
    "inspect R/app:nothing",
    "inspect --insecure R/app:nothing",
    "inspect --insecure R/app:amd64",
    "inspect --insecure -v R/app:amd64",
    "inspect --insecure R/app:odd",
    "inspect --insecure -v R/app:odd",
    "inspect --insecure R/app:untyped",
    "inspect --insecure -v R/app:untyped",
    "inspect --insecure R/app:oci",
    "inspect --insecure -v R/app:none",
    "inspect --insecure R/app:list",
    "inspect --insecure -v R/app:list",
    "inspect --insecure R/app:index",
    "inspect --insecure -v R/app:index",
];

/// The same lines with docker's client and ours, each on a registry of its own: what they say and how they end, the files
/// that they keep, and what is on the registry afterwards.
#[test]
fn lists_are_dockers() {
    ground::run(|g| {
        let sides = [Side::docker(), Side::ours(g)].map(|side| {
            let registry = Registry::start().unwrap();
            fill(&registry);
            (side, registry)
        });
        let arm = image("arm", "v7").into_schema2().digest();
        let by_digest = [
            format!("create --insecure R/app:l5 R/app@{arm} R/app:arm@{arm}"),
            "push R/app:l5".to_string(),
            format!("create --insecure R/app@{arm} R/app:amd64"),
            format!("push R/app@{arm}"),
            format!("inspect --insecure R/other@{arm}"),
            format!("inspect --insecure -v R/app:arm@{arm}"),
        ];
        for line in LINES.iter().copied().chain(by_digest.iter().map(String::as_str)) {
            let [theirs, ours] = sides.each_ref().map(|(side, registry)| {
                let port = registry.port.to_string();
                let ran = side.say(line, &format!("127.0.0.1:{port}"));
                let said = format!("{}\n{}\n{}", ran.code, ran.out, ran.err).replace(&port, "PORT");
                (said, side.store(registry.port))
            });
            assert_eq!(ours.0, theirs.0, "{line}");
            assert_eq!(ours.1, theirs.1, "{line}");
        }
        let [(_, theirs), (_, ours)] = &sides;
        for (repository, tag) in [
            ("app", "l1"),
            ("app", "l2"),
            ("app", "l2i"),
            ("app", "l3"),
            ("app", "l5"),
            ("fresh/one", "l"),
        ] {
            let (status, kind, text) = pushed(ours, repository, tag);
            assert_eq!(status, 200, "{repository}:{tag}");
            assert_eq!(kind == INDEX, tag == "l2i", "{repository}:{tag}");
            assert_eq!(
                (status, kind, text.clone()),
                pushed(theirs, repository, tag),
                "{repository}:{tag}"
            );
            let list: Value = serde_json::from_str(&text).unwrap();
            for entry in list["manifests"].as_array().unwrap() {
                let digest = entry["digest"].as_str().unwrap();
                assert_eq!(pushed(ours, repository, digest).0, 200, "{repository}:{tag}: {digest}");
            }
        }
    });
}

/// A list that one client begins, the other goes on with; whoever it is, the same is pushed.
#[test]
fn each_goes_on_with_what_the_other_began() {
    ground::run(|g| {
        let mut made = Vec::new();
        for ours_first in [true, false] {
            let registry = Registry::start().unwrap();
            fill(&registry);
            let there = format!("127.0.0.1:{}", registry.port);
            let ours = Side::ours(g);
            let docker = Client::new("docker", &ours.home.path().join("no-daemon"), ours.home.path());
            let clients = match ours_first {
                true => [&ours.client, &docker],
                false => [&docker, &ours.client],
            };
            let lines = [
                "create --insecure R/both:l R/app:amd64 R/app:odd",
                "create --insecure --amend R/both:l R/other:oci",
                "annotate R/both:l R/app:odd --variant v5 --os-features x",
                "inspect R/both:l",
                "annotate R/both:l R/app:amd64 --os-version 7",
                "inspect -v R/both:l R/app:odd",
                "create --insecure --amend R/both:l R/app:odd",
                "push R/both:l",
                "inspect --insecure -v R/both:l",
                "rm R/both:l",
            ];
            let mut said = String::new();
            for (line, client) in lines.iter().zip(clients.iter().cycle()) {
                let words: Vec<String> = line.split(' ').map(|word| named(word, &there)).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                said += &client.ok(&[&["manifest"], &words[..]].concat());
            }
            assert_eq!(ours.store(registry.port), BTreeMap::new());
            let port = registry.port.to_string();
            made.push((said.replace(&port, "PORT"), pushed(&registry, "both", "l")));
        }
        assert_eq!(made[0].1.0, 200);
        assert_eq!(made[0], made[1]);
    });
}

/// What older clients keep, what is damaged, and two names that make one file.
#[test]
fn files_of_the_store() {
    ground::run(|g| {
        let registry = Registry::start().unwrap();
        fill(&registry);
        registry.push("a_b", "1", &image("amd64", "").into_schema2()).unwrap();
        let there = format!("127.0.0.1:{}", registry.port);
        let file = |side: &Side| {
            let list = side.lists().join(format!("127.0.0.1-{}_fresh-l", registry.port));
            list.join(format!("127.0.0.1-{}_app-amd64", registry.port))
        };
        let sides = [Side::docker(), Side::ours(g)];
        // Without the registry's own bytes they are made again, which fits or does not.
        for (tag, fits) in [("amd64", false), ("odd", false)] {
            let said = sides.each_ref().map(|side| {
                side.client.ok(&[
                    "manifest",
                    "create",
                    "--insecure",
                    &format!("{there}/fresh:l"),
                    &format!("{there}/app:{tag}"),
                ]);
                let path = file(side).with_file_name(format!("127.0.0.1-{}_app-{tag}", registry.port));
                let mut kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
                kept.as_object_mut().unwrap().remove("Raw");
                fs::write(&path, kept.to_string()).unwrap();
                let said = [
                    "push R/fresh:l",
                    "inspect R/fresh:l",
                    "create --insecure --amend R/fresh:l R/app:amd64",
                ]
                .map(|line| side.say(line, &there));
                assert_eq!(said[0].code == 0, fits, "{tag}: {}", said[0].err);
                side.client.ok(&["manifest", "rm", &format!("{there}/fresh:l")]);
                said
            });
            assert_eq!(said[0], said[1], "{tag}");
        }
        // Docker takes the one for the other and forgets it.
        let [_, ours] = &sides;
        let ran = ours.say("create --insecure R/fresh:l R/a/b:1 R/a_b:1", &there);
        assert!(
            ran.code == 1 && ran.err.contains("cannot both be in one list"),
            "{ran:?}"
        );
        ours.client.ok(&["manifest", "rm", &format!("{there}/fresh:l")]);
        // A list that cannot be read is told of by all but `rm`.
        assert_eq!(
            ours.say("create --insecure R/fresh:l R/app:amd64 R/app:arm", &there)
                .code,
            0
        );
        let whole = fs::read_to_string(file(ours)).unwrap();
        for broken in [
            &whole[..whole.len() / 2],
            "",
            "{}",
            "{\"Ref\":\"busybox\"}",
            &whole.replace("sha256:", "md5:"),
        ] {
            fs::write(file(ours), broken).unwrap();
            for line in [
                "inspect R/fresh:l",
                "push R/fresh:l",
                "create -a R/fresh:l R/app:arm",
                "annotate R/fresh:l R/app:amd64",
            ] {
                let ran = ours.say(line, &there);
                assert!(
                    ran.code == 1 && ran.err.contains("app-amd64: "),
                    "{line} on {broken}: {ran:?}"
                );
            }
        }
        // Another manifest than the digest says is not put.
        fs::write(
            file(ours),
            whole.replacen(&image("amd64", "").into_schema2().digest(), &sha256(b"x"), 1),
        )
        .unwrap();
        let ran = ours.say("push R/fresh:l", &there);
        assert!(
            ran.code == 1 && ran.err.starts_with("internal digest mismatch for "),
            "{ran:?}"
        );
        assert_eq!(pushed(&registry, "fresh", "l").0, 404);
        fs::write(file(ours), "{").unwrap();
        assert_eq!(ours.say("rm R/fresh:l", &there).code, 0);
        assert_eq!(fs::read_dir(ours.lists()).unwrap().count(), 0);
        // An empty directory is a list without images.
        for side in &sides {
            fs::create_dir_all(file(side).parent().unwrap()).unwrap();
        }
        for line in [
            "inspect R/fresh:l",
            "push R/fresh:l",
            "create --insecure R/fresh:l R/app:arm",
            "rm R/fresh:l",
        ] {
            let [theirs, ours] = sides.each_ref().map(|side| side.say(line, &there));
            assert_eq!(ours, theirs, "{line}");
        }
    });
}

/// Far registries without TLS, and ones that want a password: who is asked how, with `--insecure` and without.
#[test]
fn who_may_be_asked() {
    ground::run(|g| {
        let added = std::process::Command::new("ip")
            .args(["address", "add", "10.99.0.1/32", "dev", "lo"])
            .status();
        assert!(added.unwrap().success());
        fill(&g.registry);
        let far = format!("10.99.0.1:{}", forward("10.99.0.1", g.registry.port).unwrap());
        let sides = [Side::docker(), Side::ours(g)];
        let compare = |line: &str, there: &str| {
            let [theirs, ours] = sides.each_ref().map(|side| side.say(line, there));
            assert_eq!(ours, theirs, "{line}");
            ours
        };
        for (line, code) in [
            ("create R/far:l R/app:amd64", 1),
            ("inspect R/app:amd64", 1),
            ("inspect --insecure R/app:amd64", 0),
            ("create --insecure R/far:l R/app:amd64", 0),
            ("push R/far:l", 1),
            ("push --insecure R/far:l", 0),
        ] {
            assert_eq!(compare(line, &far).code, code, "{line}");
        }
        let locked = Registry::with_password().unwrap();
        let there = format!("127.0.0.1:{}", locked.port);
        let lines = [
            "create R/app:l R/app:1",
            "create --insecure R/app:l R/app:1",
            "inspect --insecure -v R/app:1",
            "push R/app:l",
        ];
        for password in [None, Some("wrong"), Some(PASSWORD)] {
            for side in &sides {
                let auth = oci::base64::encode(format!("{USER}:{}", password.unwrap_or_default()).as_bytes());
                let config = match password {
                    None => json!({}),
                    Some(_) => json!({"auths": {&there: {"auth": auth}}}),
                };
                side.configure(&config);
            }
            if password == Some(PASSWORD) {
                // There is something to be had now.
                let pushed = push_with_password(&locked, &image("arm", "v7"));
                assert_eq!(pushed, 201);
            }
            for line in lines {
                let good = password == Some(PASSWORD) && line != lines[0];
                assert_eq!(compare(line, &there).code == 0, good, "{line} with {password:?}");
            }
        }
        // The password is not good any more.
        for side in &sides {
            side.configure(&json!({}));
        }
        assert_eq!(compare("push R/app:l", &there).code, 1);
    });
}

fn push_with_password(registry: &Registry, image: &Image) -> u16 {
    let auth = format!("Basic {}", oci::base64::encode(format!("{USER}:{PASSWORD}").as_bytes()));
    let headers = [("Authorization", auth.as_str())];
    let blobs = image.layers.iter().map(|layer| &layer.blob).chain([&image.config]);
    for blob in blobs {
        let opened = http::local(registry.port, "POST", "/v2/app/blobs/uploads/", &headers, b"").unwrap();
        let place = opened.header("location").unwrap();
        let place = format!("/{}&digest={}", place.splitn(4, '/').nth(3).unwrap(), sha256(blob));
        let put = http::local(registry.port, "PUT", &place, &headers, blob).unwrap();
        assert_eq!(put.status, 201);
    }
    let headers = [headers[0], ("Content-Type", image.media_type.as_str())];
    let put = http::local(registry.port, "PUT", "/v2/app/manifests/1", &headers, &image.manifest).unwrap();
    put.status
}

/// Answers of a registry: status, content type, body, for a method and a target.
type Answers = dyn Fn(&str, &str) -> (u16, &'static str, Vec<u8>) + Send + Sync;

/// A registry's double that answers as it is told.
fn double(answers: Arc<Answers>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = answers.clone();
            // Who hangs up is free to.
            std::thread::spawn(move || drop(converse(stream, &*answers)));
        }
    });
    there
}

fn converse(mut out: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(out.try_clone()?);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, kind, body) = answers(method, target);
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        out.write_all(head.as_bytes())?;
        if method == "CONNECT" {
            // Who is behind it speaks no TLS.
            reader.fill_buf()?;
            return out.write_all(b"HTTP/1.0 400 x\r\n\r\n");
        }
        if method != "HEAD" {
            out.write_all(&body)?;
        }
    }
}

/// Registries that lie, or have too much: an error in a moment, bounded memory, and nothing is kept.
#[test]
fn hostile_registries() {
    ground::run(|g| {
        let side = Side::ours(g);
        let good = image("arm", "v7").into_schema2();
        let entry = json!({"mediaType": SCHEMA2, "size": good.manifest.len(), "digest": good.digest()});
        let list =
            |entries: Vec<Value>| json!({"schemaVersion": 2, "mediaType": LIST, "manifests": entries}).to_string();
        let nested = list(vec![entry.clone()]);
        let at = |digest: String| json!({"mediaType": SCHEMA2, "size": 9, "digest": digest});
        let with_config = |digest: &str, size: u64| {
            json!({"schemaVersion": 2, "mediaType": SCHEMA2, "config": {"mediaType": "x", "size": size, "digest": digest}, "layers": []}).to_string()
        };
        let config_digest = sha256(&good.config);
        let large = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "<".repeat(5 << 20));
        let cases: Vec<(&str, String, &str)> = vec![
            ("too large", large, "is larger than 4194304 bytes"),
            ("no JSON", "<html>".into(), "parse manifest"),
            ("deep", "[".repeat(1 << 20), "parse manifest"),
            ("many", list(vec![entry.clone(); 129]), "lists more than 128 images"),
            (
                "nested",
                list(vec![at(sha256(nested.as_bytes()))]),
                "unsupported manifest type",
            ),
            (
                "another digest",
                list(vec![at(sha256(b"x"))]),
                "manifest verification failed",
            ),
            (
                "a path for a digest",
                list(vec![json!({"size": 1, "digest": "../../../etc/passwd"})]),
                "invalid checksum digest",
            ),
            (
                "config too large",
                with_config(&config_digest, 9 << 20),
                "is larger than",
            ),
            (
                "config of another size",
                with_config(&config_digest, 7),
                "bytes where its descriptor says",
            ),
            (
                "another config",
                with_config(&sha256(b"x"), good.config.len() as u64),
                "verification failed",
            ),
            ("no config", with_config(&sha256(b"gone"), 4), "unknown blob"),
        ];
        for (what, manifest, expected) in cases {
            let (inner, config, gone) = (nested.clone(), good.config.clone(), sha256(b"gone"));
            let there = double(Arc::new(move |_, target: &str| {
                let kind = match manifest.contains("\"manifests\"") {
                    true => LIST,
                    false => SCHEMA2,
                };
                match target {
                    _ if target.ends_with("/manifests/1") => (200, kind, manifest.clone().into_bytes()),
                    _ if target.contains("/manifests/") => (200, LIST, inner.clone().into_bytes()),
                    _ if target.ends_with(&gone) => (
                        404,
                        "application/json",
                        br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#.to_vec(),
                    ),
                    _ if target.contains("/blobs/") => (200, "application/octet-stream", config.clone()),
                    _ => (200, "application/json", b"{}".to_vec()),
                }
            }));
            let ran = side.say("inspect --insecure R/app:1", &there);
            assert!(ran.code == 1 && ran.out.is_empty(), "{what}: {}", ran.err);
            assert!(ran.err.contains(expected), "{what}: {}", ran.err);
            let ran = side.say("create --insecure R/app:l R/app:1", &there);
            assert!(ran.code == 1 && ran.out.is_empty(), "{what}: {}", ran.err);
        }
        assert!(!side.lists().exists(), "nothing is kept");
        // One that takes all and tells of another digest.
        let good = Arc::new(good);
        let image = good.clone();
        let there = double(Arc::new(move |method, target: &str| match (method, target) {
            ("GET", _) if target.contains("/manifests/") => (200, SCHEMA2, image.manifest.clone()),
            ("GET", _) if target.contains("/blobs/") => (200, "x", image.config.clone()),
            // No mount: an upload without a place.
            ("POST", _) => (202, "x", Vec::new()),
            _ => (500, "x", b"no".to_vec()),
        }));
        assert_eq!(side.say("create --insecure R/app:l R/app:1", &there).code, 0);
        assert_eq!(side.say("create --insecure R/new:l R/app:1", &there).code, 0);
        let ran = side.say("push R/app:l", &there);
        assert!(
            ran.code == 1 && ran.err.starts_with("failed to put manifest "),
            "{}",
            ran.err
        );
        let ran = side.say("push --purge R/new:l", &there);
        let config = good.id();
        let expected = format!("error mounting app@{config} to {there}/new:l\n");
        assert_eq!((ran.code, ran.out.as_str(), ran.err), (1, "", expected));
        assert_eq!(side.say("inspect R/new:l", &there).code, 0, "it is still there");
        // Layers of Windows' own are on no registry: it is the registry's to say that something is missing.
        let line = "annotate R/new:l R/app:1 --os windows --arch amd64";
        assert_eq!(side.say(line, &there).code, 0);
        let ran = side.say("push R/new:l", &there);
        assert!(
            ran.code == 1 && ran.err.starts_with("failed to put manifest "),
            "{}",
            ran.err
        );
    });
}

/// The environment's proxy is asked, and a program that keeps the password.
#[test]
fn proxies_and_helpers() {
    ground::run(|g| {
        let sides = [Side::docker(), Side::ours(g)];
        let image = image("arm", "v7").into_schema2();
        let shown = String::from_utf8(image.manifest.clone()).unwrap();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = asked.clone();
        let proxy = double(Arc::new(move |method, target: &str| {
            heard.lock().unwrap().push(format!("{method} {target}"));
            match target.strip_prefix("http://far.example:5000/v2/") {
                Some("") => (200, "application/json", b"{}".to_vec()),
                Some(path) if path.starts_with("app/manifests/") => (200, SCHEMA2, image.manifest.clone()),
                Some(path) if path.starts_with("app/blobs/") => (200, "x", image.config.clone()),
                None if method == "CONNECT" => (200, "x", Vec::new()),
                _ => (502, "text/plain", b"no".to_vec()),
            }
        }));
        let proxy = format!("http://{proxy}");
        let environment = [("HTTP_PROXY", proxy.as_str()), ("HTTPS_PROXY", proxy.as_str())];
        for side in &sides {
            let ran = side.say_with("inspect --insecure R/app:1", "far.example:5000", &environment);
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert_eq!(
                serde_json::from_str::<Value>(&ran.out).unwrap(),
                serde_json::from_str::<Value>(&shown).unwrap()
            );
            let asked = std::mem::take(&mut *asked.lock().unwrap());
            let first = "CONNECT far.example:5000";
            assert!(asked[0].starts_with(first) && asked.len() > 2, "{asked:?}");
            let ran = side.say_with("inspect R/app:1", "far.example:5000", &environment);
            assert_eq!(ran.code, 1, "{}", ran.out);
        }
        let locked = Registry::with_password().unwrap();
        let there = format!("127.0.0.1:{}", locked.port);
        assert_eq!(push_with_password(&locked, &self::image("arm", "v7")), 201);
        let programs = tempfile::tempdir().unwrap();
        let helper = programs.path().join("docker-credential-kept");
        let kept = json!({"ServerURL": there, "Username": USER, "Secret": PASSWORD});
        fs::write(
            &helper,
            format!("#!/bin/sh\n[ \"$1\" = get ] && cat >/dev/null && echo '{kept}'\n"),
        )
        .unwrap();
        fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
        for (config, good) in [
            (json!({"credsStore": "kept"}), true),
            (json!({"credHelpers": {&there: "kept"}}), true),
            (json!({"credHelpers": {"elsewhere.example": "kept"}}), false),
        ] {
            let said = sides.each_ref().map(|side| {
                side.configure(&config);
                [
                    "inspect --insecure R/app:1",
                    "create --insecure R/app:l R/app:1",
                    "push -p R/app:l",
                ]
                .map(|line| side.say_with(line, &there, &[("PATH", &path)]))
            });
            assert_eq!(said[0], said[1], "{config}");
            assert!(said[1].iter().all(|ran| (ran.code == 0) == good), "{config}: {said:?}");
        }
    });
}

/// The process of this name that a process started.
fn started_by(parent: u32, name: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}")) && words.starts_with(name.as_bytes())
    })
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What asks the registries shows nobody the password, is missed when it is killed, and ends with the client whatever
/// ends that.
#[test]
fn the_process_that_asks() {
    use rustix::process::Signal;
    ground::run(|g| {
        let side = Side::ours(g);
        // A registry that never answers.
        let there = double(Arc::new(|_, _| {
            loop {
                std::thread::park();
            }
        }));
        let auth = oci::base64::encode(format!("{USER}:{PASSWORD}").as_bytes());
        side.configure(&json!({"auths": {&there: {"auth": auth}}}));
        let (one, other) = (format!("{there}/app:1"), format!("{there}/app:2"));
        let lines: [(&str, &[&str]); 2] = [
            ("balena-engine-manifest", &["manifest", "inspect", "--insecure", &one]),
            (
                "balena-engine-delta",
                &[
                    "image",
                    "delta",
                    "--registry",
                    "--dry-run",
                    "--insecure-registry",
                    &there,
                    &one,
                    &other,
                ],
            ),
        ];
        for (name, line) in lines {
            let start = || {
                let client = side.client.spawn(line);
                let mut found = None;
                let up = within(Duration::from_secs(20), || {
                    found = started_by(client.id(), name);
                    found.is_some()
                });
                assert!(up, "{name} is started");
                (client, found.unwrap())
            };
            let (client, process) = start();
            for file in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{process}/{file}")).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(PASSWORD) && !text.contains(&auth), "{file}: {text}");
            }
            signal(process, Signal::KILL);
            let ran = finish(client, Duration::from_secs(20));
            let expected = format!("{name} ended with signal: 9 (SIGKILL)\n");
            assert_eq!((ran.code, ran.out.as_str(), ran.err), (1, "", expected));
            for end in [Signal::INT, Signal::TERM, Signal::KILL] {
                let (mut client, process) = start();
                signal(client.id(), end);
                client.wait().unwrap();
                let gone = || !Path::new(&format!("/proc/{process}/cwd")).exists();
                assert!(within(Duration::from_secs(20), gone), "{name} outlives {end:?}");
            }
        }
    });
}

/// Jobs that nobody made: an error in a frame, and nothing is asked.
#[test]
fn hostile_jobs() {
    ground::run(|g| {
        let job = |length: usize, text: &str| {
            let length = u32::try_from(length).unwrap().to_be_bytes();
            [&[0, 0, 0, 0], &length, text.as_bytes()].concat()
        };
        let whole = |text: &str| job(text.len(), text);
        let find = r#"{"ask":{"find":{"name":"UPPER"}},"insecure":true,"credentials":{}}"#;
        let header = r#"{"ask":{"find":{"name":"r.example/a:1"}},"insecure":true,"credentials":{"r.example":"?"}}"#;
        let cases = [
            ("nothing", Vec::new(), "there is none"),
            ("no frame", b"GET / HTTP/1.1\r\n".to_vec(), "Unrecognized input header"),
            ("half a header", vec![0; 5], "unexpected end"),
            ("half a job", job(find.len() + 1, find), "unexpected end"),
            ("too long", job(1 << 30, find), "at most are taken"),
            (
                "of another stream",
                [&[2][..], &whole(find)[1..]].concat(),
                "there is none",
            ),
            ("no JSON", whole("{"), "read the job"),
            ("nothing asked", whole("{}"), "read the job"),
            ("deep", whole(&"[".repeat(1 << 20)), "read the job"),
            ("no name", whole(find), "name \"UPPER\""),
            ("no header", whole(header), "credentials of r.example"),
        ];
        for (what, input, expected) in cases {
            let mut child = Command::new(&g.binary)
                .arg("balena-engine-manifest")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // It may have had enough before the end.
            let _ = stdin.write_all(&input);
            // What is not whole shows at the end only; a job that is ends with its client, and so must not be left.
            let stdin = what.starts_with("no").then_some(stdin).filter(|_| what != "nothing");
            let ran = finish(child, Duration::from_secs(20));
            drop(stdin);
            assert!(ran.code == 1 && ran.out.starts_with('\u{3}'), "{what}: {ran:?}");
            assert!(ran.out.contains(expected), "{what}: {}", ran.out);
        }
    });
}
