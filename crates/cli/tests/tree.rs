//! `images --tree` beside docker's client, asked of a daemon that keeps images for several platforms, which is a double.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

const DOCKER: &str = "/usr/local/bin/docker";

fn answer(mut stream: UnixStream, images: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let body = if first.contains("/images/json?") { images } else { "OK" };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )?;
        if !first.starts_with("HEAD") {
            stream.write_all(body.as_bytes())?;
        }
    }
}

/// An image of the double; `manifests` says of each platform: architecture, containers, whether it is there, kind.
fn image(number: u8, tags: &[&str], containers: i64, manifests: &[(&str, &str, bool, &str)]) -> String {
    let manifests: Vec<String> = manifests
        .iter()
        .map(|(platform, users, available, kind)| {
            let id = format!("sha256:{number:02}{}", "3".repeat(62));
            format!(
                r#"{{"ID":"{id}","Available":{available},"Kind":"{kind}","Size":{{"Total":11345678,"Content":4000000}},
                "Descriptor":{{"mediaType":"m","digest":"{id}","size":1}},
                "AttestationData":{{"For":"{id}"}},
                "ImageData":{{"Platform":{{"os":"linux",{platform}}},"Containers":[{users}],"Size":{{"Unpacked":1}}}}}}"#
            )
        })
        .collect();
    let tags: Vec<String> = tags.iter().map(|tag| format!("{tag:?}")).collect();
    format!(
        r#"{{"Id":"sha256:{number:02}{}","RepoTags":[{}],"RepoDigests":[],"Created":{},"Size":2345678901,"Containers":{containers},
        "SharedSize":-1,"Labels":null,"ParentId":"","Manifests":[{}]}}"#,
        "1".repeat(62),
        tags.join(","),
        1_500_000_000 + i64::from(number),
        manifests.join(",")
    )
}

#[test]
fn a_tree_is_drawn_as_docker_draws_it() {
    if !Path::new(DOCKER).exists() {
        eprintln!("skipped: no docker client");
        return;
    }
    let amd64 = r#""architecture":"amd64""#;
    let arm = r#""architecture":"arm","variant":"v7""#;
    let long = "registry.example.com:5000/a/very/long/name/that/goes/on/and/on/and/beyond/the/width/of/any:tag";
    let lists = [
        vec![],
        vec![image(1, &["a:1"], 1, &[])],
        vec![
            image(1, &["bb:2", "aa:1", "cc:10"], 1, &[]),
            image(2, &[], 0, &[]),
            image(3, &[long], 2, &[]),
        ],
        vec![
            image(
                1,
                &["alpine:latest", "alpine:3"],
                1,
                &[(amd64, "\"x\"", true, "image"), (arm, "", false, "image")],
            ),
            image(2, &["<none>:<none>"], 0, &[(amd64, "", true, "attestation")]),
            image(3, &[long, "b:1", "registry.example.com:5000/a/long/name:tag"], 2, &[]),
            image(
                4,
                &["c:1"],
                0,
                &[(arm, "", true, "image"), (amd64, "\"y\"", true, "unknown")],
            ),
        ],
    ];
    let tests = std::env::current_exe().unwrap();
    let client = tests.parent().unwrap().parent().unwrap().join("examples/client");
    let named = tempfile::tempdir().unwrap();
    let ours = named.path().join("docker");
    std::os::unix::fs::symlink(client, &ours).unwrap();
    for images in lists {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let images = format!("[{}]", images.join(","));
        let text = images.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let text = text.clone();
                std::thread::spawn(move || answer(stream, &text));
            }
        });
        for args in [
            "",
            " -a",
            " -q",
            " --digests --no-trunc",
            " --format x",
            " --no-trunc -q",
        ] {
            for width in [0, 10, 30, 60, 90, 140] {
                let shown = |program: &Path| {
                    let line = format!("{} images --tree{args}", program.display());
                    let mut command = match width {
                        0 => Command::new("sh"),
                        _ => Command::new("script"),
                    };
                    match width {
                        0 => command.args(["-c", &line]),
                        _ => command.args(["-qec", &format!("stty cols {width}; {line}"), "/dev/null"]),
                    };
                    let output = command
                        .env_clear()
                        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                        .env("HOME", dir.path())
                        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
                        .env("TERM", "xterm")
                        .stdin(Stdio::null())
                        .output()
                        .unwrap();
                    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
                    (output.status.code(), text)
                };
                assert_eq!(shown(&ours), shown(Path::new(DOCKER)), "width {width},{args}: {images}");
            }
        }
    }
}
