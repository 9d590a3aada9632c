//! A daemon killed at any moment of a pull leaves nothing behind for long, and what it had completed is there.

mod common;

use common::{Scratch, Tar, names, root};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use store::Store;

const ROOT: &str = "STORE_TEST_ROOT";

fn tar(n: u32) -> Vec<u8> {
    let mut tar = Tar::new();
    for file in 0..200 {
        tar = tar.file(
            &format!("dir{}/file{file}", file % 7),
            &format!("{n} {}", "x".repeat(5000)),
        );
    }
    tar.done()
}

/// The one who gets killed; does nothing unless it was started for that.
#[test]
fn child() {
    let Ok(path) = std::env::var(ROOT) else { return };
    let store = Store::open(path.as_ref()).unwrap();
    for n in 0.. {
        let layer = store
            .layers
            .stage(None)
            .unwrap()
            .unpack(&tar(n)[..])
            .unwrap()
            .commit_as_is()
            .unwrap();
        let diff = store.layers.info(layer.chain_id()).unwrap().diff_id.0;
        let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#);
        let id = store.images.put(config.as_bytes(), Some(&layer)).unwrap();
        store
            .tags
            .set(&oci::reference::Reference::parse("image").unwrap(), &id)
            .unwrap();
        store
            .rw
            .create(&format!("c{n}"), Some(&layer), Some(&mut |_| Ok(())))
            .unwrap();
    }
}

#[test]
fn killed_in_mid_pull() {
    if !root() {
        return;
    }
    let dir = Scratch::new();
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(ROOT, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.rw.unmount_stale(&Default::default());
        let swept = store.sweep();
        assert!(swept.errors.is_empty(), "{swept:?}");
        // What has a record is whole.
        for (chain, info) in store.layers.list() {
            let layer = store.layers.get(&chain).unwrap();
            let mut hashing = store::hash::Hashing::new(std::io::sink());
            store.layers.write_tar(&layer, &mut hashing).unwrap();
            assert_eq!(hashing.finish().0, info.diff_id.0);
        }
        for (_, id) in store.tags.list() {
            store.images.config(&id).unwrap();
        }
        for container in store.rw.list() {
            store.rw.mount(&container).unwrap();
            store.rw.unmount(&container).unwrap();
            store.rw.remove(&container).unwrap();
        }
        for id in store.images.list() {
            store.images.remove(&id).unwrap();
        }
        store.layers.remove_all_unused().unwrap();
        for empty in [
            "overlay2/l",
            "image/overlay2/layerdb/sha256",
            "image/overlay2/layerdb/tmp",
            "image/overlay2/layerdb/mounts",
        ] {
            assert!(
                names(&dir.path().join(empty)).is_empty(),
                "round {round}: {empty}: {:?}",
                names(&dir.path().join(empty))
            );
        }
        assert_eq!(names(&dir.path().join("overlay2")), ["l"], "round {round}");
        let left = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!left.contains(dir.path().to_str().unwrap()));
        fs::remove_file(dir.path().join("image/overlay2/repositories.json")).ok();
    }
}
