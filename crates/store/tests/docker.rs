//! One data root, two daemons: what we make, Docker serves, and what Docker makes, we serve.

mod common;

use common::{Root, Scratch, Tar, entry, names, root};
use oci::reference::Reference;
use oci::tar::{Entry, Kind};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::Store;

/// A dockerd on a data root, ended when dropped.
struct Docker {
    daemon: Child,
    run: tempfile::TempDir,
    root: PathBuf,
}

impl Docker {
    fn start(root: &Path) -> Option<Docker> {
        let run = tempfile::tempdir().unwrap();
        let at = |name: &str| run.path().join(name).display().to_string();
        let log = fs::File::create(at("log")).unwrap();
        let daemon = Command::new("dockerd")
            .args([
                "--data-root",
                root.to_str().unwrap(),
                "--exec-root",
                &at("exec"),
                "--pidfile",
                &at("pid"),
            ])
            .args([
                "-H",
                &format!("unix://{}", at("sock")),
                "--bridge=none",
                "--iptables=false",
                "--storage-driver=overlay2",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let Ok(daemon) = daemon else {
            eprintln!("skipped: no dockerd");
            return None;
        };
        let mut docker = Docker {
            daemon,
            run,
            root: root.to_owned(),
        };
        let start = Instant::now();
        while docker.docker(&["version"]).is_err() {
            if start.elapsed() > Duration::from_secs(30) || docker.daemon.try_wait().unwrap().is_some() {
                let log = fs::read_to_string(docker.run.path().join("log")).unwrap();
                eprintln!(
                    "skipped: dockerd does not run here: {}",
                    log.lines().last().unwrap_or("")
                );
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(docker)
    }

    fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}/sock", self.run.path().display());
        let Ok(output) = Command::new("docker").args(["-H", &socket]).args(arguments).output() else {
            return Err("no docker client".into());
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }

    fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        // dockerd leaves its root mounted on itself in some set-ups.
        let _ = rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn docker_serves_what_we_made() {
    if !root() {
        return;
    }
    let at = Root::new();
    let xattrs = vec![(
        b"security.capability".to_vec(),
        b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
    )];
    let base = Tar::new()
        .dir("bin/")
        .add(
            Entry {
                xattrs,
                ..entry(Kind::Regular, "bin/tool", 0o4755)
            },
            &[7; 100_000],
        )
        .add(
            Entry {
                link: b"bin/tool".to_vec(),
                ..entry(Kind::HardLink, "bin/same", 0o4755)
            },
            b"",
        )
        .link(Kind::Symlink, "bin/sh", "/bin/tool")
        .file("etc/gone", "1")
        .done();
    let base = at.layer(None, &base).unwrap();
    let top = at
        .layer(
            Some(base.chain_id()),
            &Tar::new().file("etc/.wh.gone", "").file("etc/new", "2").done(),
        )
        .unwrap();
    let id = at.image(&[&base, &top]);
    at.store
        .tags
        .set(&Reference::parse("made/here:v1").unwrap(), &id)
        .unwrap();
    let diffs: Vec<String> = [&base, &top]
        .map(|l| at.store.layers.info(l.chain_id()).unwrap().diff_id.0.to_string())
        .into();
    let data = at.store.graph_driver_data(top.chain_id()).unwrap();
    drop((base, top));
    let Root { store, dir } = at;
    drop(store);

    let Some(docker) = Docker::start(dir.path()) else {
        return;
    };
    let run = |arguments: &[&str]| {
        docker
            .docker(arguments)
            .unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    };
    assert_eq!(
        run(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]),
        format!("made/here:v1 {id}")
    );
    let inspect: serde_json::Value = serde_json::from_str(&run(&["image", "inspect", "made/here:v1"])).unwrap();
    assert_eq!(inspect[0]["RootFS"]["Layers"], serde_json::json!(diffs));
    assert_eq!(inspect[0]["GraphDriver"]["Data"], serde_json::json!(data));
    assert_eq!(inspect[0]["Size"], serde_json::json!(100_000 + 9 + 1 + 1));
    let saved = dir.path().join("saved.tar");
    run(&["save", "-o", saved.to_str().unwrap(), "made/here:v1"]);
    // Docker rebuilds each layer by our tar-split, and its digest is the diff ID.
    let mut reader = oci::tar::Reader::new(fs::File::open(&saved).unwrap());
    let mut layers = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.name.ends_with(b"layer.tar") && entry.kind == Kind::Regular {
            let mut hashing = store::hash::Hashing::new(std::io::sink());
            std::io::copy(&mut reader, &mut hashing).unwrap();
            layers.push(hashing.finish().0.to_string());
        }
    }
    let mut wanted = diffs.clone();
    layers.sort();
    wanted.sort();
    assert_eq!(layers, wanted);
    // A container of Docker's on our layers, and one of its commits on top of them.
    let container = run(&["create", "--name", "theirs", "made/here:v1", "/bin/tool"]);
    let file = dir.path().join("theirs.txt");
    fs::write(&file, "theirs").unwrap();
    run(&["cp", file.to_str().unwrap(), "theirs:/etc/theirs"]);
    let committed = run(&["commit", "theirs", "theirs:latest"]);
    run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "vol"]);
    docker.stop();

    let store = Store::open(dir.path()).unwrap();
    let names_of = |tag: &str| store.tags.get(&Reference::parse(tag).unwrap()).map(|id| id.to_string());
    assert_eq!(
        (names_of("theirs"), names_of("made/here:v1")),
        (Some(committed.clone()), Some(id.to_string()))
    );
    let theirs = store.images.with_prefix(&committed["sha256:".len()..]).pop().unwrap();
    assert_eq!(store.images.parent(&theirs).unwrap(), Some(id.clone()));
    let top = store
        .layers
        .get(&store.images.top_layer(&theirs).unwrap().unwrap())
        .unwrap();
    let mut hashing = store::hash::Hashing::new(std::io::sink());
    store.layers.write_tar(&top, &mut hashing).unwrap();
    assert_eq!(hashing.finish().0, store.layers.info(top.chain_id()).unwrap().diff_id.0);
    let merged = store.rw.mount(&container).unwrap();
    assert_eq!(fs::read_to_string(merged.join("etc/theirs")).unwrap(), "theirs");
    assert!(!merged.join("etc/gone").exists() && merged.join("bin/tool").metadata().unwrap().mode() & 0o7777 == 0o4755);
    store.rw.unmount(&container).unwrap();
    assert_eq!(store.volumes.get("vol").unwrap().unwrap().options["type"], "tmpfs");
    assert_eq!(store.containers.list().unwrap(), std::slice::from_ref(&container));
    assert_eq!(store.sweep().layers, 0);
    store
        .rw
        .create("b".repeat(64).as_str(), Some(&top), Some(&mut |_| Ok(())))
        .unwrap();
    drop(top);

    // And Docker's way of removing leaves our root clean.
    store.rw.remove(&"b".repeat(64)).unwrap();
    drop(store);
    let Some(docker) = Docker::start(dir.path()) else {
        return;
    };
    for arguments in [
        ["rm", "-f", "theirs"],
        ["rmi", "-f", "theirs"],
        ["rmi", "-f", "made/here:v1"],
    ] {
        docker.docker(&arguments).unwrap();
    }
    docker.stop();
    let left = names(&dir.path().join("overlay2"));
    assert_eq!(left, ["l"], "Docker left {left:?}");
}

/// The same tar through both: the same files on disk, byte for byte and mode for mode.
#[test]
fn the_same_records_as_docker() {
    if !root() {
        return;
    }
    let dir = Scratch::new();
    let Some(docker) = Docker::start(dir.path()) else {
        return;
    };
    let tar = Tar::new().dir("etc/").file("etc/f", "1").done();
    let path = dir.path().join("rootfs.tar");
    fs::write(&path, &tar).unwrap();
    docker
        .docker(&["import", path.to_str().unwrap(), "one:latest"])
        .unwrap();
    docker.docker(&["create", "--name", "c1", "one:latest", "/x"]).unwrap();
    docker.stop();
    let at = Root::new();
    let layer = at.layer(None, &tar).unwrap();
    let info = at.store.layers.info(layer.chain_id()).unwrap();
    at.image(&[&layer]);
    at.store
        .rw
        .create(&"c".repeat(64), Some(&layer), Some(&mut |_| Ok(())))
        .unwrap();
    let name = format!("image/overlay2/layerdb/sha256/{}", layer.chain_id().digest().hex());
    for file in ["diff", "size"] {
        assert_eq!(
            fs::read(at.path().join(&name).join(file)).unwrap(),
            fs::read(dir.path().join(&name).join(file)).unwrap()
        );
    }
    assert_eq!(info.size, 1);
    let modes = |root: &Path, cache_id: &str| -> Vec<(String, u32)> {
        let mount = fs::read_dir(root.join("image/overlay2/layerdb/mounts"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let mount_id = fs::read_to_string(mount.join("mount-id")).unwrap();
        let mut paths: Vec<(String, PathBuf)> = [
            "containers",
            "image",
            "image/overlay2",
            "image/overlay2/distribution",
            "image/overlay2/imagedb/content/sha256",
            "image/overlay2/imagedb/metadata/sha256",
            "image/overlay2/layerdb",
            "image/overlay2/layerdb/mounts",
            "image/overlay2/layerdb/sha256",
            "image/overlay2/layerdb/tmp",
            "overlay2",
            "overlay2/l",
            "volumes",
        ]
        .map(|path| (path.to_owned(), root.join(path)))
        .into();
        paths.push(("record".into(), root.join(&name)));
        paths.extend(["cache-id", "diff", "size", "tar-split.json.gz"].map(|f| (f.into(), root.join(&name).join(f))));
        paths.extend(["", "mount-id", "init-id", "parent"].map(|f| (format!("mount/{f}"), mount.join(f))));
        for (story, id) in [
            ("layer", cache_id.to_owned()),
            ("init", format!("{mount_id}-init")),
            ("rw", mount_id.clone()),
        ] {
            let layer = root.join("overlay2").join(id);
            paths.extend(
                ["", "diff", "link", "lower", "work", "committed"].map(|f| (format!("{story}/{f}"), layer.join(f))),
            );
        }
        let mode = |path: &Path| fs::symlink_metadata(path).map_or(0, |found| found.mode());
        paths.into_iter().map(|(story, path)| (story, mode(&path))).collect()
    };
    let theirs = fs::read_to_string(dir.path().join(&name).join("cache-id")).unwrap();
    assert_eq!(modes(at.path(), &info.cache_id), modes(dir.path(), &theirs));
    at.store.rw.remove(&"c".repeat(64)).unwrap();
}
