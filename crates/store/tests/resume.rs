//! A layer that is interrupted goes on where it was, whatever the compression, and comes out the same.

mod common;

use common::{Root, Tar, entry, names, root};
use delta::make::Survey;
use delta::{Delta, Limits};
use oci::digest::Digest;
use oci::tar::{Entry, Kind};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use store::{BaseFiles, ChainId, DiffId, LayerId};

/// Content that does not compress away.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
        bytes.extend_from_slice(b"not noise");
    }
    bytes.truncate(length);
    bytes
}

/// Small files, large ones, and all that has a meaning of its own; about 14 MB.
fn tar() -> Vec<u8> {
    tar_with(|n, entry| (n, entry))
}

/// The same with other seeds of contents and other headers.
fn tar_with(change: impl Fn(u64, Entry) -> (u64, Entry)) -> Vec<u8> {
    let mut tar = Tar::new().dir("d").dir("d/deep").dir("gone");
    for n in 0..40u64 {
        let size = if n % 10 == 4 { 3 << 20 } else { 40_000 };
        let entry = Entry {
            uid: 1000,
            xattrs: vec![(b"user.n".to_vec(), n.to_string().into_bytes())],
            ..entry(Kind::Regular, &format!("d/file{n}"), 0o4755)
        };
        let (seed, entry) = change(n, entry);
        tar = tar.add(entry, &noise(seed, size));
        tar = match n {
            5 => tar.link(Kind::HardLink, "d/hard", "d/file5"),
            6 => tar.link(Kind::Symlink, "link", "d/deep"),
            9 => tar.file("d/.wh.hidden", ""),
            12 => tar.file("d/.wh.again", ""),
            13 => tar.dir("d/again").file("d/again/inside", "new"),
            20 => tar.file("d/deep/.wh..wh..opq", ""),
            22 => tar.file("link/through", "a link"),
            30 => tar.link(Kind::Fifo, "fifo", ""),
            _ => tar,
        };
    }
    tar.file("empty", "").done()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A blob from a byte on, that breaks after so many.
struct Cut<'a> {
    blob: &'a [u8],
    left: usize,
    read: Rc<Cell<usize>>,
}

impl Read for Cut<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.blob.is_empty() {
            return Err(io::Error::other("the network broke"));
        }
        let n = into.len().min(self.left).min(self.blob.len()).min(10_000);
        into[..n].copy_from_slice(&self.blob[..n]);
        self.blob = &self.blob[n..];
        self.left -= n;
        self.read.set(self.read.get() + n);
        Ok(n)
    }
}

/// One attempt: from where the last one ended, for so many bytes.
fn attempt(root: &Root, blob: &[u8], diff: &DiffId, bytes: usize, read: &Rc<Cell<usize>>) -> store::Result<LayerId> {
    let chain = ChainId::of(None, diff);
    let layers = &root.store.layers;
    let partial = layers.partial(None, &chain, &[&store::hash::sha256(blob)]).unwrap();
    let at = usize::try_from(partial.offset()).unwrap();
    let cut = Cut {
        blob: &blob[at..],
        left: bytes,
        read: read.clone(),
    };
    layers.stage_pull(None, Some(partial))?.unpack_blob(cut)?.commit(diff)
}

/// Everything that `find` and a read tell of a tree, but the times of whiteouts, which no archive gives.
fn looks(root: &Root, layer: &LayerId) -> String {
    let script = r#"find . -printf '%p %y %m %U %G %s %l %n %Ts %i\n' | sed -E 's/^([^ ]+ d .*) [0-9]+ ([^ ]*) ([0-9]+) ([0-9]+) [0-9]+$/\1 \4/; s/ [0-9]+$//; s/( c 0 .*) [0-9]+$/\1/' | sort
        find . -type f | sort | xargs -d '\n' sha256sum; getfattr -R -d -m - . 2>/dev/null | sort"#;
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(root.diff(layer))
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn rebuilt(root: &Root, layer: &LayerId) -> Digest {
    let mut hashing = store::hash::Hashing::new(io::sink());
    root.store.layers.write_tar(layer, &mut hashing).unwrap();
    hashing.finish().0
}

fn nothing_left(root: &Root) {
    for directory in ["balena-pulls", "image/overlay2/layerdb/tmp"] {
        let path = root.path().join(directory);
        assert!(
            !path.exists() || names(&path).is_empty(),
            "{directory}: {:?}",
            names(&path)
        );
    }
}

/// Interrupted again and again it is the same layer, and little is read twice.
fn interrupted(blob: &[u8], tar: &[u8], most: f64, between: impl Fn(Root) -> Root) {
    let diff = DiffId(store::hash::sha256(tar));
    let plain = Root::new();
    let wanted = plain
        .store
        .layers
        .stage(None)
        .unwrap()
        .unpack(tar)
        .unwrap()
        .commit(&diff)
        .unwrap();
    let mut root = Root::new();
    let read = Rc::new(Cell::new(0));
    for _ in 0..10 {
        attempt(&root, blob, &diff, blob.len() / 10 - 1000, &read).unwrap_err();
        root = between(root);
    }
    let layer = attempt(&root, blob, &diff, usize::MAX, &read).unwrap();
    assert_eq!(rebuilt(&root, &layer), diff.0);
    assert_eq!(looks(&root, &layer), looks(&plain, &wanted));
    let info = |root: &Root, layer: &LayerId| root.store.layers.info(layer.chain_id()).unwrap().size;
    assert_eq!(info(&root, &layer), info(&plain, &wanted));
    nothing_left(&root);
    let ratio = read.get() as f64 / blob.len() as f64;
    assert!(ratio <= most, "read {ratio} times");
}

/// The daemon ended and started again in between, and swept.
fn restarted(root: Root) -> Root {
    let root = root.reopen();
    let swept = root.store.sweep();
    assert!(swept.errors.is_empty() && swept.layers == 0, "{swept:?}");
    root
}

#[test]
fn each_compression_goes_on() {
    if !root() {
        return;
    }
    let tar = tar();
    interrupted(&gzip(&tar), &tar, 2.0, |root| root);
    interrupted(&gzip(&tar), &tar, 2.0, restarted);
    interrupted(&tar, &tar, 2.0, restarted);
    let frames: Vec<u8> = tar
        .chunks(1 << 20)
        .flat_map(|chunk| zstd::encode_all(chunk, 1).unwrap())
        .collect();
    interrupted(&frames, &tar, 2.5, restarted);
    // One frame: all of it comes again, but what is written stays.
    let frame = zstd::encode_all(&tar[..], 1).unwrap();
    interrupted(&frame, &tar, 11.0, restarted);
}

/// One attempt at a layer by its delta, as [`attempt`].
fn attempt_delta(
    root: &Root,
    delta: &[u8],
    diff: &DiffId,
    bytes: usize,
    read: &Rc<Cell<usize>>,
) -> store::Result<LayerId> {
    let chain = ChainId::of(None, diff);
    let layers = &root.store.layers;
    let partial = layers.partial(None, &chain, &[&store::hash::sha256(delta)]).unwrap();
    let at = usize::try_from(partial.offset()).unwrap();
    let cut = Cut {
        blob: &delta[at..],
        left: bytes,
        read: read.clone(),
    };
    let mut staged = layers.stage_pull(None, Some(partial))?;
    let limits = Limits { tar_bytes: 1 << 30 };
    let opened = Delta::open(staged.keep_delta(cut)?, limits).map_err(|e| store::Error::Invalid(e.to_string()))?;
    let base = opened.header().base.iter().map(|base| {
        let found = layers.with_diff_id(&DiffId(base.diff_id.clone()));
        layers
            .base(found.into_iter().next().expect("the base is there"))
            .unwrap()
    });
    let base = BaseFiles::new(base.collect());
    staged.unpack_delta(opened, base)?.commit(diff)
}

/// The base of the two tests below, a layer on it, and the delta between: files that are the same, that are of another
/// time, and that are new.
fn delta() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let old = tar();
    let new = tar_with(|n, entry| match n % 3 {
        0 => (n, entry),
        1 => {
            let mut entry = entry;
            entry.mtime.seconds += 60;
            (n, entry)
        }
        _ => (n + 1000, entry),
    });
    let surveys = [&old, &new].map(|tar| Survey::read(&tar[..]).unwrap());
    let root = Root::new();
    let held = root.layer(None, &old).unwrap();
    let mut files = BaseFiles::new(vec![root.store.layers.base(held).unwrap()]);
    let mut delta = Vec::new();
    delta::make::write(&[&surveys[0]], &mut files, &surveys[1], &new[..], &mut delta).unwrap();
    (old, new, delta)
}

#[test]
fn a_delta_goes_on() {
    if !root() {
        return;
    }
    let (old, new, delta) = delta();
    let diff = DiffId(store::hash::sha256(&new));
    let read = Rc::new(Cell::new(0));
    let plain = Root::new();
    plain.layer(None, &old).unwrap();
    let wanted = attempt_delta(&plain, &delta, &diff, usize::MAX, &read).unwrap();
    nothing_left(&plain);
    for between in [restarted, |root| root] {
        let mut root = Root::new();
        root.layer(None, &old).unwrap();
        read.set(0);
        for _ in 0..10 {
            attempt_delta(&root, &delta, &diff, delta.len() / 12, &read).unwrap_err();
            root = between(root);
        }
        let layer = attempt_delta(&root, &delta, &diff, usize::MAX, &read).unwrap();
        assert_eq!(rebuilt(&root, &layer), diff.0);
        // Links and all.
        assert_eq!(looks(&root, &layer), looks(&plain, &wanted));
        nothing_left(&root);
        let ratio = read.get() as f64 / delta.len() as f64;
        assert!(ratio < 1.2, "read {ratio} times");
    }
}

#[test]
fn a_delta_whose_beginning_is_damaged_is_not_gone_on_with() {
    if !root() {
        return;
    }
    let (old, new, delta) = delta();
    let diff = DiffId(store::hash::sha256(&new));
    let read = Rc::new(Cell::new(0));
    let begun = || {
        let root = Root::new();
        root.layer(None, &old).unwrap();
        attempt_delta(&root, &delta, &diff, delta.len() / 2, &read).unwrap_err();
        let pulls = root.path().join("balena-pulls");
        let kept = pulls.join(names(&pulls).pop().unwrap()).join("delta");
        (root, kept)
    };
    let goes_well = |root: &Root| {
        read.set(0);
        let layer = attempt_delta(root, &delta, &diff, usize::MAX, &read).unwrap();
        assert_eq!(rebuilt(root, &layer), diff.0);
        assert_eq!(read.get(), delta.len(), "all of it anew");
        nothing_left(root);
    };
    // Other bytes.
    let (root, kept) = begun();
    let mut bytes = std::fs::read(&kept).unwrap();
    assert!(
        bytes.len() > delta.len() / 4 && delta.starts_with(&bytes),
        "{}",
        bytes.len()
    );
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&kept, bytes).unwrap();
    assert!(attempt_delta(&root, &delta, &diff, usize::MAX, &read).is_err());
    nothing_left(&root);
    goes_well(&root);
    // Fewer bytes than the checkpoint says, or none.
    let (root, kept) = begun();
    std::fs::write(&kept, &delta[..1000]).unwrap();
    goes_well(&root);
    let (root, kept) = begun();
    std::fs::remove_file(&kept).unwrap();
    goes_well(&root);
    // A file of the base that changed, of which a link was made before: it is found when the beginning is made again.
    let (root, _) = begun();
    let base = root
        .store
        .layers
        .with_diff_id(&DiffId(store::hash::sha256(&old)))
        .pop()
        .unwrap();
    let file = root.diff(&base).join("d/file3");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = attempt_delta(&root, &delta, &diff, usize::MAX, &read)
        .unwrap_err()
        .to_string();
    assert!(error.contains("d/file3"), "{error}");
    nothing_left(&root);
}

/// After a boot only what was synced counts; here that is nothing or all, since batches are larger than the layer.
#[test]
fn another_boot_does_not_believe_the_page_cache() {
    if !root() {
        return;
    }
    let tar = tar();
    let blob = gzip(&tar);
    interrupted(&blob, &tar, 11.0, |root| {
        let pulls = root.path().join("balena-pulls");
        for chain in names(&pulls) {
            for turn in [0, 1] {
                let _ = std::fs::remove_file(pulls.join(&chain).join(format!("soft.{turn}")));
            }
        }
        let root = root.reopen();
        root.store.sweep();
        root
    });
}

#[test]
fn what_is_damaged_is_not_gone_on_with() {
    if !root() {
        return;
    }
    let tar = tar();
    let (blob, diff) = (gzip(&tar), DiffId(store::hash::sha256(&tar)));
    let read = Rc::new(Cell::new(0));
    let begun = || {
        let root = Root::new();
        attempt(&root, &blob, &diff, blob.len() / 2, &read).unwrap_err();
        root
    };
    // A file that changed under it: an error that names the matter, and then all of it anew.
    let root = begun();
    let layer = root.overlays().pop().unwrap();
    let file = root.path().join("overlay2").join(layer).join("diff/d/file3");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = attempt(&root, &blob, &diff, usize::MAX, &read).unwrap_err().to_string();
    assert!(error.contains("d/file3"), "{error}");
    assert!(root.overlays().is_empty());
    nothing_left(&root);
    let layer = attempt(&root, &blob, &diff, usize::MAX, &read).unwrap();
    assert_eq!(rebuilt(&root, &layer), diff.0);
    // Another blob of the same layer: where to go on in it is not known.
    let root = begun();
    read.set(0);
    attempt(&root, &tar, &diff, usize::MAX, &read).unwrap();
    assert_eq!(read.get(), tar.len());
    nothing_left(&root);
    // The wrong rest: never a layer.
    let root = begun();
    let mut wrong = blob.clone();
    let end = wrong.len() - 20_000;
    wrong[end] ^= 0x55;
    let chain = ChainId::of(None, &diff);
    let layers = &root.store.layers;
    let partial = layers.partial(None, &chain, &[&store::hash::sha256(&blob)]).unwrap();
    let at = usize::try_from(partial.offset()).unwrap();
    assert!(at > 0);
    let staged = layers.stage_pull(None, Some(partial)).unwrap();
    let made = staged.unpack_blob(&wrong[at..]).and_then(|layer| layer.commit(&diff));
    assert!(made.is_err());
    assert!(root.overlays().is_empty());
    nothing_left(&root);
}

/// Found by the crash campaign: power failed between the record's files and the rename that makes them count.
#[test]
fn cut_between_the_record_and_its_rename() {
    if !root() {
        return;
    }
    let tar = tar();
    let (blob, diff) = (gzip(&tar), DiffId(store::hash::sha256(&tar)));
    let read = Rc::new(Cell::new(0));
    let root = Root::new();
    attempt(&root, &blob, &diff, blob.len() / 2, &read).unwrap_err();
    let tmp = root.path().join("image/overlay2/layerdb/tmp");
    let record = tmp.join(names(&tmp).pop().unwrap());
    for name in ["cache-id", "diff", "size"] {
        std::fs::write(record.join(name), "of the run before").unwrap();
    }
    let layer = attempt(&root, &blob, &diff, usize::MAX, &read).unwrap();
    assert_eq!(rebuilt(&root, &layer), diff.0);
    assert!(root.reopen().store.layers.exists(&ChainId::of(None, &diff)));
}

#[test]
fn the_sweep_keeps_few_and_fresh_ones() {
    if !root() {
        return;
    }
    let read = Rc::new(Cell::new(0));
    let root = Root::new();
    for n in 0..6 {
        let tar = Tar::new()
            .add(entry(Kind::Regular, "file", 0o644), &noise(n, 3 << 20))
            .done();
        let diff = DiffId(store::hash::sha256(&tar));
        attempt(&root, &tar, &diff, 2 << 20, &read).unwrap_err();
    }
    assert_eq!(root.overlays().len(), 6);
    assert!(root.store.sweep().errors.is_empty());
    assert_eq!(root.overlays().len(), 4);
    let pulls = root.path().join("balena-pulls");
    assert_eq!(names(&pulls).len(), 4);
    for (n, chain) in names(&pulls).iter().enumerate() {
        for file in names(&pulls.join(chain)) {
            let file = pulls.join(chain).join(file);
            match n {
                0 | 1 => std::fs::write(&file, "no checkpoint").unwrap(),
                _ => {
                    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 24 * 3600);
                    std::fs::File::options()
                        .write(true)
                        .open(&file)
                        .unwrap()
                        .set_modified(old)
                        .unwrap();
                }
            }
        }
    }
    assert!(root.store.sweep().errors.is_empty());
    assert!(root.overlays().is_empty());
    assert!(names(&pulls).is_empty());
}
