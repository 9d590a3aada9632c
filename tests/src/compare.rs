//! The same commands by docker's client and ours on our daemon, and by docker's on Docker's own daemon: what each says,
//! line by line.
//!
//! In a command `_` stands for a space in a word, `DIR` for a directory of the side's own, `REGISTRY` for the ground's
//! registry; `! …` is for the shell, `… << tar` and `… << text` give it input.

use crate::client::{Client, Ran};
use crate::daemon::{Daemon, Kind};
use crate::ground::{Ground, there};
use crate::image::Tar;
use std::fs;

/// One daemon and one client on it.
struct Side {
    client: Client,
    dir: String,
    home: String,
    registry: String,
}

/// What a side says to some commands, without what differs from run to run. `DIR` is a directory of the side's own.
fn say(side: &Side, commands: &[&str]) -> Vec<String> {
    let mut said = Vec::new();
    for line in commands {
        let (command, input) = line.split_once(" << ").unwrap_or((line, ""));
        let command = command.replace("DIR", &side.dir).replace("REGISTRY", &side.registry);
        let ran = if let Some(shell) = command.strip_prefix("! ") {
            let output = std::process::Command::new("sh").arg("-c").arg(shell).output().unwrap();
            Ran {
                code: output.status.code().unwrap_or(-1),
                out: String::from_utf8_lossy(&output.stdout).into_owned(),
                err: String::from_utf8_lossy(&output.stderr).into_owned(),
            }
        } else {
            // `_` stands for a space in a word.
            let words: Vec<String> = command.split(' ').map(|word| word.replace('_', " ")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let input = match input {
                "" => Vec::new(),
                "tar" => Tar::default()
                    .dir("in", 0o755)
                    .file("in/x", 0o600, b"from a tar")
                    .bytes(),
                other => other.as_bytes().to_vec(),
            };
            side.client.run_with(&words, &input)
        };
        // Docker's client logs that its own pipe is closed when nothing is to be sent.
        let err: Vec<&str> = ran.err.lines().filter(|line| !line.starts_with("time=")).collect();
        // Docker says so when it comes to it before the next word.
        let lines = ran.out.lines().filter(|line| !line.contains("Verifying Checksum"));
        let mut out: Vec<&str> = lines.collect();
        if ["diff", "pull -a", "images", "load"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            // As Docker's driver walks, of which the kernel decides; as a registry lists; images of one age; as Go walks a map.
            out.sort_unstable();
        }
        let text = format!("{line}: {} {out:?} {err:?}", ran.code);
        let text = text.replace(&side.dir, "DIR").replace(&side.home, "HOME");
        let text = text.replace("balena", "docker");
        // Docker 20.10's words, which later ones begin in lower case.
        let text = text.replace("Invalid filter", "invalid filter");
        said.push(without_ids(&text));
    }
    said
}

/// The text with 64 and with 12 hex digits replaced: IDs of containers and images have the time in them.
fn without_ids(text: &str) -> String {
    let mut out = String::new();
    let mut hex = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            hex.push(c);
            continue;
        }
        out.push_str(match hex.len() {
            64 => "ID",
            12 => "SHORT",
            _ => &hex,
        });
        hex.clear();
        out.push(c);
    }
    out
}

fn side(g: &Ground, name: &'static str, daemon: &Daemon, client: Client) -> Side {
    let dir = daemon.dir().join(name);
    fs::create_dir(&dir).unwrap();
    Side {
        client,
        dir: dir.display().to_string(),
        home: daemon.dir().display().to_string(),
        registry: format!("127.0.0.1:{}", g.registry.port),
    }
}

/// Runs the commands on all sides and compares.
pub fn compare(g: &Ground, commands: &[&str]) {
    let ours = g.daemon();
    ours.docker().ok(&["pull", "-q", &g.busybox]);
    ours.docker().ok(&["tag", &g.busybox, "busybox"]);
    let other = g.daemon();
    other.docker().ok(&["pull", "-q", &g.busybox]);
    other.docker().ok(&["tag", &g.busybox, "busybox"]);
    let ours_said = say(&side(g, "ours", &ours, ours.cli()), commands);
    println!("{}", ours_said.join("\n"));
    let with_docker = say(&side(g, "docker", &other, other.docker()), commands);
    let mut sides = vec![("docker's client on ours", with_docker)];
    if there("dockerd") {
        let theirs = g.start(Kind::Docker, &["--bridge=none", "--iptables=false"]);
        theirs.docker().ok(&["pull", "-q", &g.busybox]);
        theirs.docker().ok(&["tag", &g.busybox, "busybox"]);
        let side = side(g, "theirs", &theirs, theirs.docker());
        sides.push(("docker", say(&side, commands)));
    } else {
        println!("skipped: no dockerd here");
    }
    let mut differ = Vec::new();
    for (name, said) in sides {
        for (we, they) in ours_said.iter().zip(&said) {
            if we != they {
                differ.push(format!("ours   {we}\n{name} {they}"));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
