//! What the daemon is told by flags, `daemon.json` and its environment: each setting does what it says or is refused.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::client::within;
use tests::daemon::{Daemon, Kind, Options};
use tests::image::{Image, Layer, Tar};
use tests::{Ground, ground};

const FAR: &str = "10.99.0.1";

/// An HTTP proxy that notes what it was asked for, and passes plain requests on.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(registry: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = asked.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let notes = notes.clone();
                std::thread::spawn(move || pass(&client, registry, &notes));
            }
        });
        Proxy { port, asked }
    }

    /// Where it went, without the paths: `GET http://10.99.0.1:5000`, `Basic …` for who it was.
    fn asked(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *self.asked.lock().unwrap());
        all.sort();
        all.dedup();
        all
    }
}

/// One request of a connection: it is told to close.
fn pass(client: &TcpStream, registry: u16, notes: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line);
    }
    let words: Vec<&str> = head[0].split(' ').collect();
    let (start, path) = match words[1].strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
        Some((host, path)) => (format!("{} http://{host}", words[0]), format!("/{path}")),
        None => (format!("{} {}", words[0], words[1]), String::new()),
    };
    // Docker looks at a manifest's head first, we take it at once.
    let start = match start.strip_prefix("HEAD ") {
        Some(rest) => format!("GET {rest}"),
        None => start,
    };
    let who = head.iter().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    notes
        .lock()
        .unwrap()
        .push(format!("{start} {}", who.unwrap_or("").trim()));
    let mut client = client;
    if words[0] == "CONNECT" {
        let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let mut server = TcpStream::connect(("127.0.0.1", registry)).unwrap();
    let mut request = format!("{} {path} HTTP/1.1\r\nConnection: close\r\n", words[0]);
    for line in &head[1..] {
        if !line.starts_with("Proxy-") && !line.starts_with("Connection:") {
            request.push_str(line);
        }
    }
    server.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = server.read_to_end(&mut answer);
    let _ = client.write_all(&answer);
}

fn started(g: &Ground, kind: Kind, extra: &[String], environment: &[(&str, String)]) -> Daemon {
    let mut extra = extra.to_vec();
    if kind == Kind::Docker {
        extra.extend(["--bridge=none".into(), "--iptables=false".into()]);
    }
    let options = Options {
        binary: g.binary.clone(),
        extra,
        environment: environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect(),
        ..Options::default()
    };
    Daemon::start(kind, options).expect("start a daemon")
}

/// Proxies of the environment are those that dockerd takes; those of `daemon.json` and of flags come before them.
#[test]
fn proxies() {
    ground::run(|g| {
        let layer = Layer::gzip(&Tar::default().file("f", 0o644, b"x").bytes());
        g.registry
            .push("app", "1", &Image::new(vec![layer], json!({})))
            .unwrap();
        let added = Command::new("ip")
            .args(["address", "add", "10.99.0.1/32", "dev", "lo"])
            .status();
        assert!(added.unwrap().success());
        let port = g.registry.port;
        let proxy = Proxy::start(port);
        let url = format!("http://127.0.0.1:{}", proxy.port);
        let with_user = format!("http://me:secret@127.0.0.1:{}", proxy.port);
        let dead = "http://127.0.0.1:1".to_string();
        let insecure = format!("--insecure-registry={FAR}/32");
        let secure = "--insecure-registry=10.98.0.0/32".to_string();
        let name = format!("{FAR}:{port}/app:1");
        let pull = |daemon: &Daemon, name: &str| {
            let ran = daemon.docker().run(&["pull", "-q", name]);
            (ran.code, proxy.asked())
        };
        let mut kinds = vec![Kind::Ours];
        match ground::there("dockerd") {
            true => kinds.push(Kind::Docker),
            false => println!("skipped: no dockerd here to compare with"),
        }
        // By the environment: beside Docker.
        for (flag, environment) in [
            (&insecure, vec![("HTTP_PROXY", url.clone())]),
            (&insecure, vec![("http_proxy", with_user.clone())]),
            (
                &insecure,
                vec![("HTTP_PROXY", url.clone()), ("NO_PROXY", "10.99.0.0/16".into())],
            ),
            (
                &insecure,
                vec![("HTTP_PROXY", url.clone()), ("no_proxy", FAR.to_string())],
            ),
            (
                &insecure,
                vec![("HTTP_PROXY", url.clone()), ("NO_PROXY", "other,*".into())],
            ),
            (&secure, vec![("HTTPS_PROXY", url.clone())]),
            (&secure, vec![("HTTPS_PROXY", with_user.clone())]),
        ] {
            let mut told: Vec<(i32, Vec<String>)> = Vec::new();
            for kind in &kinds {
                let daemon = started(g, *kind, std::slice::from_ref(flag), &environment);
                told.push(pull(&daemon, &name));
                // Loopback never goes through one.
                told.push(pull(&daemon, &format!("127.0.0.1:{port}/app:1")));
                let shown = daemon
                    .docker()
                    .ok(&["info", "--format", "{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}"]);
                told.push((0, vec![shown]));
            }
            if told.len() == 6 {
                // An attempt with TLS that is refused is one more request of Docker's, if at all.
                let plain = |told: &[(i32, Vec<String>)]| -> Vec<(i32, Vec<String>)> {
                    told.iter()
                        .map(|(code, asked)| {
                            (
                                *code,
                                asked
                                    .iter()
                                    .filter(|one| !one.starts_with("CONNECT"))
                                    .cloned()
                                    .collect(),
                            )
                        })
                        .collect()
                };
                assert_eq!(plain(&told[..3]), plain(&told[3..]), "{environment:?}: {told:?}");
            }
            let through = environment.len() == 1;
            assert_eq!(!told[0].1.is_empty(), through, "{environment:?}: {told:?}");
            // There is nothing at the address itself.
            let fails = *flag == secure || !through;
            assert_eq!(told[0].0, i32::from(fails), "{environment:?}: {told:?}");
            assert!(told[1].1.is_empty() && told[1].0 == 0, "{told:?}");
            assert!(!format!("{told:?}").contains("secret"), "a password is shown: {told:?}");
        }
        // By the file, which comes before the environment, and by a flag, which comes before the file.
        let file = tempfile::NamedTempFile::new().unwrap();
        let proxies = json!({"proxies": {"http-proxy": with_user, "no-proxy": "10.97.0.0/16"}, "insecure-registries": [FAR.to_string() + "/32"]});
        std::fs::write(file.path(), proxies.to_string()).unwrap();
        let config = format!("--config-file={}", file.path().display());
        let daemon = started(
            g,
            Kind::Ours,
            std::slice::from_ref(&config),
            &[("HTTP_PROXY", dead.clone()), ("NO_PROXY", "*".into())],
        );
        let (code, asked) = pull(&daemon, &name);
        assert_eq!(code, 0);
        assert!(
            asked
                .iter()
                .any(|one| one.starts_with("GET http") && one.contains("Basic ")),
            "{asked:?}"
        );
        let info: Value = serde_json::from_slice(&daemon.api("GET", "/info", "").body).unwrap();
        assert_eq!(
            info["HttpProxy"],
            json!(format!("http://xxxxx:xxxxx@127.0.0.1:{}", proxy.port))
        );
        assert_eq!(info["NoProxy"], "10.97.0.0/16");
        drop(daemon);
        let daemon = started(g, Kind::Ours, &[config, "--http-proxy".into(), dead], &[]);
        assert_eq!(
            pull(&daemon, &name).0,
            1,
            "the flag's proxy is not there, and is asked nevertheless"
        );
    });
}

/// What containers and networks get if they do not say otherwise.
#[test]
fn defaults_of_containers_and_networks() {
    ground::run(|g| {
        let profile = tempfile::NamedTempFile::new().unwrap();
        let rules = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
        });
        std::fs::write(profile.path(), rules.to_string()).unwrap();
        let seccomp = format!("--seccomp-profile={}", profile.path().display());
        let daemon = g.start(
            Kind::Ours,
            &[
                &seccomp,
                "--default-ipc-mode=shareable",
                "--host-gateway-ip=10.1.2.3",
                "--default-address-pool=base=10.44.0.0/16,size=24",
                "--oom-score-adjust=7",
                "--log-format=json",
                "--ip6tables=false",
                "--shutdown-timeout=3",
                "--storage-opt=overlay2.override_kernel_check=true",
            ],
        );
        let docker = daemon.docker();
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        let run = |more: &[&str], command: &str| {
            docker.run(
                &[
                    &["run", "--rm", "--network=none"],
                    more,
                    &["busybox", "sh", "-c", command],
                ]
                .concat(),
            )
        };
        let ran = run(&[], "mkdir /x");
        assert!(ran.err.contains("No space left"), "{}", ran.err);
        assert_eq!(run(&["--security-opt", "seccomp=unconfined"], "mkdir /x").code, 0);
        assert_eq!(run(&["--security-opt", "seccomp=builtin"], "mkdir /x").code, 0);
        let ran = run(
            &["--add-host", "up:host-gateway"],
            "cat /etc/hosts /proc/self/oom_score_adj",
        );
        assert!(ran.out.contains("10.1.2.3\tup"), "{}", ran.out);
        assert!(
            ran.out.ends_with("\n0\n"),
            "a container has the daemon's score: {}",
            ran.out
        );
        let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon.pid())).unwrap();
        assert_eq!(score.trim(), "7");
        docker.ok(&["create", "--name", "one", "busybox"]);
        assert_eq!(
            docker.ok(&["inspect", "-f", "{{.HostConfig.IpcMode}}", "one"]),
            "shareable"
        );
        for subnet in ["10.44.0.0/24", "10.44.1.0/24"] {
            // The default bridge has the first one.
            let name = if subnet == "10.44.0.0/24" { "bridge" } else { "mine" };
            if name == "mine" {
                docker.ok(&["network", "create", name]);
            }
            let shown = docker.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name]);
            assert_eq!(shown.trim(), subnet);
        }
        for line in daemon.log().lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(line["level"].is_string() && line["msg"].is_string() && line["time"].is_string());
        }
    });
}

/// What is not there is refused at the start, and nothing was made.
#[test]
fn what_is_not_there_is_refused() {
    ground::run(|g| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let file = directory.path().join("daemon.json");
        for (flags, keys, words) in [
            (
                &["--tlsverify"][..],
                json!({}),
                "--tlsverify is not supported by balena",
            ),
            (&["--tls"], json!({}), "--tls is not supported by balena"),
            (&["--tlscert=/x"], json!({}), "--tlscert is not supported by balena"),
            (&["--ipv6"], json!({}), "--ipv6 is not supported by balena"),
            (
                &["--storage-opt=overlay2.size=1G"],
                json!({}),
                "is not supported by balena",
            ),
            (
                &["--seccomp-profile=/none"],
                json!({}),
                "opening seccomp profile (/none) failed",
            ),
            (
                &["--seccomp-profile=/etc/passwd"],
                json!({}),
                "Decoding seccomp profile failed",
            ),
            (&["--default-ipc-mode=host"], json!({}), "is not supported as a default"),
            (&["--host-gateway-ip=here"], json!({}), "it is no address"),
            (&["--default-address-pool=size=24"], json!({}), "it has no base"),
            (
                &["--default-address-pool=base=10.0.0.0/16,size=8"],
                json!({}),
                "its size must lie between",
            ),
            (
                &["--default-address-pool=base=fd00::/64,size=80"],
                json!({}),
                "IPv6 is not supported",
            ),
            (&["--oom-score-adjust=5000"], json!({}), "-1000 to 1000"),
            (&["--log-format=xml"], json!({}), "invalid log format: xml"),
            (
                &[],
                json!({"features": {"containerd-snapshotter": true}}),
                "containerd-snapshotter is not supported",
            ),
            (&[], json!({"proxies": {"ftp-proxy": "x"}}), "ftp-proxy"),
            (
                &[],
                json!({"default-address-pools": [{"base": "10.0.0.0/16"}]}),
                "its size must lie between",
            ),
        ] {
            std::fs::write(&file, keys.to_string()).unwrap();
            let ran = Command::new(&g.binary)
                .arg("daemon")
                .args([
                    "--data-root",
                    root.to_str().unwrap(),
                    "--config-file",
                    file.to_str().unwrap(),
                ])
                .args(["-H", &format!("unix://{}", directory.path().join("sock").display())])
                .args(flags)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert_eq!(ran.status.code(), Some(1), "{flags:?} {keys}: {said}");
            assert!(said.contains(words), "{flags:?} {keys}: {said}");
            assert!(!root.exists(), "{flags:?} {keys}");
        }
    });
}

/// A reload said `Reset Max Concurrent Downloads: 1` and changed nothing; `info` showed the mirrors of the start.
#[test]
fn a_reload_counts() {
    ground::run(|g| {
        let layers = (0..3).map(|n| Layer::gzip(&Tar::default().file(&format!("f{n}"), 0o644, b"x").bytes()));
        let image = Image::new(layers.collect(), json!({}));
        let reference = g.registry.push("me/three", "1", &image).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |config: Value| std::fs::write(file.path(), config.to_string()).unwrap();
        write(json!({"max-concurrent-downloads": 3}));
        let daemon = g.start(Kind::Ours, &["--config-file", &file.path().display().to_string()]);
        let waiting = || {
            let said = daemon.docker().ok(&["pull", &reference]);
            daemon.docker().ok(&["rmi", &reference]);
            said.matches(": Waiting").count()
        };
        let reload = |reloads: usize| {
            let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
            let done = || daemon.log().matches("eload").count() >= reloads;
            assert!(within(Duration::from_secs(10), done), "{}", daemon.log());
        };
        let registries = || {
            let format =
                "{{json .RegistryConfig.Mirrors}} {{(index .RegistryConfig.IndexConfigs \"reg.example:5000\").Secure}}";
            daemon.docker().run(&["info", "--format", format]).out
        };
        assert_eq!(waiting(), 0);
        write(json!({
            "max-concurrent-downloads": 1,
            "insecure-registries": ["reg.example:5000"],
            "registry-mirrors": ["https://mirror.example"],
        }));
        reload(1);
        assert_eq!(waiting(), 2);
        let now = registries();
        assert_eq!(now.trim(), "[\"https://mirror.example/\"] false");
        // What cannot be read changes nothing.
        write(json!({"registry-mirrors": ["https://u:secret@mirror.example"]}));
        reload(2);
        let log = daemon.log();
        assert!(
            log.contains("invalid mirror: username/password not allowed in URI") && !log.contains("secret"),
            "{log}"
        );
        assert_eq!((waiting(), registries()), (2, now));
    });
}
