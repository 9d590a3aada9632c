//! A container's files from outside: `cp`, `diff`, `export`, `commit`, `import`; beside Docker's own daemon, with its
//! client and with ours.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tests::compare::compare;
use tests::ground;
use tests::image::Tar;

#[test]
fn copying_beside_docker() {
    ground::run(|g| {
        compare(
            g,
            &[
                "create -q --name web --network none -v vol:/vol -v DIR/bind:/bind busybox sh",
                "! mkdir -p DIR/src/sub DIR/out DIR/bind; echo one > DIR/src/one; echo two > DIR/src/sub/two; ln -s one DIR/src/link; chmod 640 DIR/src/one",
                // Into the container.
                "cp DIR/src web:/tmp",
                "cp DIR/src web:/tmp/renamed",
                "cp DIR/src/. web:/tmp/renamed",
                "cp DIR/src/. web:/tmp/new",
                "cp DIR/src/one web:/tmp/file",
                "cp DIR/src/one web:/tmp/file",
                "cp DIR/src/one web:/tmp/none/file",
                "cp DIR/src/one web:/tmp/none/",
                "cp DIR/src web:/tmp/file",
                "cp DIR/src/link web:/tmp/link",
                "cp -L DIR/src/link web:/tmp/followed",
                "cp DIR/src/none web:/tmp",
                "cp DIR/src/one web:/vol/one",
                "cp DIR/src/one web:/bind/one",
                "! cat DIR/bind/one",
                "cp - web:/tmp << tar",
                "cp - web:/tmp/file << tar",
                "cp DIR/src/one none:/tmp",
                "cp web:/tmp web:/vol",
                "cp DIR/src DIR/out",
                // Out of it.
                "cp web:/tmp/src DIR/out",
                "cp web:/tmp/src DIR/out/renamed",
                "cp web:/tmp/src/. DIR/out/contents",
                "cp web:/tmp/src/one DIR/out",
                "cp web:/tmp/src/one DIR/out/file",
                "cp web:/tmp/src/link DIR/out/link",
                "cp -L web:/tmp/src/link DIR/out/linked",
                "cp web:/tmp/none DIR/out",
                "cp web:/vol DIR/out",
                "cp web:/bind/one DIR/out/bound",
                "cp web:/etc/passwd DIR/out/",
                "cp web:/tmp/src DIR/out/file",
                "cp web:/tmp/src/one DIR/out/none/file",
                "! cd DIR/out && find . | sort && find . -type f | sort | xargs cat && readlink link && stat -c '%a %s' file",
                // What is there now, as the container sees it.
                "export -o DIR/all.tar web",
                "! tar tf DIR/all.tar | grep -v '^dev\\|^etc\\|^bin' | sort",
                "! tar xOf DIR/all.tar tmp/in/x",
                "diff web",
                "diff none",
            ],
        );
    });
}

#[test]
fn images_of_containers_beside_docker() {
    ground::run(|g| {
        compare(
            g,
            &[
                "run --name did --network none -e A=1 --label l=v busybox sh -c touch_/new;rm_/etc/group;mkdir_/d",
                "diff did",
                "commit -m words -a me did made:1",
                "run --rm --network none made:1 sh -c ls_/new_/etc/group;ls_-d_/d",
                "inspect -f {{.Author}}|{{.Comment}}|{{.Config.Env}}|{{.Config.Labels}}|{{.Config.Cmd}}|{{len_.RootFS.Layers}}|{{.Os}}|{{.Architecture}} made:1",
                "commit --change CMD_[\"true\"] --change ENV_A=2 did",
                "commit --change CMD[\"true\"] did",
                "commit --change ENTRYPOINT_[\"cat\"] did made:3",
                "inspect -f {{json_.Config.Entrypoint}}|{{json_.Config.Cmd}} made:3",
                "commit --change ENTRYPOINT_[] did made:4",
                "inspect -f {{json_.Config.Entrypoint}}|{{json_.Config.Cmd}} made:4",
                "commit --change ENV_B=${A:-x}${C:-y}_D=5$ --change VOLUME_[\"/v/$A\"] did made:5",
                "inspect -f {{json_.Config.Env}}|{{json_.Config.Volumes}} made:5",
                "commit --change # did",
                "commit none",
                "commit did made:1:2",
                "export -o DIR/did.tar did",
                "import -m imported DIR/did.tar imported:1",
                "inspect -f {{.Comment}}|{{len_.RootFS.Layers}}|{{.Config.Cmd}} imported:1",
                "run --rm --network none imported:1 cat /etc/passwd",
                "import --change CMD_[\"cat\",\"/etc/passwd\"] DIR/did.tar imported:2",
                "run --rm --network none imported:2",
                "import --change RUN_x DIR/did.tar imported:3",
                "import DIR/none.tar",
                "history --format {{.CreatedBy}}|{{.Comment}} imported:1",
                "history --format {{.CreatedBy}}|{{.Comment}} made:1",
            ],
        );
    });
}

/// Links in a container lead to the container's own files, never to the host's.
#[test]
fn links_in_a_container_lead_nowhere_else() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        let cli = daemon.cli();
        let secret = daemon.dir().join("secret");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "the host's").unwrap();
        let out = daemon.dir().join("out");
        fs::create_dir(&out).unwrap();
        let place = secret.display().to_string();
        let script = format!(
            "ln -s {place} /direct; ln -s / /root-link; ln -s ../../../../../../../..{place} /up; ln -s /proc/1/root /magic; \
             ln -s loop /loop; mkdir -p /fifo-dir; mkfifo /fifo-dir/f 2>/dev/null || true"
        );
        docker.ok(&[
            "run",
            "--name",
            "evil",
            "--network=none",
            "busybox",
            "sh",
            "-c",
            &script,
        ]);
        let target = out.display().to_string();
        let from = daemon.dir().join("from");
        fs::write(&from, "the client's").unwrap();
        let from = from.display().to_string();
        for client in [&docker, &cli] {
            for link in ["direct", "up", "magic"] {
                let ran = client.run(&["cp", &format!("evil:/{link}/key"), &target]);
                assert_ne!(ran.code, 0, "{link}");
                let ran = client.run(&["cp", "-L", &format!("evil:/{link}"), &target]);
                assert!(
                    !out.join("key").exists() && !out.join(link).join("key").exists(),
                    "{link}: {ran:?}"
                );
                client.run(&["cp", &from, &format!("evil:/{link}/key")]);
                client.run(&["cp", &from, &format!("evil:/{link}")]);
            }
            assert_ne!(client.run(&["cp", "evil:/loop/x", &target]).code, 0);
            assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "the host's");
            assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
        }
        // An archive that makes a link and writes through it.
        let tar = Tar::default()
            .symlink("door", &place)
            .file("door/key", 0o644, b"through the door")
            .file("../../../../../../..".to_owned().as_str(), 0o644, b"")
            .bytes();
        let _ = docker.run_with(&["cp", "-", "evil:/tmp"], &tar);
        assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "the host's");
        // An error names the path in the container, not how it is held.
        let lost = Tar::default().hard_link("name", "no/file").bytes();
        let ran = docker.run_with(&["cp", "-", "evil:/tmp/"], &lost);
        assert!(
            ran.code == 1 && ran.err.contains("/tmp/") && !ran.err.contains("/proc/"),
            "{}",
            ran.err
        );
        // Half an archive, noise, and a path that is none: refused, and the daemon goes on.
        for bytes in [&tar[..700], &b"no tar at all"[..], &[0x1f, 0x8b, 8, 0, 1, 2, 3]] {
            let ran = docker.run_with(&["cp", "-", "evil:/tmp"], bytes);
            assert_ne!(ran.code, 0);
        }
        assert_eq!(daemon.api("GET", "/containers/evil/archive", "").status, 400);
        assert_eq!(daemon.api("GET", "/containers/evil/archive?path=%00", "").status, 400);
        docker.ok(&["rm", "evil"]);
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn read_only_places_stay_as_they_are() {
    ground::run(|g| {
        let (daemon, docker) = g.daemon_with_busybox();
        let from = daemon.dir().join("from");
        fs::write(&from, "x").unwrap();
        let from = from.display().to_string();
        let make = |arguments: &[&str]| docker.ok(&[&["create", "--network=none"], arguments, &["busybox"]].concat());
        make(&["--name", "ro", "--read-only", "-v", "data:/data"]);
        make(&["--name", "volume", "-v", "data:/data:ro", "--user", "1000"]);
        let ran = docker.run(&["cp", &from, "ro:/tmp/x"]);
        assert_eq!(
            ran.err.trim(),
            "Error response from daemon: container rootfs is marked read-only"
        );
        docker.ok(&["cp", &from, "ro:/data/x"]);
        let ran = docker.run(&["cp", &from, "volume:/data/y"]);
        assert_eq!(
            ran.err.trim(),
            "Error response from daemon: mounted volume is marked read-only"
        );
        docker.ok(&["cp", "-a", &from, "volume:/tmp/mine"]);
        let listed = docker.run(&["cp", "volume:/tmp/mine", "-"]);
        let mut reader = oci::tar::Reader::new(listed.out.as_bytes());
        assert_eq!(reader.next_entry().unwrap().unwrap().uid, 1000);
        // The same stat for everybody who asks.
        let answer = daemon.api("HEAD", "/containers/ro/archive?path=/data/x", "");
        assert_eq!(answer.status, 200);
        let header = answer.header("x-docker-container-path-stat").unwrap();
        let stat: Value = serde_json::from_slice(&oci::base64::decode(header).unwrap()).unwrap();
        assert_eq!(
            (&stat["name"], &stat["size"], &stat["linkTarget"]),
            (&json!("x"), &json!(1), &json!(""))
        );
        assert!(Path::new(&from).exists());
    });
}
