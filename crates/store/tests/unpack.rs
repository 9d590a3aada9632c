//! What a layer's tar becomes on disk, and what a hostile one must not do.

mod common;

use common::{Root, Scratch, Tar, entry, names, root};
use oci::tar::{Entry, Kind, Time};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

#[test]
fn every_kind_with_its_attributes() {
    if !root() {
        return;
    }
    let at = Root::new();
    let far = Time {
        seconds: 2_293_840_000,
        nanoseconds: 123_456_789,
    };
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let xattrs = vec![
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.x".to_vec(), b"y\0z".to_vec()),
    ];
    let tar = Tar::new()
        .add(
            Entry {
                mtime: far,
                ..entry(Kind::Directory, "d/", 0o1777)
            },
            b"",
        )
        .add(
            Entry {
                uid: 3_000_000,
                gid: 3_000_001,
                mtime: far,
                xattrs,
                ..entry(Kind::Regular, "d/cap", 0o755)
            },
            b"x",
        )
        .add(
            Entry {
                uid: 5,
                ..entry(Kind::Regular, "d/suid", 0o4755)
            },
            b"suid",
        )
        .add(
            Entry {
                mtime: Time {
                    seconds: -1000,
                    nanoseconds: 5,
                },
                ..entry(Kind::Regular, "d/old", 0)
            },
            b"",
        )
        .add(
            Entry {
                uid: 5,
                link: b"d/suid".to_vec(),
                ..entry(Kind::HardLink, "hard", 0o4755)
            },
            b"",
        )
        .file("d/plain", "")
        .link(Kind::HardLink, "last", "/d/../d/plain")
        .add(
            Entry {
                link: b"/nowhere".to_vec(),
                mtime: far,
                uid: 7,
                ..entry(Kind::Symlink, "soft", 0o777)
            },
            b"",
        )
        .add(
            Entry {
                device_major: 1,
                device_minor: 3,
                ..entry(Kind::CharDevice, "null", 0o666)
            },
            b"",
        )
        .add(
            Entry {
                device_major: 259,
                device_minor: 70_000,
                ..entry(Kind::BlockDevice, "disk", 0o660)
            },
            b"",
        )
        .add(entry(Kind::Fifo, "fifo", 0o622), b"")
        .file("implied/deep/file", "1")
        .done();
    let layer = at.layer(None, &tar).unwrap();
    let diff = at.diff(&layer);
    let stat = |name: &str| fs::symlink_metadata(diff.join(name)).unwrap();
    assert_eq!(
        (stat("d").mode() & 0o7777, stat("d").mtime(), stat("d").mtime_nsec()),
        (0o1777, far.seconds, 123_456_789)
    );
    let cap = stat("d/cap");
    assert_eq!(
        (cap.uid(), cap.gid(), cap.mtime(), cap.mtime_nsec()),
        (3_000_000, 3_000_001, far.seconds, 123_456_789)
    );
    let mut value = [0u8; 64];
    let n = rustix::fs::lgetxattr(diff.join("d/cap"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..n], capability);
    let n = rustix::fs::lgetxattr(diff.join("d/cap"), "user.x", &mut value[..]).unwrap();
    assert_eq!(&value[..n], b"y\0z");
    assert_eq!((stat("d/suid").mode() & 0o7777, stat("d/suid").uid()), (0o4755, 5));
    assert_eq!(
        (
            stat("d/old").mtime(),
            stat("d/old").mtime_nsec(),
            stat("d/old").mode() & 0o777
        ),
        (-1000, 5, 0)
    );
    assert_eq!(stat("hard").ino(), stat("d/suid").ino());
    // Of several headers of one inode the last holds, as with Docker.
    let last = stat("last");
    assert_eq!(
        (last.ino(), last.uid(), last.mode() & 0o7777),
        (stat("d/plain").ino(), 0, 0o777)
    );
    assert_eq!((stat("soft").uid(), stat("soft").mtime()), (7, far.seconds));
    assert_eq!(fs::read_link(diff.join("soft")).unwrap(), Path::new("/nowhere"));
    assert!(stat("null").file_type().is_char_device() && stat("null").rdev() == rustix::fs::makedev(1, 3));
    assert!(stat("disk").file_type().is_block_device() && stat("disk").rdev() == rustix::fs::makedev(259, 70_000));
    assert_eq!(
        (stat("fifo").file_type().is_fifo(), stat("fifo").mode() & 0o777),
        (true, 0o622)
    );
    assert_eq!(stat("implied/deep").mode() & 0o7777, 0o755);
    let info = at.store.layers.info(layer.chain_id()).unwrap();
    assert_eq!(info.size, 1 + 4 + 8 + 1);
}

#[test]
fn whiteouts_are_overlays() {
    if !root() {
        return;
    }
    let at = Root::new();
    let below = at
        .layer(
            None,
            &Tar::new().file("a/gone", "1").file("b/x", "1").file("c/x", "1").done(),
        )
        .unwrap();
    let tar = Tar::new()
        .add(
            Entry {
                uid: 9,
                ..entry(Kind::Regular, "a/.wh.gone", 0o600)
            },
            b"content nobody wants",
        )
        .file("b/.wh..wh..opq", "")
        .file("b/new", "2")
        // A directory in place of what is hidden: nothing below may show through.
        .file(".wh.c", "")
        .dir("c/")
        .file("c/new", "2")
        // In the other order, the same; and a whiteout hides nothing of its own layer.
        .dir("e/")
        .file(".wh.e", "")
        .file("f", "own")
        .file(".wh.f", "")
        .done();
    let layer = at.layer(Some(below.chain_id()), &tar).unwrap();
    let diff = at.diff(&layer);
    let gone = fs::symlink_metadata(diff.join("a/gone")).unwrap();
    assert_eq!(
        (gone.file_type().is_char_device(), gone.rdev(), gone.uid()),
        (true, 0, 9)
    );
    for opaque in ["b", "c", "e"] {
        let mut value = [0u8; 4];
        let n = rustix::fs::lgetxattr(diff.join(opaque), "trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..n], b"y", "{opaque}");
    }
    assert_eq!(fs::read_to_string(diff.join("f")).unwrap(), "own");
    assert!(!diff.join("b/.wh..wh..opq").exists());
    // The tar is rebuilt with the content of the whiteout, which is on no disk.
    let mut rebuilt = Vec::new();
    at.store.layers.write_tar(&layer, &mut rebuilt).unwrap();
    assert!(rebuilt == tar);
    // And the mounted container sees it.
    at.store.rw.create("c1", Some(&layer), None).unwrap();
    let merged = at.store.rw.mount("c1").unwrap();
    assert_eq!(names(&merged), ["a", "b", "c", "e", "f"]);
    assert_eq!(
        (
            names(&merged.join("a")),
            names(&merged.join("b")),
            names(&merged.join("c"))
        ),
        (vec![], vec!["new".into()], vec!["new".into()])
    );
    at.store.rw.unmount("c1").unwrap();
}

#[test]
fn nothing_leaves_the_layer() {
    if !root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "outside").unwrap();
    let out = outside.path().to_str().unwrap();
    let at = Root::new();
    let confined = [
        Tar::new().file("../../../escape", "1").done(),
        Tar::new().file(&format!("{out}/escape"), "1").done(),
        Tar::new()
            .link(Kind::Symlink, "l", "/")
            .file(&format!("l{out}/escape"), "1")
            .done(),
        Tar::new()
            .dir("d/")
            .link(Kind::Symlink, "d/l", "../../../../..")
            .file("d/l/escape", "1")
            .done(),
        Tar::new()
            .link(Kind::Symlink, "a", "b")
            .link(Kind::Symlink, "b", "/")
            .dir("etc/")
            .file("a/etc/escape", "1")
            .done(),
        Tar::new()
            .link(Kind::Symlink, "f", secret.to_str().unwrap())
            .file("f2", "x")
            .done(),
    ];
    for tar in confined {
        match at.layer(None, &tar) {
            Ok(layer) => drop(layer),
            Err(error) => eprintln!("refused: {error}"),
        }
    }
    let refused: [(&str, Vec<u8>); 9] = [
        (
            "hard link out",
            Tar::new().link(Kind::HardLink, "h", secret.to_str().unwrap()).done(),
        ),
        (
            "hard link out by dots",
            Tar::new()
                .link(Kind::HardLink, "h", &format!("../../../../..{out}/secret"))
                .done(),
        ),
        (
            "hard link through a symlink",
            Tar::new()
                .link(Kind::Symlink, "l", out)
                .link(Kind::HardLink, "h", "l/secret")
                .done(),
        ),
        ("whiteout of the root", Tar::new().file(".wh..", "").done()),
        ("whiteout of nothing", Tar::new().file("a/.wh.", "").done()),
        ("whiteout of the parent", Tar::new().file("a/.wh...", "").done()),
        ("file for the root", Tar::new().file("./", "x").file("/", "x").done()),
        (
            "unknown type",
            Tar::new().add(entry(Kind::Other(b'Z'), "z", 0), b"").done(),
        ),
        ("two of a name", Tar::new().file("a", "1").file("./a", "2").done()),
    ];
    for (story, tar) in refused {
        let error = at.layer(None, &tar).map(drop).expect_err(story);
        eprintln!("{story}: {error}");
    }
    // A later entry of a symlink's name replaces the link and does not write through it.
    let tar = Tar::new()
        .link(Kind::Symlink, "f", secret.to_str().unwrap())
        .dir("x/")
        .link(Kind::Symlink, "x/d", out)
        .file("y", "")
        .done();
    at.layer(None, &tar).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "outside");
    assert_eq!(names(outside.path()), ["secret"]);
    assert!(!Path::new("/escape").exists() && !Path::new("/etc/escape").exists());
    // Nothing stays of what was refused.
    let layers = at.store.layers.list().len();
    assert_eq!(at.overlays().len(), layers);
    assert_eq!(names(&at.path().join("overlay2/l")).len(), layers);
    assert!(names(&at.path().join("image/overlay2/layerdb/tmp")).is_empty());
}

/// The name of a layer's own file, replaced through an alias: what Docker allows, within the layer.
#[test]
fn replaces_what_is_there() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new()
        .dir("real/")
        .file("real/f", "one")
        .link(Kind::Symlink, "alias", "/real")
        .file("alias/f", "two")
        .file("tree/deep/file", "x")
        .file("tree", "a file now")
        .file("was", "file")
        .link(Kind::Symlink, "real/up", "..")
        .dir("real/up/was/")
        .file("was/inside", "1")
        .done();
    let layer = at.layer(None, &tar).unwrap();
    let diff = at.diff(&layer);
    let read = |name: &str| fs::read_to_string(diff.join(name)).unwrap();
    assert_eq!(
        (read("real/f"), read("tree"), read("was/inside")),
        ("two".into(), "a file now".into(), "1".into())
    );
    assert_eq!(at.store.layers.info(layer.chain_id()).unwrap().size, 3 + 5 + 10 + 2 + 1);
}

#[test]
fn overlays_own_attributes_are_not_taken_from_a_tar() {
    if !root() {
        return;
    }
    let at = Root::new();
    let xattrs = vec![(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec())];
    let layer = at
        .layer(
            None,
            &Tar::new()
                .add(
                    Entry {
                        xattrs,
                        ..entry(Kind::Directory, "d/", 0o755)
                    },
                    b"",
                )
                .done(),
        )
        .unwrap();
    let mut value = [0u8; 8];
    let got = rustix::fs::lgetxattr(at.diff(&layer).join("d"), "trusted.overlay.redirect", &mut value[..]);
    assert_eq!(got, Err(rustix::io::Errno::NODATA));
}

struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Err(std::io::Error::other("the line went dead"));
        }
        self.0.read(into)
    }
}

#[test]
fn a_stream_that_breaks_leaves_nothing() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new()
        .dir("d/")
        .file("d/a", &"x".repeat(300_000))
        .file("b", "y")
        .done();
    for cut in [0, 100, 512, 1024, 1100, 200_000, 301_568, 302_000, tar.len() - 1024] {
        let error = at
            .store
            .layers
            .stage(None)
            .unwrap()
            .unpack(Failing(&tar[..cut]))
            .map(drop)
            .unwrap_err();
        assert_eq!(error.to_string(), "read layer: the line went dead", "cut at {cut}");
        assert!(at.overlays().is_empty(), "cut at {cut}");
    }
    // A stream that just ends in a file or a header is no layer either.
    for cut in [100, 1100, 200_000] {
        let error = at.layer(None, &tar[..cut]).map(drop).unwrap_err();
        assert!(error.to_string().contains("unexpected end of archive"), "{error}");
    }
    assert!(names(&at.path().join("overlay2/l")).is_empty());
    let wrong = store::DiffId(store::hash::sha256(b"something else"));
    let unpacked = at.store.layers.stage(None).unwrap().unpack(&tar[..]).unwrap();
    assert!(unpacked.commit(&wrong).is_err());
    assert!(at.overlays().is_empty() && names(&at.path().join("image/overlay2/layerdb/sha256")).is_empty());
}

#[test]
fn a_full_disk_is_said_and_cleaned() {
    if !root() {
        return;
    }
    let dir = Scratch::new();
    let size = Some(c"size=4m");
    if rustix::mount::mount("tmpfs", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), size).is_err() {
        eprintln!("skipped: cannot mount tmpfs");
        return;
    }
    let tar = Tar::new()
        .file("usr/small", "x")
        .file("usr/big", &"x".repeat(8 << 20))
        .done();
    {
        let store = store::Store::open(dir.path()).unwrap();
        let error = store
            .layers
            .stage(None)
            .unwrap()
            .unpack(&tar[..])
            .map(drop)
            .unwrap_err();
        assert!(error.is_no_space());
        let text = error.to_string();
        assert!(
            text.starts_with("write ") && text.ends_with("/diff/usr/big: no space left on device"),
            "{text}"
        );
        assert_eq!(names(&dir.path().join("overlay2")), ["l"]);
        assert!(names(&dir.path().join("overlay2/l")).is_empty());
        // And there is room again.
        store
            .layers
            .stage(None)
            .unwrap()
            .unpack(&Tar::new().file("a", "b").done()[..])
            .unwrap()
            .commit_as_is()
            .unwrap();
    }
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn set_group_id_directories_do_not_give_their_group_away() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new()
        .add(
            Entry {
                gid: 50,
                ..entry(Kind::Directory, "mail/", 0o2775)
            },
            b"",
        )
        .file("mail/root", "")
        .dir("mail/sub/")
        .done();
    let diff = at.diff(&at.layer(None, &tar).unwrap());
    let gid = |name: &str| fs::metadata(diff.join(name)).unwrap().gid();
    assert_eq!((gid("mail"), gid("mail/root"), gid("mail/sub")), (50, 0, 0));
    assert_eq!(
        fs::metadata(diff.join("mail/sub")).unwrap().permissions().mode() & 0o7777,
        0o755
    );
}

#[test]
fn copies_into_a_directory_by_its_own_rules() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink("/etc", dir.path().join("etc")).unwrap();
    let rules = store::unpack::Rules {
        replace_directories: false,
        owner: Some((12, 13)),
        ..store::unpack::Rules::copy()
    };
    let tar = Tar::new().file("d/.wh.x", "kept").file("f", "1").done();
    store::unpack::into_directory(&tar[..], dir.path(), rules).unwrap();
    let made = fs::metadata(dir.path().join("d/.wh.x")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.len()), (12, 13, 4));
    let error = store::unpack::into_directory(&Tar::new().file("d", "").done()[..], dir.path(), rules).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("cannot overwrite directory with non-directory"),
        "{error}"
    );
}

/// Directories get their times when they are left: whatever comes into one later, by whatever path, must not show.
#[test]
fn directories_keep_their_times() {
    if !root() {
        return;
    }
    let at = Root::new();
    let dated = |name: &str, seconds: i64| {
        let mut entry = entry(Kind::Directory, name, 0o755);
        entry.mtime.seconds = seconds;
        entry
    };
    let begin = || {
        // All directories first, as some archivers have it; then one is left and comes again.
        Tar::new()
            .add(dated("a", 1), b"")
            .add(dated("a/b", 2), b"")
            .add(dated("a/b/c", 3), b"")
            .add(dated("empty", 4), b"")
            .file("a/b/c/one", "1")
            .file("a/one", "1")
            .file("a/b/two", "2")
            .file("empty.txt", "")
            .file("a/b/c/two", "2")
            .file("last", "")
    };
    let times = |tar: Vec<u8>, wanted: &[(&str, i64)]| {
        let layer = at.layer(None, &tar).unwrap();
        for (name, seconds) in wanted {
            let stat = fs::symlink_metadata(at.diff(&layer).join(name)).unwrap();
            assert_eq!(stat.mtime(), *seconds, "{name}");
        }
    };
    let wanted = [("a", 1), ("a/b", 2), ("a/b/c", 3), ("empty", 4)];
    times(begin().done(), &wanted);
    // Through a link a directory is used by another path than its own.
    let linked = begin()
        .link(Kind::Symlink, "link", "a/b")
        .file("link/three", "3")
        .file("end", "");
    times(linked.done(), &wanted);
}
