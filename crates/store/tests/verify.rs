//! Damage is found and named, noted, and healed by a good copy in one step.

mod common;

use common::{Root, Tar, entry, root};
use delta::Wanted;
use oci::tar::{Entry, Kind};
use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::rc::Rc;
use store::{BaseFiles, LayerId, UnpackedLayer};

fn tar() -> Vec<u8> {
    let capability = vec![(
        b"security.capability".to_vec(),
        b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
    )];
    let with_capability = Entry {
        xattrs: capability,
        ..entry(Kind::Regular, "bin/ping", 0o755)
    };
    Tar::new()
        .dir("./")
        .dir("bin")
        .add(with_capability, b"ping")
        .file("bin/first", &"first".repeat(30_000))
        .file("bin/second", &"second".repeat(30_000))
        .file("bin/empty", "")
        .link(Kind::Symlink, "bin/link", "first")
        .link(Kind::HardLink, "bin/hard", "bin/second")
        .file("bin/.wh.gone", "")
        .file("last", "last")
        .done()
}

fn damage(root: &Root, layer: &LayerId, deep: bool) -> Vec<String> {
    let mut told = Vec::new();
    let verified = root
        .store
        .layers
        .verify(layer, deep, &mut |name, what| told.push(format!("{name}: {what}")))
        .unwrap();
    assert_eq!(verified.damaged, told.len() as u64);
    told
}

/// A layer's tar, of which files are asked for.
struct Whole(Vec<u8>, usize, Rc<RefCell<Vec<String>>>);

impl store::Elsewhere for Whole {
    fn begin(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        self.1 = usize::try_from(wanted.at).unwrap();
        self.2
            .borrow_mut()
            .push(String::from_utf8_lossy(wanted.name).into_owned());
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&self.0[self.1..self.1 + into.len()]);
        self.1 += into.len();
        Ok(())
    }
}

/// Unpacks a layer out of itself, and tells which files came from its tar.
fn again(root: &Root, layer: &LayerId, tar: &[u8]) -> (UnpackedLayer, Vec<String>) {
    let names = damage(root, layer, true)
        .into_iter()
        .map(|told| told.split(':').next().unwrap().to_owned());
    let itself = root.store.layers.base(layer.clone()).unwrap();
    let changed = BaseFiles::new(vec![itself.clone()]).find_changed(0, &names.collect());
    let fetched = Rc::default();
    let whole = Whole(tar.to_vec(), 0, Rc::clone(&fetched));
    let staged = root.store.layers.stage(None).unwrap();
    let unpacked = staged.unpack_again(itself, Box::new(whole), &changed).unwrap();
    let fetched = fetched.borrow().clone();
    (unpacked, fetched)
}

#[test]
fn much_that_is_damaged_is_made_again() {
    if !root() {
        return;
    }
    let tar = tar();
    let root = Root::new();
    let layer = root.layer(None, &tar).unwrap();
    let at = root.diff(&layer);
    fs::remove_dir_all(at.join("bin")).unwrap();
    fs::write(at.join("bin"), b"a file, a directory before").unwrap();
    let (unpacked, mut fetched) = again(&root, &layer, &tar);
    fetched.sort();
    assert_eq!(fetched, ["bin/first", "bin/ping", "bin/second"]);
    unpacked.replace(&layer, || false).unwrap();
    assert_eq!(damage(&root, &layer, true), Vec::<String>::new());
    assert_eq!(fs::metadata(root.diff(&layer).join("bin/hard")).unwrap().nlink(), 2);
    // The old one is gone, with its names of what both had.
    assert_eq!(fs::metadata(root.diff(&layer).join("last")).unwrap().nlink(), 1);
    assert_eq!(root.overlays().len(), 1);
    // Something else comes from elsewhere: it takes nothing's place.
    fs::remove_file(root.diff(&layer).join("last")).unwrap();
    let (unpacked, _) = again(&root, &layer, &[&tar[1..], &[0]].concat());
    unpacked.replace(&layer, || false).unwrap_err();
    assert_eq!(damage(&root, &layer, true), ["last: missing"]);
}

/// Names that lead up through directories that are not there, and an owner that is none, are what the layer has: it is
/// whole, and its tar comes out of it.
#[test]
fn strange_names_and_owners_are_no_damage() {
    if !root() {
        return;
    }
    let nobody = Entry {
        uid: u32::MAX,
        gid: u32::MAX,
        ..entry(Kind::Regular, "nobody", 0o644)
    };
    let tar = Tar::new()
        .file("none/../up", &"up".repeat(3000))
        .file("../../out", "out")
        .file("/whole/./path", "path")
        .file("none/../dir/..a", "dots")
        .link(Kind::HardLink, "link", "none/../up")
        .add(nobody, b"x")
        .done();
    let root = Root::new();
    let layer = root.layer(None, &tar).unwrap();
    for deep in [false, true] {
        assert_eq!(damage(&root, &layer, deep), Vec::<String>::new());
    }
    let mut rebuilt = Vec::new();
    root.store.layers.write_tar(&layer, &mut rebuilt).unwrap();
    assert!(rebuilt == tar);
    fs::remove_file(root.diff(&layer).join("out")).unwrap();
    assert_eq!(damage(&root, &layer, true), ["../../out: missing"]);
    let (unpacked, asked) = again(&root, &layer, &tar);
    assert_eq!(asked, ["../../out"]);
    unpacked.replace(&layer, || false).unwrap();
    assert_eq!(damage(&root, &layer, true), Vec::<String>::new());
}

#[test]
fn what_is_damaged_is_named_and_healed() {
    if !root() {
        return;
    }
    let tar = tar();
    type Hurt = fn(&Path);
    // What is done to the layer, whether a look without reading finds it, and what is said.
    let cases: &[(Hurt, bool, &str)] = &[
        (
            |at| fs::remove_file(at.join("bin/empty")).unwrap(),
            true,
            "bin/empty: missing",
        ),
        (
            |at| fs::set_permissions(at.join("bin/first"), fs::Permissions::from_mode(0o666)).unwrap(),
            true,
            "bin/first: has mode 666, not 644",
        ),
        (
            |at| chown(at.join("last"), Some(5), Some(6)).unwrap(),
            true,
            "last: belongs to 5:6, not 0:0",
        ),
        (
            |at| {
                fs::File::options()
                    .write(true)
                    .open(at.join("last"))
                    .unwrap()
                    .set_len(2)
                    .unwrap()
            },
            true,
            "last: has 2 bytes, not 4",
        ),
        (
            |at| {
                fs::remove_file(at.join("bin/link")).unwrap();
                std::os::unix::fs::symlink("second", at.join("bin/link")).unwrap();
            },
            true,
            "bin/link: links to something else",
        ),
        (
            |at| fs::remove_file(at.join("bin/gone")).unwrap(),
            true,
            "bin/.wh.gone: missing",
        ),
        (
            |at| {
                // A bit that flipped on the medium: nothing else tells.
                let path = at.join("bin/first");
                let time = fs::metadata(&path).unwrap().modified().unwrap();
                let mut bytes = fs::read(&path).unwrap();
                bytes[100_000] ^= 4;
                fs::write(&path, bytes).unwrap();
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            },
            false,
            "bin/first: has another content",
        ),
        (
            |at| {
                // Truncating takes no capability away; writing does.
                rustix::fs::removexattr(at.join("bin/ping"), "security.capability").unwrap();
            },
            true,
            "bin/ping: has another security.capability",
        ),
    ];
    // The record is of no file: what is said of it stands alone.
    for (name, content) in [("diff", "garbage"), ("cache-id", ""), ("size", "7"), ("parent", "x")] {
        let root = Root::new();
        let layer = root.layer(None, &tar).unwrap();
        let record = root.path().join("image/overlay2/layerdb/sha256");
        let record = record.join(layer.chain_id().digest().hex());
        fs::write(record.join(name), content).unwrap();
        let said = damage(&root, &layer, false);
        assert!(
            said.len() == 1 && said[0].contains(layer.chain_id().digest().hex()),
            "{said:?}"
        );
        let (staged, fetched) = again(&root, &layer, &tar);
        assert_eq!(fetched, Vec::<String>::new());
        staged.replace(&layer, || false).unwrap();
        let chain = layer.chain_id().clone();
        drop(layer);
        let root = root.reopen();
        let layer = root.store.layers.get(&chain).unwrap();
        assert_eq!(damage(&root, &layer, true), Vec::<String>::new(), "{name}");
    }
    for (hurt, shallow, said, out_of_itself) in cases.iter().flat_map(|(a, b, c)| [(a, b, c, false), (a, b, c, true)]) {
        let root = Root::new();
        let layer = root.layer(None, &tar).unwrap();
        let top = root
            .layer(Some(layer.chain_id()), &Tar::new().file("top", "top").done())
            .unwrap();
        for deep in [false, true] {
            assert_eq!(damage(&root, &layer, deep), Vec::<String>::new());
        }
        hurt(&root.diff(&layer));
        let found = damage(&root, &layer, false);
        assert_eq!(!found.is_empty(), *shallow, "{said}: {found:?}");
        assert_eq!(damage(&root, &layer, true), [*said]);
        assert!(root.store.layers.is_damaged(layer.chain_id()));
        assert!(!root.store.layers.is_damaged(top.chain_id()));
        let other = if said.starts_with("bin/first") {
            "bin/ping"
        } else {
            "bin/first"
        };
        let inode = || fs::metadata(root.diff(&layer).join(other)).unwrap().ino();
        let before = inode();
        let staged = match out_of_itself {
            false => root.store.layers.stage(None).unwrap().unpack(&tar[..]).unwrap(),
            true => {
                let (staged, fetched) = again(&root, &layer, &tar);
                // Contents only, and of no other file.
                let name = said.split(':').next().unwrap();
                let wanted = said.contains("content") || said.contains("bytes");
                assert_eq!(fetched, if wanted { vec![name] } else { vec![] }, "{said}");
                staged
            }
        };
        staged.replace(&layer, || false).unwrap();
        // What is whole is what it was.
        assert_eq!(inode() == before, out_of_itself, "{said}");
        assert_eq!(damage(&root, &layer, true), Vec::<String>::new());
        assert!(!root.store.layers.is_damaged(layer.chain_id()));
        assert_eq!(root.overlays().len(), 2);
        // What stands on it finds it.
        root.store.rw.create("c", Some(&top), None).unwrap();
        let merged = root.store.rw.mount("c").unwrap();
        assert_eq!(fs::read(merged.join("last")).unwrap(), b"last");
        // What is mounted is not taken away.
        let rw = &root.store.rw;
        assert_eq!(rw.mounted_on(layer.chain_id()), ["c"]);
        let staged = root.store.layers.stage(None).unwrap().unpack(&tar[..]).unwrap();
        let refused = staged.replace(&layer, || !rw.mounted_on(layer.chain_id()).is_empty());
        assert!(matches!(refused, Err(store::Error::Conflict(_))));
        assert_eq!(fs::read(merged.join("bin/ping")).unwrap(), b"ping");
        rw.unmount("c").unwrap();
        assert!(rw.mounted_on(layer.chain_id()).is_empty());
    }
}

#[test]
fn another_layer_never_takes_its_place() {
    if !root() {
        return;
    }
    let root = Root::new();
    let layer = root.layer(None, &tar()).unwrap();
    let other = Tar::new().file("other", "other").done();
    let staged = root.store.layers.stage(None).unwrap().unpack(&other[..]).unwrap();
    staged.replace(&layer, || false).unwrap_err();
    assert_eq!(damage(&root, &layer, true), Vec::<String>::new());
    assert_eq!(root.overlays().len(), 1);
}

/// Found by the crash campaign: power failed while the note of a damaged layer was written, and its temporary name
/// stayed for ever; so did the note of a layer that was removed, and the same layer pulled anew counted as damaged.
#[test]
fn no_note_outlives_its_layer() {
    if !root() {
        return;
    }
    let root = Root::new();
    let layer = root.layer(None, &tar()).unwrap();
    fs::remove_file(root.diff(&layer).join("last")).unwrap();
    assert_eq!(damage(&root, &layer, true), ["last: missing"]);
    let chain = layer.chain_id().clone();
    let notes = root.dir.path().join("balena-damaged");
    let names = || fs::read_dir(&notes).unwrap().count();
    let cut = format!(".tmp-{}-0123456789ab-01234567", chain.digest().hex());
    let gone = oci::digest::Digest::sha256([7; 32]);
    for name in [cut.as_str(), gone.hex()] {
        fs::write(notes.join(name), b"").unwrap();
    }
    assert_eq!(root.store.sweep().temporary, 2);
    assert!(root.store.layers.is_damaged(&chain));
    assert_eq!(names(), 1);
    drop(layer);
    root.store.layers.remove_unused(&chain).unwrap();
    assert_eq!(names(), 0);
    let again = root.layer(None, &tar()).unwrap();
    assert!(!root.store.layers.is_damaged(again.chain_id()));
}
