//! The image commands beside Docker's own daemon: names, removal, listings, filters, history, inspect, prune.

use serde_json::json;
use std::time::Duration;
use tests::client::{finish, within};
use tests::compare::compare;
use tests::double::{Double, Fault};
use tests::image::{self, Image, Layer, Tar};
use tests::{Ground, ground};

/// Pushes images that the commands are about.
fn prepare(g: &Ground) {
    let base = image::busybox_layer().unwrap();
    let layer = |text: &str| Layer::gzip(&Tar::default().file("which", 0o644, text.as_bytes()).bytes());
    for (name, tag) in [("one", "1"), ("one", "2"), ("two", "1")] {
        let config = json!({"Cmd": ["cat", "/which"], "Labels": {"name": name, "tag": tag}});
        let image = Image::new(vec![base.clone(), layer(&format!("{name}{tag}"))], config);
        g.registry.push(name, tag, &image).unwrap();
    }
}

#[test]
fn beside_docker() {
    ground::run(|g| {
        prepare(g);
        compare(
            g,
            &[
                "rmi busybox",
                "images -q REGISTRY/busybox",
                "pull -q REGISTRY/one:1",
                "pull -q REGISTRY/two:1",
                "tag REGISTRY/one:1 one:1",
                "tag REGISTRY/one:1 one:1",
                "tag REGISTRY/two:1 two",
                "tag two:latest two:x",
                "tag none:1 one:2",
                "tag one:1 One",
                "tag one:1 one:1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "images --format {{.Repository}}:{{.Tag}} one",
                "images --format {{.Repository}}:{{.Tag}} two:x",
                "images --format {{.Repository}}:{{.Tag}} --filter reference=tw*:*",
                "images --format {{.Repository}}:{{.Tag}} --filter label=name=one",
                "images --format {{.Repository}}:{{.Tag}} --filter label=none",
                "images --format {{.Repository}}:{{.Tag}} --filter dangling=true",
                "images --format {{.Repository}}:{{.Tag}} --filter dangling=what",
                "images --format {{.Repository}}:{{.Tag}} --filter what=is",
                "images --format {{.Repository}}:{{.Tag}} --filter before=none",
                "images --digests --format {{.Repository}}:{{.Tag}}@{{.Digest}} one",
                "history -q two",
                "history --format {{.CreatedBy}}|{{.Size}} two",
                "history none",
                // Of what was made here the steps are images.
                "create --name made --network none one:1 sh",
                "commit made made:1",
                "history --format {{.ID}}|{{.Size}} made:1",
                "images --format {{.Repository}}:{{.Tag}} --filter since=made:1",
                "import -c CMD_a DIR/none made:2",
                "export -o DIR/made.tar made",
                "import DIR/made.tar made:2",
                "import DIR/made.tar made:3",
                "images --format {{.Repository}}:{{.Tag}} --filter since=made:2",
                "images --format {{.Repository}}:{{.Tag}} --filter since=made:1",
                "images --format {{.Repository}}:{{.Tag}} --filter before=made:3 made",
                "images --format {{.Repository}}:{{.Tag}} --filter reference=[^a-l]?de:[13]",
                "images --format {{.Repository}}:{{.Tag}} --filter reference=m\\ade:*[!3]",
                "images --filter reference=[",
                "images --filter reference=made:[2",
                "rm made",
                "rmi made:1 made:2 made:3",
                "image inspect -f {{.RepoTags}}|{{.RepoDigests}}|{{.Size}}|{{.Os}} one:1",
                "rmi none",
                "rmi one:none",
                "rmi -f none",
                "rmi sha256:0000000000000000000000000000000000000000000000000000000000000000",
                // In use, by a container that is stopped and by one that runs.
                "create --name still one:1",
                "rmi one:1",
                "rmi REGISTRY/one:1",
                "create --name other --network none two sh",
                "rmi two:x",
                "rmi two",
                "rmi REGISTRY/two:1",
                "rmi -f REGISTRY/two:1",
                "images --format {{.Repository}}:{{.Tag}} -a",
                "rm other",
                "images -f dangling=true --format {{.Repository}}:{{.Tag}}",
                "image prune -f",
                "image prune -f --filter label=none",
                "image prune -af --filter label!=name=one",
                "rmi -f one:1 REGISTRY/one:1",
                "rm still",
                "image prune -af",
                "images -a --format {{.Repository}}:{{.Tag}}",
                // By ID, with one name, with several, with names in several repositories.
                "pull -q REGISTRY/one:1",
                "tag REGISTRY/one:1 a:1",
                "tag REGISTRY/one:1 a:2",
                "rmi a:1 a:2 REGISTRY/one:1",
                "images -a --format {{.Repository}}:{{.Tag}}",
                "rmi",
                "image rm none none2",
                "image prune -f --filter what=is",
                "image prune -f --filter until=what",
                "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}",
            ],
        );
    });
}

/// What is no name, no image, no archive; the same told in other forms; who is let in.
#[test]
fn names_archives_and_logins_beside_docker() {
    ground::run(|g| {
        let base = image::busybox_layer().unwrap();
        for (name, tag) in [("one", "1"), ("one", "2"), ("two", "1")] {
            let config = json!({
                "Cmd": ["cat", "/which"], "Labels": {"name": name, "tag": tag}, "Env": ["A=b", "PATH=/bin"],
                "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGINT", "User": "1:2",
                "WorkingDir": "/w", "Shell": ["sh"], "OnBuild": ["RUN x"],
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000_i64},
            });
            let content = format!("{name}{tag}");
            let layer = Layer::gzip(&Tar::default().file("which", 0o644, content.as_bytes()).bytes());
            let image = Image::new(vec![base.clone(), layer], config);
            g.registry.push(name, tag, &image).unwrap();
        }
        compare(
            g,
            &[
                "pull REGISTRY/one:1",
                "pull REGISTRY/one:1",
                "pull -q REGISTRY/one:1",
                "pull -a REGISTRY/one",
                "pull -a REGISTRY/one:1",
                "pull -aq REGISTRY/one",
                "pull REGISTRY/one",
                "pull REGISTRY/one:9",
                "pull REGISTRY/nothing:1",
                "pull REGISTRY/one@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "pull REGISTRY/one@sha256:00",
                "pull REGISTRY/ONE",
                "pull",
                "pull a b",
                "pull --platform what/is/this/here REGISTRY/one:1",
                "pull 127.0.0.1:1/x",
                "image pull REGISTRY/two:1",
                "images --format {{.Repository}}:{{.Tag}}_{{.ID}}_{{.Size}}_{{.Containers}}_{{.SharedSize}}",
                "images --no-trunc --format {{.ID}}",
                "images --format table_{{.Tag}}\\t{{.Size}}",
                "images --format {{.What}}",
                "images --format {{",
                "images -q",
                "images -a -q --no-trunc",
                "images REGISTRY/one",
                "images REGISTRY/one:2",
                "images -f since=REGISTRY/one:1 --format {{.Tag}}",
                "images -f before=REGISTRY/one:1 --format {{.Tag}}",
                "images -f reference=REGISTRY/one --format {{.Tag}}",
                "images -f reference=*/one --format {{.Tag}}",
                "images -f label=tag=1 -f label=name=one --format {{.Tag}}",
                "images -f x",
                "image ls -x",
                "history REGISTRY/one:1",
                "history -q REGISTRY/one:1",
                "history --no-trunc REGISTRY/one:1",
                "history -H=false REGISTRY/one:1",
                "history --format {{.CreatedSince}}|{{.CreatedAt}}|{{.Comment}}|{{.ID}} REGISTRY/one:1",
                "history",
                "history a b",
                "inspect REGISTRY/one:1 -f {{json_.Config.Healthcheck}}{{.Config.Volumes}}{{.Config.OnBuild}}{{.Config.Shell}}",
                "image inspect -f {{.RootFS.Type}}_{{len_.RootFS.Layers}}_{{.Architecture}}_{{.Author}}_{{.Variant}}_{{.Size}} REGISTRY/one:1",
                "image inspect",
                "inspect --type what none",
                "tag REGISTRY/one:1",
                "tag REGISTRY/one:1 x:",
                "tag REGISTRY/one:1 x:y:z",
                "tag REGISTRY/one:1 x/Y",
                "tag REGISTRY/one:1 sha256:00",
                "tag REGISTRY/one:1 sha256",
                "push REGISTRY/none",
                "push none",
                "push",
                "push REGISTRY/one:1 x",
                "push -a REGISTRY/one:1",
                "push REGISTRY/one@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "push 127.0.0.1:1/x",
                "save",
                "save none",
                "save REGISTRY/one:1 -o DIR/a/b",
                "save REGISTRY/one:1 none -o DIR/a.tar",
                "save REGISTRY/one:1 REGISTRY/one:2 -o DIR/a.tar",
                "! ls DIR",
                "rmi REGISTRY/one:1 REGISTRY/one:2",
                "load -i DIR/a.tar",
                "load -qi DIR/a.tar",
                "load -i DIR/none",
                "load x",
                "import DIR/none",
                "import",
                "import - << tar",
                "import - i:1 << tar",
                "import -c CMD_x -c ENV_A=b -m hello - i:2 << tar",
                "image inspect i:2 -f {{json_.Config.Cmd}}{{.Config.Env}}{{.Comment}}{{.Os}}{{.Architecture}}",
                "import -c WHAT_x - i:2 << tar",
                "history i:2 --format {{.CreatedBy}}|{{.Comment}}|{{.Size}}",
                "images i --format {{.Tag}}_{{.Size}}",
                "create --name cc --network none REGISTRY/two:1 sh",
                "diff cc",
                "commit cc",
                "commit",
                "commit none",
                "commit -a me -m why -c CMD_y -c LABEL_a=b cc made:1",
                "inspect made:1 -f {{.Author}}|{{.Comment}}|{{json_.Config.Labels}}|{{.Parent}}",
                "history made:1 --format {{.CreatedBy}}|{{.Comment}}|{{.Size}}",
                "export",
                "export none",
                "export cc -o DIR/none/x",
                "export cc -o DIR/c.tar",
                "! tar tf DIR/c.tar | sort | grep -v -E '^(bin|sbin|usr)/.'",
                "create --name wd --network none -w /new/dir/here -v /new/volume busybox sh",
                "diff wd",
                "create --network none -w /bin busybox sh",
                "! echo x > DIR/x",
                "cp -q DIR/x wd:/new/dir/here",
                "create --network none -w /bin/busybox busybox sh",
                "create --network none -w not/absolute busybox sh",
                "rm -v cc wd",
                "rmi made",
                "rmi made:1 i:1 i:2",
                "image prune -f",
                "image prune",
                "image prune x",
                "image prune -f --filter dangling=what",
                "image prune -f --filter until=1h --filter label=x",
                "container prune",
                "network prune",
                "container prune x",
                "network prune -f",
                "system df",
                "import - sha256:1 << tar",
                "system df x",
                "logout REGISTRY",
                "login -u x -p y REGISTRY",
                "login -u x --password-stdin REGISTRY << y",
                "login -u x --password-stdin REGISTRY << z",
                "login REGISTRY",
                "login --password-stdin REGISTRY << y",
                "login -u x --password-stdin -p y REGISTRY << y",
                "logout REGISTRY",
                "login REGISTRY",
                "login 127.0.0.1:1 -u x -p y",
                "logout nowhere",
                "search",
                "search -f what=x x",
                "search a b",
                "image what",
                "image rm",
                "system what",
            ],
        );
        let daemon = g.daemon();
        let directory = daemon.dir().display().to_string();
        for line in [["load", "-i", &directory].as_slice(), &["import", &directory]] {
            let [theirs, ours] = [daemon.docker(), daemon.cli()].map(|client| client.run(line));
            assert_eq!(ours, theirs);
            assert!(ours.code == 1 && ours.err.contains(": is a directory"), "{ours:?}");
        }
        let list = daemon.cli().ok(&["image", "--help"]);
        let delta = "  delta       Make the delta that turns image SRC into image DEST, from each SRC\n";
        assert!(list.contains(delta), "{list}");
    });
}

/// What takes how much room, and what goes when it is pruned.
#[test]
fn space_beside_docker() {
    ground::run(|g| {
        prepare(g);
        compare(
            g,
            &[
                "system prune -f",
                // Of images made at one time each has its own order.
                "system df -v",
                "pull -q REGISTRY/one:1",
                "pull -q REGISTRY/two:1",
                "tag REGISTRY/two:1 two",
                "volume create kept",
                "create --name still --network none -v kept:/kept REGISTRY/one:1",
                "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}",
                "rmi -f REGISTRY/two:1 two",
                // What is younger stays; what cannot be read takes nothing.
                "container prune -f --filter until=1h",
                "container prune -f --filter until=2020-01-01",
                "container prune -f --filter until=soon",
                "network prune -f --filter until=soon",
                "image prune -af --filter until=1h30m",
                "image prune -af --filter until=2020-01-01T00:00",
                "system prune -af --filter until=10m",
                "system prune -af --filter label=none",
                "container prune -f --filter label!=x --filter until=1h",
                "ps -a --format {{.Names}}",
                "system prune -f",
                "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}",
                // Docker 20.10 takes named volumes too with --volumes, later ones and ours do not.
                "volume rm kept",
                "system prune -af --volumes",
                "system prune -f --filter what=is",
                "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}",
            ],
        );
    });
}

/// A platform that is asked for is one that the image must have; Docker asks since 1.46 to 1.50, its 20.10 only in `create`.
#[test]
fn another_platform_is_refused() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let archive = daemon.dir().join("busybox.tar");
        let archive = archive.to_str().unwrap();
        docker.ok(&["save", "-o", archive, "busybox"]);
        for client in [docker, daemon.cli()] {
            for (line, code, words) in [
                (&["image", "inspect", "busybox"][..], 1, "was found but does not match"),
                (&["history", "busybox"], 1, "was found but does not match"),
                (&["save", "busybox"], 1, "was found but does not provide"),
                (&["rmi", "-f", "busybox"], 0, "was found but does not match"),
                (&["rmi", "busybox"], 1, "was found but does not match"),
                (
                    &["load", "-i", archive],
                    1,
                    "requested platform (linux/s390x) not found",
                ),
                (
                    &["create", "--pull", "never", "busybox"],
                    1,
                    "was found but does not match",
                ),
                (&["import", "-", "x"], 0, ""),
            ] {
                let (verb, rest) = line.split_at(if line[0] == "image" { 2 } else { 1 });
                let wanted = [verb, &["--platform", "linux/s390x"], rest].concat();
                let ran = client.run_with(&wanted, &Tar::default().bytes());
                assert_eq!(ran.code, code, "{wanted:?}: {}{}", ran.out, ran.err);
                assert!(ran.err.contains(words), "{wanted:?}: {}", ran.err);
            }
            for own in ["linux", "linux/386"] {
                let ran = client.run(&["image", "inspect", "--platform", own, "busybox"]);
                assert_eq!(ran.code, i32::from(own == "linux/386"), "{own}: {}", ran.err);
            }
            // A client that is let pulls what the platform needs, as Docker's does.
            let ran = client.run(&["create", "--platform", "linux/s390x", "busybox"]);
            assert!(
                ran.err.contains("Unable to find image 'busybox:latest' locally"),
                "{}",
                ran.err
            );
        }
    });
}

/// A client that is still sending reads why it is refused, whatever the size of what it sends.
#[test]
fn a_refused_body_gets_its_answer() {
    ground::run(|g| {
        let daemon = g.daemon();
        let big = vec![0; 8 << 20];
        for client in [daemon.docker(), daemon.cli()] {
            let ran = client.run_with(&["import", "--platform", "windows", "-", "x"], &big);
            assert_eq!(
                (ran.code, ran.err.as_str()),
                (1, "Error response from daemon: operating system is not supported\n")
            );
        }
    });
}

/// Several tags at once, and what a client says when there is none.
#[test]
fn pulling_beside_docker() {
    ground::run(|g| {
        prepare(g);
        compare(
            g,
            &[
                "pull -a REGISTRY/one",
                "images --format {{.Repository}}:{{.Tag}} REGISTRY/one",
                "pull -a REGISTRY/one",
                "pull -a -q REGISTRY/one",
                "pull -a REGISTRY/one:1",
                "pull REGISTRY/one",
                "pull REGISTRY/none",
                "pull -a REGISTRY/none",
                "pull REGISTRY/one:none",
                "pull --platform linux/s390x REGISTRY/one:1",
                "pull --platform linux/what/is/this REGISTRY/one:1",
                "pull REGISTRY/one@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "pull UPPER",
                "pull",
            ],
        );
    });
}

/// Two clients that pull one image at a time see one pull; it goes on when the first of them leaves.
#[test]
fn two_clients_share_a_pull() {
    ground::run(|g| {
        let noise: Vec<u8> = (0..4_000_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let big = Layer::gzip(&Tar::default().file("noise", 0o644, &noise).bytes());
        let rate = u64::try_from(big.blob.len()).unwrap() / 3;
        let digest = big.digest.clone();
        let double = Double::start(Image::new(vec![big], json!({})), Fault::Slow(rate)).unwrap();
        let daemon = g.daemon();
        let docker = daemon.docker();
        let mut first = docker.spawn(&["pull", &double.reference()]);
        let begun = || double.requests().iter().any(|line| line.contains(&digest));
        assert!(within(Duration::from_secs(10), begun));
        let second = docker.spawn(&["pull", &double.reference()]);
        std::thread::sleep(Duration::from_millis(700));
        first.kill().unwrap();
        first.wait().unwrap();
        let ran = finish(second, Duration::from_secs(60));
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        assert!(
            ran.out.contains("Pull complete") && ran.out.contains("Downloaded newer image"),
            "{}",
            ran.out
        );
        let fetched = double.requests().iter().filter(|line| line.contains(&digest)).count();
        assert_eq!(fetched, 1, "{:?}", double.requests());
        // Both have left: it is given up.
        docker.ok(&["rmi", &double.reference()]);
        let mut alone = docker.spawn(&["pull", &double.reference()]);
        let again = || double.requests().iter().filter(|line| line.contains(&digest)).count() == 2;
        assert!(within(Duration::from_secs(10), again));
        alone.kill().unwrap();
        alone.wait().unwrap();
        let empty = || {
            let layers = std::fs::read_dir(daemon.data_root().join("overlay2"))
                .unwrap()
                .flatten();
            layers.filter(|entry| entry.file_name() != "l").count() == 0
        };
        assert!(
            within(Duration::from_secs(5), empty),
            "a pull that nobody waits for goes on"
        );
    });
}
