//! Layers as bases of deltas.

mod common;

use common::{Root, Tar, entry, names, root};
use delta::make::Survey;
use delta::{Contents, Delta, FileId, Limits};
use oci::tar::{Entry, Kind};
use std::os::unix::fs::MetadataExt;
use store::{BaseFiles, DiffId, LayerId};

#[test]
fn a_layer_of_the_store_is_the_base_that_its_tar_is() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new()
        .file("b/two", "two\n")
        .file("a/empty", "")
        .file("a/one", &"one".repeat(70_000))
        .file("a/.wh.gone", "")
        .done();
    let below = at.layer(None, &Tar::new().file("below", "x").done()).unwrap();
    let layers = [
        at.layer(None, &tar).unwrap(),
        at.layer(Some(below.chain_id()), &tar).unwrap(),
    ];
    let survey = Survey::read(&tar[..]).unwrap();
    let found = at.store.layers.with_diff_id(&DiffId(survey.diff_id().clone()));
    for layer in &layers {
        let is_found = found.iter().any(|found| found.chain_id() == layer.chain_id());
        assert!(is_found, "in whatever chain");
    }
    assert_eq!(found.len(), 2);
    let bases = layers.iter().map(|layer| at.store.layers.base(layer.clone()).unwrap());
    let mut files = BaseFiles::new(bases.collect());
    for layer in files.layers() {
        assert_eq!(*layer, *survey.layer());
    }
    let mut read = |layer, entry, offset, n: usize| {
        let mut into = vec![0; n];
        files
            .read_base(FileId { layer, entry }, offset, &mut into)
            .map(|()| into)
    };
    assert_eq!(read(0, 0, 1, 3).unwrap(), b"wo\n");
    assert_eq!(read(1, 2, 3, 6).unwrap(), b"oneone");
    assert_eq!(read(1, 2, 209_997, 3).unwrap(), b"one");
    assert!(read(1, 2, 209_998, 3).is_err(), "beyond its end");
    assert!(read(2, 0, 0, 1).is_err(), "no such layer");
    assert!(read(0, 4, 0, 1).is_err(), "no such entry");
    assert!(read(0, 3, 0, 1).is_err(), "a whiteout has no content");
    std::fs::write(at.diff(&layers[0]).join("b/two"), "more").unwrap();
    std::fs::write(at.diff(&layers[1]).join("b/two"), "larger").unwrap();
    assert!(read(1, 0, 0, 1).is_err(), "another size");
    assert!(read(0, 0, 0, 1).is_ok(), "a checksum is for who reads all of it");
}

/// The delta that makes a tar from layers of the store.
fn make(at: &Root, base: &[&LayerId], tar: &[u8]) -> Vec<u8> {
    let held = |layer: &&LayerId| at.store.layers.base((*layer).clone()).unwrap();
    let surveys: Vec<Survey> = base
        .iter()
        .map(|layer| {
            let mut tar = Vec::new();
            at.store.layers.write_tar(layer, &mut tar).unwrap();
            Survey::read(&tar[..]).unwrap()
        })
        .collect();
    let mut files = BaseFiles::new(base.iter().map(held).collect());
    let mut delta = Vec::new();
    let surveys: Vec<&Survey> = surveys.iter().collect();
    let target = Survey::read(tar).unwrap();
    delta::make::write(&surveys, &mut files, &target, tar, &mut delta).unwrap();
    delta
}

/// Applies a delta on top of a layer, with whatever layers the store has.
fn apply(at: &Root, parent: Option<&LayerId>, delta: &[u8]) -> store::Result<LayerId> {
    let opened = Delta::open(delta, Limits { tar_bytes: 1 << 30 }).map_err(|e| store::Error::Invalid(e.to_string()))?;
    let target = DiffId(opened.header().target.clone());
    let base = opened.header().base.iter().map(|base| {
        let found = at.store.layers.with_diff_id(&DiffId(base.diff_id.clone()));
        let layer = found.into_iter().next().expect("the base is there");
        at.store.layers.base(layer).unwrap()
    });
    let base = BaseFiles::new(base.collect());
    let staged = at.store.layers.stage(parent.map(LayerId::chain_id))?;
    staged.unpack_delta(opened, base)?.commit(&target)
}

fn rebuilt(at: &Root, layer: &LayerId) -> Vec<u8> {
    let mut tar = Vec::new();
    at.store.layers.write_tar(layer, &mut tar).unwrap();
    tar
}

fn with(entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    let mut entry = entry;
    change(&mut entry);
    entry
}

fn regular(name: &str) -> Entry {
    entry(Kind::Regular, name, 0o644)
}

const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn unchanged_files_are_links_and_nothing_else_is() {
    if !root() {
        return;
    }
    let at = Root::new();
    let capable = || {
        with(regular("bin/ping"), |entry| {
            entry
                .xattrs
                .push((b"security.capability".to_vec(), CAPABILITY.to_vec()));
        })
    };
    let second_name = || {
        with(entry(Kind::HardLink, "second-name", 0o644), |entry| {
            entry.link = b"name".to_vec()
        })
    };
    let library = "library ".repeat(30_000);
    let old = Tar::new()
        .file("same", "the same")
        .file("lib/old-name", &library)
        .file("mode", "another mode")
        .file("owner", "another owner")
        .file("time", "another time")
        .file("attribute", "another attribute")
        .add(capable(), b"ping")
        .file("content", "old content")
        .file("etc/cron.d/job", "* * * * *")
        .file("twice", "what two files have")
        .file("name", "has another name beside it")
        .add(second_name(), b"")
        .file("empty", "")
        .done();
    let new = Tar::new()
        .file("same", "the same")
        .file("lib/new-name", &library)
        .add(with(regular("mode"), |entry| entry.mode = 0o600), b"another mode")
        .add(with(regular("owner"), |entry| entry.uid = 7), b"another owner")
        .add(
            with(regular("time"), |entry| entry.mtime.nanoseconds = 5),
            b"another time",
        )
        .add(
            with(regular("attribute"), |entry| {
                entry.xattrs.push((b"user.a".to_vec(), b"b".to_vec()))
            }),
            b"another attribute",
        )
        .add(capable(), b"ping")
        .file("content", "new content")
        .file("etc/cron.d/job", "* * * * *")
        .file("twice", "what two files have")
        .file("twice-again", "what two files have")
        .file("name", "has another name beside it")
        .add(second_name(), b"")
        .file("empty", "")
        .done();
    let base = at.layer(None, &old).unwrap();
    let before: Vec<_> = [
        "same",
        "mode",
        "owner",
        "time",
        "attribute",
        "bin/ping",
        "name",
        "lib/old-name",
    ]
    .map(|name| (name, at.diff(&base).join(name).metadata().unwrap()))
    .into();
    let made = apply(&at, None, &make(&at, &[&base], &new)).unwrap();
    assert_eq!(rebuilt(&at, &made), new);
    assert_eq!(at.store.layers.info(made.chain_id()).unwrap().size, {
        let pulled = Root::new();
        let layer = pulled.layer(None, &new).unwrap();
        pulled.store.layers.info(layer.chain_id()).unwrap().size
    });
    let is_link = |new: &str, old: &str| {
        let inode = |layer: &LayerId, name: &str| at.diff(layer).join(name).metadata().unwrap().ino();
        inode(&made, new) == inode(&base, old)
    };
    for (new, old, linked) in [
        ("same", "same", true),
        ("lib/new-name", "lib/old-name", true),
        ("mode", "mode", false),
        ("owner", "owner", false),
        ("time", "time", false),
        ("attribute", "attribute", false),
        ("bin/ping", "bin/ping", true),
        ("content", "content", false),
        ("etc/cron.d/job", "etc/cron.d/job", false),
        ("name", "name", true),
        ("second-name", "name", true),
    ] {
        assert_eq!(is_link(new, old), linked, "{new}");
    }
    assert!(
        !(is_link("twice", "twice") && is_link("twice-again", "twice")),
        "two names of one layer"
    );
    for (name, before) in before {
        let after = at.diff(&base).join(name).metadata().unwrap();
        let told = |m: &std::fs::Metadata| (m.mode(), m.uid(), m.gid(), m.size(), m.mtime(), m.mtime_nsec());
        assert_eq!(told(&after), told(&before), "{name} of the base");
    }
    let told = |name: &str| at.diff(&made).join(name).metadata().unwrap();
    assert_eq!((told("mode").mode() & 0o7777, told("owner").uid()), (0o600, 7));
    // Each goes without the other.
    let chain = base.chain_id().clone();
    drop(base);
    assert_eq!(at.store.layers.remove_unused(&chain).unwrap(), [chain]);
    let mut damage = Vec::new();
    let mut tell = |name: &str, what: &str| damage.push(format!("{name} {what}"));
    at.store.layers.verify(&made, true, &mut tell).unwrap();
    assert_eq!(damage, [""; 0]);
}

#[test]
fn damage_of_a_shared_file_is_found_in_both_layers() {
    if !root() {
        return;
    }
    let at = Root::new();
    let base = at.layer(None, &Tar::new().file("shared", "content").done()).unwrap();
    let new = Tar::new().file("shared", "content").file("new", "").done();
    let made = apply(&at, None, &make(&at, &[&base], &new)).unwrap();
    let shared = at.diff(&base).join("shared");
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    for layer in [&base, &made] {
        let mut damage = Vec::new();
        let mut tell = |name: &str, what: &str| damage.push(format!("{name}: {what}"));
        at.store.layers.verify(layer, false, &mut tell).unwrap();
        assert_eq!(damage, ["shared: has mode 666, not 644"]);
    }
    // Both are known to be damaged now, and so neither is the base of anything.
    let diff = at.store.layers.info(base.chain_id()).unwrap().diff_id;
    assert_eq!(at.store.layers.with_diff_id(&diff).len(), 0);
}

#[test]
fn below_the_layer_only_the_same_path_is_linked() {
    if !root() {
        return;
    }
    let at = Root::new();
    let base = at
        .layer(
            None,
            &Tar::new().file("stays", "as it is").file("a/moves", "elsewhere").done(),
        )
        .unwrap();
    let new = Tar::new().file("stays", "as it is").file("b/moves", "elsewhere").done();
    let made = apply(&at, Some(&base), &make(&at, &[&base], &new)).unwrap();
    assert_eq!(rebuilt(&at, &made), new);
    let links = |name: &str| at.diff(&made).join(name).metadata().unwrap().nlink();
    assert_eq!((links("stays"), links("b/moves")), (2, 1));
}

#[test]
fn what_is_wrong_leaves_nothing() {
    if !root() {
        return;
    }
    let store = Root::new();
    let big = "some text, ".repeat(20_000);
    let base = store
        .layer(None, &Tar::new().file("big", &big).file("small", "small").done())
        .unwrap();
    let new = Tar::new()
        .file("big", &big)
        .file("small", "changed")
        .file("more", "more")
        .done();
    let delta = make(&store, &[&base], &new);
    let before = store.overlays();
    let refused = |story: &str, delta: &[u8]| {
        assert!(apply(&store, None, delta).is_err(), "{story}");
        assert_eq!(store.overlays(), before, "{story}");
        assert_eq!(
            names(&store.path().join("image/overlay2/layerdb/tmp")),
            [""; 0],
            "{story}"
        );
    };
    for length in (0..delta.len()).step_by(7) {
        refused("truncated", &delta[..length]);
    }
    let mut more = delta.clone();
    more.push(0);
    refused("bytes after the end", &more);
    // The base layers' digests come at 45 and later; a wrong one would not be found at all.
    let flip = |at: usize| {
        let mut flipped = delta.clone();
        flipped[at] ^= 0x10;
        flipped
    };
    for at in (0..40).chain(90..delta.len()).step_by(5) {
        // The last bits of a coded stream may say nothing.
        match apply(&store, None, &flip(at)) {
            Ok(layer) => {
                let chain = layer.chain_id().clone();
                assert_eq!(rebuilt(&store, &layer), new);
                drop(layer);
                store.store.layers.remove_unused(&chain).unwrap();
            }
            Err(_) => refused("a bit", &flip(at)),
        }
    }
    // The base was damaged on the disk, and has the size it had.
    let path = store.diff(&base).join("big");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[100_000] ^= 1;
    let whole = path.metadata().unwrap().modified().unwrap();
    std::fs::write(&path, &bad).unwrap();
    std::fs::File::open(&path).unwrap().set_modified(whole).unwrap();
    refused("a damaged base", &delta);
    std::fs::remove_file(&path).unwrap();
    refused("a base file that is gone", &delta);
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    refused("a link in its place", &delta);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &good).unwrap();
    let made = apply(&store, None, &delta).unwrap();
    assert_eq!(rebuilt(&store, &made), new);
}

#[test]
fn a_link_that_would_change_the_base_is_refused() {
    if !root() {
        return;
    }
    let at = Root::new();
    let base = at.layer(None, &Tar::new().file("file", "content").done()).unwrap();
    let link = |change: fn(&mut Entry)| {
        let link = with(entry(Kind::HardLink, "other", 0o644), |entry| {
            entry.link = b"file".to_vec()
        });
        Tar::new().file("file", "content").add(with(link, change), b"").done()
    };
    for (story, change) in [
        ("mode", (|entry| entry.mode = 0o4755) as fn(&mut Entry)),
        ("owner", |entry| entry.gid = 3),
        ("time", |entry| entry.mtime.seconds = 9),
        ("attribute", |entry| {
            entry.xattrs.push((b"user.a".to_vec(), b"b".to_vec()))
        }),
    ] {
        let error = apply(&at, None, &make(&at, &[&base], &link(change))).unwrap_err();
        assert!(error.to_string().contains("another layer"), "{story}: {error}");
    }
    let same = link(|_| {});
    let made = apply(&at, None, &make(&at, &[&base], &same)).unwrap();
    assert_eq!(rebuilt(&at, &made), same);
    let stat = at.diff(&base).join("file").metadata().unwrap();
    assert_eq!(
        (stat.mode() & 0o7777, stat.gid(), stat.mtime(), stat.nlink()),
        (0o644, 0, 1_600_000_000, 3)
    );
}
