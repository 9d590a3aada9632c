//! Our client and docker's against the same dockerd: what they print and how they exit must be equal.
//!
//! The dockerd is the test's own, in a directory that goes away. `tests/docker.txt` is the table: a line each.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DOCKER: &str = "/usr/local/bin/docker";
/// Times differ between two runs (`3 seconds ago`): a line counts as different when it always is.
const ATTEMPTS: usize = 4;

struct Daemon {
    process: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if self.process.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Whatever is still mounted below would keep the directory.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let root = self.dir.path().display().to_string();
        for path in mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|path| path.starts_with(&root))
        {
            let _ = Command::new("umount").args(["-l", path]).status();
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];
    dirs.iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}

fn start() -> Result<Daemon, String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !is_root {
        return Err("not root".into());
    }
    let dockerd = find("dockerd").ok_or("no dockerd")?;
    let busybox = find("busybox").ok_or("no busybox")?;
    if !Path::new(DOCKER).exists() {
        return Err("no docker client".into());
    }
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let log = std::fs::File::create(at("log")).map_err(|e| e.to_string())?;
    let process = Command::new(dockerd)
        .args([
            "--data-root",
            &at("root"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
        ])
        .args([
            "-H",
            &format!("unix://{}", at("s")),
            "--bridge=none",
            "--iptables=false",
        ])
        .stdout(log.try_clone().map_err(|e| e.to_string())?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|e| e.to_string())?;
    let daemon = Daemon { process, dir };
    let end = Instant::now() + Duration::from_secs(60);
    while !run(Path::new(DOCKER), &daemon, &["ps"]).status.success() {
        if Instant::now() > end {
            let log = std::fs::read_to_string(daemon.dir.path().join("log")).unwrap_or_default();
            return Err(format!(
                "dockerd does not answer: {}",
                log.lines().last().unwrap_or_default()
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let tree = daemon.dir.path().join("image/bin");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::copy(busybox, tree.join("busybox")).unwrap();
    for name in ["sh", "true", "false", "sleep", "echo", "cat", "env", "ls", "seq", "tty"] {
        std::os::unix::fs::symlink("busybox", tree.join(name)).unwrap();
    }
    for (name, text) in [
        ("labels", "l1=v1\n# no\nl2\n"),
        ("env", "E1=v1\n# no\nFROM_HERE\nNOT_THERE\n"),
        ("profile.json", "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }"),
    ] {
        std::fs::write(daemon.dir.path().join(name), text).unwrap();
    }
    let tar = daemon.dir.path().join("image.tar");
    let packed = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(daemon.dir.path().join("image"))
        .arg(".")
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    let tar = tar.display().to_string();
    let imported = run(
        Path::new(DOCKER),
        &daemon,
        &["import", "-c", "CMD [\"sh\"]", &tar, "busybox:latest"],
    );
    assert!(
        imported.status.success(),
        "{}",
        String::from_utf8_lossy(&imported.stderr)
    );
    Ok(daemon)
}

fn run(program: &Path, daemon: &Daemon, args: &[&str]) -> Output {
    Command::new(program)
        .arg0("docker")
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", daemon.dir.path())
        .env("DOCKER_HOST", daemon.host())
        .env("FROM_HERE", "yes")
        .current_dir(daemon.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Cuts a line into words; single quotes hold together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut open) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, open) = (!quoted, true),
            ' ' if !quoted => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => word.push(c),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// IDs and addresses in memory differ from run to run.
fn mask(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    let mut hex = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            hex.push(c);
            continue;
        }
        out.push_str(if hex.len() == 64 { "<id>" } else { &hex });
        hex.clear();
        out.push(c);
    }
    out.trim_end_matches('\0').to_string()
}

fn shown(output: &Output) -> String {
    format!(
        "exit {:?}\n--- out\n{}--- err\n{}",
        output.status.code(),
        mask(&output.stdout),
        mask(&output.stderr)
    )
}

/// The words of a text, in order of the alphabet.
fn sorted(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split([' ', '[', ']', ',', '\n']).collect();
    words.sort_unstable();
    words
}

#[test]
fn our_client_is_dockers() {
    let daemon = match start() {
        Ok(daemon) => daemon,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let tests = std::env::current_exe().unwrap();
    let ours = tests.parent().unwrap().parent().unwrap().join("examples/client");
    let docker = Path::new(DOCKER);
    let (mut equal, mut different) = (0, Vec::new());
    for line in include_str!("docker.txt").lines() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let call = |program: &Path, line: &str| {
            let words = words(line.trim());
            run(program, &daemon, &words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        if let Some(setup) = line.strip_prefix('@') {
            let done = call(docker, setup);
            assert!(
                done.status.success(),
                "{setup}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            continue;
        }
        let (line, any_order) = match line.strip_prefix('%') {
            Some(line) => (line, true),
            None => (line, false),
        };
        let mut parts: Vec<&str> = line.split(" ;; ").collect();
        let compared = parts.pop().unwrap();
        let attempt = |program: &Path| {
            parts.iter().for_each(|setup| drop(call(docker, setup)));
            match compared.split_once(" >> ") {
                None => shown(&call(program, compared)),
                Some((act, show)) => format!("{}{}", shown(&call(program, act)), shown(&call(docker, show))),
            }
        };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (theirs, got) = (attempt(docker), attempt(&ours));
            if theirs == got || any_order && sorted(&theirs) == sorted(&got) {
                last = None;
                break;
            }
            last = Some((theirs, got));
        }
        match last {
            None => equal += 1,
            Some((theirs, got)) => different.push(format!("==== {line}\n---- docker: {theirs}\n---- ours: {got}")),
        }
    }
    println!("{equal} equal, {} different", different.len());
    assert!(
        different.is_empty(),
        "{} of {} differ\n{}",
        different.len(),
        equal + different.len(),
        different.join("\n")
    );
}
