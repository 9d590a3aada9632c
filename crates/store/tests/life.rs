//! Images, tags, containers' layers, volumes: their coming and going, over restarts.

mod common;

use common::{Root, Tar, entry, names, root};
use oci::digest::Digest;
use oci::reference::Reference;
use oci::tar::{Entry, Kind};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use store::{ChainId, ChangeKind, Store};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn mounts_below(path: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| line.contains(path.to_str().unwrap()))
        .count()
}

#[test]
fn an_image_comes_stays_and_goes() {
    if !root() {
        return;
    }
    let at = Root::new();
    let base = at
        .layer(None, &Tar::new().dir("etc/").file("etc/a", "1").done())
        .unwrap();
    let top = at
        .layer(Some(base.chain_id()), &Tar::new().file("etc/b", "22").done())
        .unwrap();
    let id = at.image(&[&base, &top]);
    at.store.images.set_last_updated(&id, "2026-01-01T00:00:00.5Z").unwrap();
    assert_eq!(at.store.tags.set(&reference("busybox"), &id).unwrap(), None);
    let digest = reference("busybox").with_digest(&id.0);
    at.store.tags.set(&digest, &id).unwrap();
    let json = fs::read_to_string(at.path().join("image/overlay2/repositories.json")).unwrap();
    let wanted = format!(r#"{{"Repositories":{{"busybox":{{"busybox:latest":"{id}","busybox@{id}":"{id}"}}}}}}"#);
    assert_eq!(json, wanted);
    let chain = top.chain_id().clone();
    drop((base, top));
    assert!(
        at.store.layers.remove_unused(&chain).unwrap().is_empty(),
        "an image needs it"
    );

    let at = at.reopen();
    assert_eq!(at.store.images.list(), std::slice::from_ref(&id));
    assert_eq!(
        at.store.images.last_updated(&id).unwrap().unwrap(),
        "2026-01-01T00:00:00.5Z"
    );
    assert_eq!(at.store.images.top_layer(&id).unwrap().as_ref(), Some(&chain));
    assert_eq!(
        at.store.tags.get(&reference("docker.io/library/busybox:latest")),
        Some(id.clone())
    );
    assert_eq!(at.store.tags.of_image(&id).len(), 2);
    assert_eq!(at.store.images.with_prefix(&id.0.hex()[..6]), std::slice::from_ref(&id));
    assert_eq!(at.store.layers.chain_size(&chain), 3);
    let data = at.store.graph_driver_data(&chain).unwrap();
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        ["LowerDir", "MergedDir", "UpperDir", "WorkDir"]
    );
    assert!(Path::new(&data["LowerDir"]).join("etc/a").exists());

    at.store.tags.remove(&reference("busybox")).unwrap();
    at.store.tags.remove(&digest).unwrap();
    assert_eq!(at.store.images.remove(&id).unwrap().len(), 2);
    assert!(at.store.images.get(&id).unwrap_err().is_not_found());
    assert!(at.overlays().is_empty() && names(&at.path().join("image/overlay2/layerdb/sha256")).is_empty());
    assert_eq!(at.store.sweep(), store::Swept::default());
}

#[test]
fn layers_shared_and_held_stay() {
    if !root() {
        return;
    }
    let at = Root::new();
    let base = at.layer(None, &Tar::new().file("a", "1").done()).unwrap();
    let one = at
        .layer(Some(base.chain_id()), &Tar::new().file("b", "1").done())
        .unwrap();
    let two = at
        .layer(Some(base.chain_id()), &Tar::new().file("c", "1").done())
        .unwrap();
    let (first, second) = (at.image(&[&base, &one]), at.image(&[&base, &two]));
    drop((one, two));
    let base_chain = base.chain_id().clone();
    drop(base);
    assert_eq!(at.store.images.remove(&first).unwrap().len(), 1);
    let held = at.store.layers.get(&base_chain).unwrap();
    assert_eq!(at.store.images.remove(&second).unwrap().len(), 1);
    assert!(at.store.layers.exists(&base_chain));
    drop(held);
    assert_eq!(at.store.layers.remove_all_unused().unwrap(), [base_chain]);
    assert!(at.overlays().is_empty());
}

/// Two pulls of one layer at once end with one layer, and nothing beside it.
#[test]
fn the_same_layer_twice_at_once() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new().file("f", &"x".repeat(100_000)).done();
    let ids: Vec<ChainId> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..6).map(|_| scope.spawn(|| at.layer(None, &tar).unwrap())).collect();
        let layers: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap()).collect();
        layers.iter().map(|layer| layer.chain_id().clone()).collect()
    });
    assert!(ids.iter().all(|id| id == &ids[0]));
    assert_eq!(
        (at.overlays().len(), names(&at.path().join("overlay2/l")).len()),
        (1, 1)
    );
    // Pulled, removed and pulled again by many at a time.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let layer = at.layer(None, &tar).unwrap();
                    assert!(at.diff(&layer).join("f").exists());
                    let chain = layer.chain_id().clone();
                    drop(layer);
                    at.store.layers.remove_unused(&chain).unwrap();
                    at.store.sweep();
                }
            });
        }
    });
    assert!(at.overlays().is_empty());
}

#[test]
fn a_layer_without_its_directory_is_absent_and_can_come_again() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new().file("f", "1").done();
    let layer = at.layer(None, &tar).unwrap();
    let (chain, diff) = (layer.chain_id().clone(), at.diff(&layer));
    let id = at.image(&[&layer]);
    drop(layer);
    fs::remove_dir_all(diff.parent().unwrap()).unwrap();
    assert!(!at.store.layers.exists(&chain));
    let at = at.reopen();
    assert!(!at.store.layers.exists(&chain) && at.store.images.list().is_empty());
    let layer = at.layer(None, &tar).unwrap();
    assert_eq!(layer.chain_id(), &chain);
    assert_eq!(at.image(&[&layer]), id);
    drop(layer);
    let at = at.reopen();
    assert!(at.store.layers.exists(&chain) && at.store.images.exists(&id));
}

#[test]
fn damaged_records_are_set_aside_and_the_rest_is_served() {
    if !root() {
        return;
    }
    let at = Root::new();
    let layers: Vec<_> = ["a", "b", "c"]
        .map(|name| at.layer(None, &Tar::new().file(name, name).done()).unwrap())
        .into();
    let images: Vec<_> = layers.iter().map(|layer| at.image(&[layer])).collect();
    at.store.tags.set(&reference("a"), &images[0]).unwrap();
    let chains: Vec<_> = layers.iter().map(|layer| layer.chain_id().clone()).collect();
    drop(layers);
    let image = at.path().join("image/overlay2");
    fs::write(image.join("imagedb/content/sha256").join(images[1].0.hex()), "{}").unwrap();
    fs::write(
        image
            .join("layerdb/sha256")
            .join(chains[2].digest().hex())
            .join("cache-id"),
        "../../../etc",
    )
    .unwrap();
    fs::write(image.join("repositories.json"), "{").unwrap();
    let at = at.reopen();
    assert_eq!(at.store.images.list(), [images[0].clone()]);
    assert!(at.store.tags.list().is_empty());
    assert!(image.join("repositories.json.bad").exists());
    assert!(
        image
            .join("imagedb/content/sha256")
            .join(format!("{}.bad", images[1].0.hex()))
            .exists()
    );
    assert!(
        image
            .join("layerdb/sha256")
            .join(format!("{}.bad", chains[2].digest().hex()))
            .exists()
    );
}

#[test]
fn the_sweep_takes_what_no_record_names_and_nothing_else() {
    if !root() {
        return;
    }
    let at = Root::new();
    let layer = at.layer(None, &Tar::new().file("f", "1").done()).unwrap();
    at.store.rw.create("c1", Some(&layer), Some(&mut |_| Ok(()))).unwrap();
    let staged = at.store.layers.stage(Some(layer.chain_id())).unwrap();
    let overlay = at.path().join("overlay2");
    let orphan = "f".repeat(64);
    for name in [
        orphan.clone(),
        format!("{orphan}-init"),
        format!("{}-removing", "e".repeat(64)),
        "buildkitsownname000000000".into(),
    ] {
        fs::create_dir_all(overlay.join(&name).join("diff")).unwrap();
        fs::write(overlay.join(&name).join("diff/f"), "12345").unwrap();
    }
    std::os::unix::fs::symlink("../gone/diff", overlay.join("l/AAAAAAAAAAAAAAAAAAAAAAAAAA")).unwrap();
    let image = at.path().join("image/overlay2");
    for name in [
        "layerdb/tmp/write-set-123",
        "layerdb/sha256/.tmp-removing-1",
        "layerdb/mounts/.tmp-mount-1",
        "distribution/diffid-by-digest/sha256/.tmp-1",
    ] {
        fs::create_dir(image.join(name)).unwrap();
    }
    fs::write(image.join(".tmp-repositories.json1"), "{").unwrap();
    let swept = at.store.sweep();
    assert_eq!(
        (swept.layers, swept.links, swept.temporary, swept.errors.len()),
        (3, 1, 5, 0)
    );
    assert_eq!(swept.bytes, 16);
    assert!(overlay.join("buildkitsownname000000000").exists());
    let layer = staged
        .unpack(&Tar::new().file("g", "1").done()[..])
        .unwrap()
        .commit_as_is()
        .unwrap();
    assert!(at.diff(&layer).join("g").exists());
    assert_eq!(at.store.sweep(), store::Swept::default());
    at.store.rw.remove("c1").unwrap();
}

#[test]
fn one_daemon_a_root() {
    if !root() {
        return;
    }
    let at = Root::new();
    let error = Store::open(at.path()).unwrap_err();
    assert!(error.to_string().ends_with("another daemon uses it"), "{error}");
    at.reopen();
}

#[test]
fn a_container_writes_and_its_changes_become_a_layer() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new()
        .dir("etc/")
        .file("etc/keep", "1")
        .file("etc/change", "1")
        .file("etc/delete", "1")
        .dir("old/")
        .file("old/x", "1")
        .add(
            Entry {
                uid: 3,
                ..entry(Kind::Directory, "own/", 0o750)
            },
            b"",
        )
        .done();
    let layer = at.layer(None, &tar).unwrap();
    let init = &mut |merged: &Path| {
        fs::create_dir(merged.join("dev")).unwrap();
        fs::write(merged.join("etc/hosts"), "").unwrap();
        Ok(())
    };
    let rw = at.store.rw.create("c1", Some(&layer), Some(init)).unwrap();
    let chain = layer.chain_id().clone();
    let record = at.path().join("image/overlay2/layerdb/mounts/c1");
    let text = |name: &str| fs::read_to_string(record.join(name)).unwrap();
    assert_eq!(
        (text("mount-id"), text("init-id"), text("parent")),
        (
            rw.mount_id.clone(),
            format!("{}-init", rw.mount_id),
            chain.digest().to_string()
        )
    );
    assert!(at.store.rw.create("c1", None, None).is_err());
    // A directory that init only wrote into keeps what the image says of it.
    let merged = at.store.rw.mount("c1").unwrap();
    assert_eq!(merged, at.store.rw.mount("c1").unwrap());
    assert_eq!(mounts_below(at.path()), 1);
    fs::write(merged.join("etc/change"), "22").unwrap();
    fs::remove_file(merged.join("etc/delete")).unwrap();
    fs::remove_dir_all(merged.join("old")).unwrap();
    fs::create_dir(merged.join("old")).unwrap();
    fs::write(merged.join("old/new"), "2").unwrap();
    fs::write(merged.join("own/f"), "333").unwrap();
    fs::hard_link(merged.join("own/f"), merged.join("own/g")).unwrap();
    let set = fs::metadata(merged.join("own")).unwrap();
    assert_eq!((set.uid(), set.permissions().mode() & 0o777), (3, 0o750));
    let changes: Vec<String> = at
        .store
        .rw
        .changes("c1")
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", ["C", "A", "D"][change.kind as usize], change.path.display()))
        .collect();
    let mut sorted = changes.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "A /old/new",
            "A /own/f",
            "A /own/g",
            "C /etc",
            "C /etc/change",
            "C /old",
            "C /own",
            "D /etc/delete"
        ]
    );
    assert_eq!(ChangeKind::Deleted as u8, 2);
    assert_eq!(at.store.rw.size("c1").unwrap(), 2 + 1 + 3);
    let mut tar = Vec::new();
    at.store.rw.tar_diff("c1", &mut tar).unwrap();
    let committed = at.layer(Some(&chain), &tar).unwrap();
    let id = at.image(&[&layer, &committed]);
    at.store.rw.create("c2", Some(&committed), None).unwrap();
    let second = at.store.rw.mount("c2").unwrap();
    assert_eq!(
        (
            names(&second.join("etc")),
            names(&second.join("old")),
            names(&second.join("own"))
        ),
        (
            vec!["change".to_string(), "keep".into()],
            vec!["new".to_string()],
            vec!["f".to_string(), "g".into()]
        )
    );
    assert_eq!(fs::metadata(second.join("own/f")).unwrap().nlink(), 2);
    let mut export = Vec::new();
    at.store.rw.tar_all("c2", &mut export).unwrap();
    let mut reader = oci::tar::Reader::new(&export[..]);
    let mut exported = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        exported.push(String::from_utf8(entry.name).unwrap());
    }
    assert_eq!(
        exported,
        [
            "etc/",
            "etc/change",
            "etc/keep",
            "old/",
            "old/new",
            "own/",
            "own/f",
            "own/g"
        ]
    );
    drop((layer, committed));

    // The daemon dies with both mounted; the next one takes the first over and unmounts the second.
    let at = at.reopen();
    assert_eq!(mounts_below(at.path()), 2);
    let running = HashSet::from(["c1".to_string()]);
    assert!(at.store.rw.unmount_stale(&running).is_empty());
    assert_eq!(mounts_below(at.path()), 1);
    at.store.rw.mount("c1").unwrap();
    assert_eq!(mounts_below(at.path()), 1);
    at.store.images.remove(&id).unwrap();
    assert!(at.store.layers.exists(&chain), "containers need it");
    at.store.rw.remove("c2").unwrap();
    at.store.rw.remove("c1").unwrap();
    assert_eq!((mounts_below(at.path()), at.overlays().len()), (0, 0));
    assert!(names(&at.path().join("overlay2/l")).is_empty());
    assert!(at.store.rw.mount("c1").unwrap_err().is_not_found());
}

/// More layers than absolute paths have room for in a page of mount data.
#[test]
fn a_deep_image_mounts() {
    if !root() {
        return;
    }
    let at = Root::new();
    let mut layers: Vec<store::LayerId> = Vec::new();
    for n in 0..125 {
        let tar = Tar::new().file(&format!("f{n}"), "1").done();
        layers.push(at.layer(layers.last().map(store::LayerId::chain_id), &tar).unwrap());
    }
    at.store.rw.create("c", layers.last(), Some(&mut |_| Ok(()))).unwrap();
    let merged = at.store.rw.mount("c").unwrap();
    assert_eq!(names(&merged).len(), 125);
    at.store.rw.unmount("c").unwrap();
    at.store.rw.remove("c").unwrap();
    assert_eq!(mounts_below(at.path()), 0);
}

#[test]
fn volumes_by_dockers_rules() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let labels = BTreeMap::from([("a".to_string(), "b".to_string())]);
    let (volume, existed) = store.volumes.create("data", &labels, &BTreeMap::new()).unwrap();
    assert!(!existed && volume.data.ends_with("volumes/data/_data"));
    fs::write(volume.data.join("f"), "1").unwrap();
    assert!(
        store
            .volumes
            .create("data", &BTreeMap::new(), &BTreeMap::new())
            .unwrap()
            .1
    );
    let options = ["type", "device", "o"].map(|key| (key.to_string(), "tmpfs".to_string()));
    let (tmpfs, _) = store
        .volumes
        .create("t1", &BTreeMap::new(), &options.clone().into())
        .unwrap();
    let json = fs::read_to_string(tmpfs.data.parent().unwrap().join("opts.json")).unwrap();
    assert_eq!(
        json,
        r#"{"MountType":"tmpfs","MountOpts":"tmpfs","MountDevice":"tmpfs","Quota":{"Size":0}}"#
    );
    let listed = store.volumes.list().unwrap();
    assert_eq!(
        listed.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
        ["data", "t1"]
    );
    assert_eq!((&listed[0].labels, &listed[1].options), (&labels, &options.into()));
    for bad in ["x", "", "../x", ".hidden", "a/b", "a b", "-x", "ä1"] {
        assert!(store.volumes.create(bad, &labels, &BTreeMap::new()).is_err(), "{bad}");
    }
    store.volumes.remove("data").unwrap();
    assert!(store.volumes.remove("data").unwrap_err().is_not_found());
    assert_eq!(names(&dir.path().join("volumes")), ["t1"]);
}

#[test]
fn containers_records_and_the_blob_cache() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = "a".repeat(64);
    store.containers.create(&id).unwrap();
    assert!(store.containers.create(&id).is_err());
    store.containers.write(&id, "config.v2.json", b"{1}", 0o600).unwrap();
    store.containers.write(&id, "config.v2.json", b"{2}", 0o600).unwrap();
    assert_eq!(store.containers.read(&id, "config.v2.json").unwrap().unwrap(), b"{2}");
    assert_eq!(store.containers.read(&id, "hostconfig.json").unwrap(), None);
    assert_eq!(store.containers.list().unwrap(), std::slice::from_ref(&id));
    for bad in ["..", "", "a/b", "../x"] {
        assert!(store.containers.read(bad, "x").is_err() && store.containers.read(&id, bad).is_err());
    }
    assert!(store.containers.remove(&id).unwrap() && !store.containers.remove(&id).unwrap());

    let diff = store::DiffId(store::hash::sha256(b"layer"));
    let blob = |n: u32| store::distribution::Blob {
        digest: store::hash::sha256(&n.to_be_bytes()),
        repository: "docker.io/library/busybox".into(),
        hmac: String::new(),
    };
    for n in 0..60 {
        store.distribution.add(&diff, blob(n)).unwrap();
    }
    store.distribution.add(&diff, blob(30)).unwrap();
    let blobs = store.distribution.blobs(&diff);
    assert_eq!((blobs.len(), blobs.last()), (50, Some(&blob(30))));
    assert_eq!(store.distribution.diff_id(&blob(7).digest), Some(diff.clone()));
    assert_eq!(store.distribution.diff_id(&Digest::sha256([0; 32])), None);
    store.distribution.remove(&diff, &blob(30)).unwrap();
    assert_eq!(store.distribution.blobs(&diff).len(), 49);
}

/// What a pull, a load or a commit that was killed leaves whole is found by the next pull, but not for ever.
#[test]
fn layers_that_no_image_came_to_need_go_after_days() {
    if !root() {
        return;
    }
    let at = Root::new();
    let (below, needed, own) = {
        let below = at.layer(None, &Tar::new().file("below", "1").done()).unwrap();
        let needed = at.layer(None, &Tar::new().file("needed", "2").done()).unwrap();
        at.image(&[&needed]);
        let above = at.layer(Some(below.chain_id()), &Tar::new().file("above", "333").done());
        let above = above.unwrap().chain_id().clone();
        (below.chain_id().clone(), needed.chain_id().clone(), above)
    };
    let at = at.reopen();
    let records = at.path().join("image/overlay2/layerdb/sha256");
    let age = |chain: &store::ChainId, days: u64| {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 24 * 3600);
        let record = fs::File::open(records.join(chain.digest().hex())).unwrap();
        record.set_modified(then).unwrap();
    };
    let is_there = |chain: &store::ChainId| at.store.layers.info(chain).is_some();
    age(&needed, 400);
    age(&below, 8);
    age(&own, 6);
    // Too young, or below one that is.
    assert_eq!(at.store.sweep(), store::Swept::default());
    age(&own, 8);
    // Docker's BuildKit has references of its own, and an image that is set aside needs its layers.
    let buildkit = at.path().join("buildkit");
    fs::create_dir(&buildkit).unwrap();
    fs::write(buildkit.join("snapshots.db"), "").unwrap();
    assert_eq!(at.store.sweep(), store::Swept::default());
    fs::remove_dir_all(&buildkit).unwrap();
    let aside = at.path().join("image/overlay2/imagedb/content/sha256/x.bad");
    fs::write(&aside, "").unwrap();
    assert_eq!(at.store.sweep(), store::Swept::default());
    fs::remove_file(&aside).unwrap();
    let swept = at.store.sweep();
    assert_eq!((swept.layers, swept.bytes, swept.errors.len()), (2, 4, 0));
    assert!(!is_there(&own) && !is_there(&below) && is_there(&needed));
    assert_eq!(at.overlays().len(), 1);
    assert_eq!(at.store.sweep(), store::Swept::default());
}
