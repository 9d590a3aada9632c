//! Registries beside what pull and push test: logging in, credential helpers, what a name stands for, searching.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use tests::daemon::Kind;
use tests::image::{self, INDEX, Image, Layer, Tar};
use tests::registry::{PASSWORD, USER, forward};
use tests::{Registry, ground};

/// A helper that keeps secrets in a file is asked by our client as by docker's.
#[test]
fn credential_helpers() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let locked = Registry::with_password().unwrap();
        let host = format!("127.0.0.1:{}", locked.port);
        let there = format!("{host}/busybox:1");
        docker.ok(&["tag", "busybox", &there]);
        for client in [daemon.docker(), daemon.cli()] {
            let dir = tempfile::tempdir().unwrap();
            let kept = dir.path().join("kept");
            let script = format!(
                "#!/bin/sh\ncase $1 in\nstore) cat >{0} ;;\nget) [ -e {0} ] && cat {0} || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;\nerase) rm -f {0} ;;\nesac\n",
                kept.display()
            );
            let program = dir.path().join("docker-credential-file");
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let config = dir.path().join("config.json");
            fs::write(&config, "{\"credsStore\":\"file\"}").unwrap();
            let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
            let run = |arguments: &[&str]| {
                let mut command = client.command(arguments);
                let output = command
                    .env("PATH", &path)
                    .env("DOCKER_CONFIG", dir.path())
                    .output()
                    .unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (output.status.code(), text(&output.stdout) + &text(&output.stderr))
            };
            let name = client.program.display().to_string();
            let (code, said) = run(&["push", &there]);
            assert!(
                code != Some(0) && said.contains("no basic auth credentials"),
                "{name}: {said}"
            );
            let (code, said) = run(&["login", "-u", USER, "-p", PASSWORD, &host]);
            assert!(code == Some(0) && said.contains("Login Succeeded"), "{name}: {said}");
            assert!(!said.contains("unencrypted"), "{name}: {said}");
            let secret: Value = serde_json::from_str(&fs::read_to_string(&kept).unwrap()).unwrap();
            assert_eq!(
                (&secret["Username"], &secret["Secret"]),
                (&json!(USER), &json!(PASSWORD))
            );
            let written: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
            assert_eq!(written["auths"], json!({&host: {}}), "{name}");
            let (code, said) = run(&["push", &there]);
            assert_eq!(code, Some(0), "{name}: {said}");
            let (code, said) = run(&["logout", &host]);
            assert_eq!(code, Some(0), "{name}: {said}");
            assert!(!kept.exists(), "{name}: {said}");
            let (code, _) = run(&["push", &there]);
            assert_ne!(code, Some(0), "{name}");
        }
    });
}

#[test]
fn what_a_name_stands_for() {
    ground::run(|g| {
        let layer = Layer::gzip(&Tar::default().file("f", 0o644, b"x").bytes());
        let arm = Image::for_platform(vec![layer.clone()], json!({}), "arm", "v7");
        let here = Image::new(vec![layer], json!({}));
        g.registry.push("app", "arm", &arm).unwrap();
        g.registry.push("app", "here", &here.clone().into_schema2()).unwrap();
        g.registry.push("app", "oci", &here).unwrap();
        let entry = |image: &Image, architecture: &str, variant: &str| {
            let mut platform = json!({"architecture": architecture, "os": "linux"});
            if !variant.is_empty() {
                platform["variant"] = variant.into();
            }
            json!({"mediaType": image.media_type, "digest": image.digest(), "size": image.manifest.len(), "platform": platform})
        };
        let list = [entry(&arm, "arm", "v7"), entry(&here, image::architecture(), "")];
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": list}).to_string();
        g.registry.put_manifest("app", "all", INDEX, index.as_bytes()).unwrap();
        let mut daemons = vec![g.daemon()];
        match ground::there("dockerd") {
            true => daemons.push(g.start(Kind::Docker, &["--bridge=none", "--iptables=false"])),
            false => println!("skipped: no dockerd here"),
        }
        let ask = |tag: &str| -> Vec<(u16, String)> {
            let target = format!("/v1.41/distribution/{}:{tag}/json", g.registry.name("app"));
            let answers = daemons.iter().map(|daemon| daemon.api("GET", &target, ""));
            answers.map(|answer| (answer.status, sorted(&answer.text()))).collect()
        };
        for tag in ["arm", "here", "oci", "all"] {
            let said = ask(tag);
            assert_eq!(said[0].0, 200, "{tag}: {}", said[0].1);
            // Docker 20.10 has no platforms for an OCI manifest, later ones have.
            let same = said.windows(2).all(|pair| pair[0] == pair[1]);
            assert!(same || said[1].1.contains("\"Platforms\":null"), "{tag}: {said:#?}");
        }
        assert_ne!(ask("none")[0].0, 200);
        let digest = format!("/v1.41/distribution/{}@{}/json", g.registry.name("app"), arm.digest());
        let shown: Value = serde_json::from_str(&daemons[0].api("GET", &digest, "").text()).unwrap();
        assert_eq!(shown["Descriptor"]["digest"], arm.digest());
        assert_eq!(shown["Platforms"][0]["variant"], "v7");
    });
}

/// JSON with its keys in one order.
fn sorted(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or(text.to_string(), |value| value.to_string())
}

#[test]
fn searching() {
    ground::run(|g| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone()?);
                    let mut out = stream;
                    loop {
                        let mut first = String::new();
                        if reader.read_line(&mut first)? == 0 {
                            return std::io::Result::Ok(());
                        }
                        let mut line = String::new();
                        while reader.read_line(&mut line)? > 2 {
                            line.clear();
                        }
                        let body = match first.contains("/v1/_ping") {
                            true => "{\"standalone\":true}".to_string(),
                            false => json!({"num_results": 2, "query": first, "results": [
                                {"name": "few", "description": "a\nb", "star_count": 1, "is_official": false, "is_automated": false},
                                {"name": "many", "description": "x".repeat(60), "star_count": 7, "is_official": true, "is_automated": false},
                            ]}).to_string(),
                        };
                        write!(
                            out,
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Docker-Registry-Version: 1\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        )?;
                    }
                });
            }
        });
        let mut daemons = vec![g.daemon()];
        match ground::there("dockerd") {
            true => daemons.push(g.start(Kind::Docker, &["--bridge=none", "--iptables=false"])),
            false => println!("skipped: no dockerd here"),
        }
        let term = format!("127.0.0.1:{port}/what");
        for arguments in [
            vec!["search", &term],
            vec!["search", "--no-trunc", &term],
            vec!["search", "--filter", "is-official=true", "--format", "{{.Name}}", &term],
            vec!["search", "--filter", "stars=2", &term],
            vec![
                "search",
                "--limit",
                "3",
                "--format",
                "{{.Name}} {{.StarCount}} {{.IsOfficial}}",
                &term,
            ],
            vec!["search", "--format", "json", &term],
            vec!["search", "--format", "{{json .}}", &term],
            vec!["search", "--limit", "-1", &term],
            vec!["search", "--limit", "300", &term],
            vec!["search", "--filter", "stars=x", &term],
            vec!["search", "--filter", "what=x", &term],
            vec!["search", "--filter", "is-official=what", &term],
        ] {
            let mut said: Vec<_> = daemons.iter().map(|daemon| daemon.docker().run(&arguments)).collect();
            said.push(daemons[0].cli().run(&arguments));
            for ran in &mut said {
                ran.err = ran.err.to_lowercase();
            }
            assert!(
                said.windows(2).all(|pair| pair[0] == pair[1]),
                "{arguments:?}: {said:#?}"
            );
        }
    });
}

/// Who gave no name was logged in as "", and refused as such by services that let anybody in.
#[test]
fn a_login_without_a_name() {
    ground::run(|g| {
        let daemon = g.daemon();
        let locked = Registry::with_password().unwrap();
        for (registry, status, said) in [
            (g.registry.port, 200, "Login Succeeded"),
            (locked.port, 401, "no basic auth credentials"),
        ] {
            let login = json!({"serveraddress": format!("127.0.0.1:{registry}")});
            let answer = daemon.api("POST", "/auth", &login.to_string());
            let text = answer.text();
            assert!(
                answer.status == status && text.contains(said),
                "{} {text}",
                answer.status
            );
        }
    });
}

/// Mirrors of Docker Hub, and registries that are insecure by a range of addresses: the same is said by both daemons.
#[test]
fn mirrors_and_ranges_beside_docker() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: no dockerd here");
            return;
        }
        let image = Image::new(
            vec![Layer::gzip(&Tar::default().file("f", 0o644, b"x").bytes())],
            json!({}),
        );
        g.registry.push("library/mirrored", "1", &image).unwrap();
        g.registry.push("me/app", "1", &image).unwrap();
        let added = std::process::Command::new("ip")
            .args(["address", "add", "10.99.0.1/32", "dev", "lo"])
            .status();
        assert!(added.unwrap().success());
        let far = format!("10.99.0.1:{}", forward("10.99.0.1", g.registry.port).unwrap());
        let mirror = format!("--registry-mirror=http://127.0.0.1:{}", g.registry.port);
        let names = ["mirrored:1".to_string(), "me/app:1".into(), format!("{far}/me/app:1")];
        // A host without a port is not the same host at a port, and an address is no range.
        let listed = "--insecure-registry=10.99.0.1";
        for flags in [
            &[mirror.as_str()][..],
            &[&mirror, listed, "--insecure-registry=http://reg.example:5000"],
            &[&mirror, "--insecure-registry=10.99.0.0/24"],
        ] {
            let mut said: Vec<Vec<String>> = Vec::new();
            for (kind, more) in [
                (Kind::Ours, &[][..]),
                (Kind::Docker, &["--bridge=none", "--iptables=false"]),
            ] {
                let daemon = g.start(kind, &[flags, more].concat());
                let pulled = names.iter().map(|name| {
                    let ran = daemon.docker().run(&["pull", "-q", name]);
                    format!("{} {}{}", ran.code, ran.out, ran.err)
                });
                let mut all: Vec<String> = pulled.collect();
                let info = daemon.docker().ok(&["info", "--format", "{{.RegistryConfig.Mirrors}}"]);
                all.push(info);
                all.push(
                    daemon
                        .docker()
                        .ok(&["info", "--format", "{{json .RegistryConfig.IndexConfigs}}"]),
                );
                said.push(all);
            }
            assert_eq!(said[0], said[1], "{flags:?}");
            let secure = flags.len() != 2;
            assert_eq!(said[0][2].starts_with("0 "), !secure, "{flags:?}: {said:?}");
            assert!(said[0][0].starts_with("0 ") && said[0][1].starts_with("0 "), "{said:?}");
        }
    });
}
