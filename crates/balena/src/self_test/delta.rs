//! Checks of deltas: one that another machine made, and one made here, each applied to a layer of a store.

use super::{Checked, Said, Scratch, ensure};
use delta::make::{Survey, write};
use delta::{Contents, Delta, Limits};
use oci::tar::{Entry, Kind, Writer};
use std::os::unix::fs::MetadataExt;
use store::{BaseFiles, DiffId, LayerId, Store};

/// Made of [`old`] and [`new`] by the test below, on x86-64.
const BAKED: &[u8] = include_bytes!("update.delta");

/// A layer that has a file of each kind that a delta knows: the same, moved, changed, new.
fn tar(files: &[(&str, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let mut entry = Entry::new(Kind::Regular, *name);
        (entry.mode, entry.size, entry.mtime.seconds) = (0o644, content.len() as u64, 1_600_000_000);
        writer.append(&entry, &mut &content[..])?;
    }
    writer.finish()
}

fn program(changed: bool) -> Vec<u8> {
    let mut word = 1u32;
    let next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(20_000).collect();
    if changed {
        bytes[10_000..10_004].copy_from_slice(&[1, 2, 3, 4]);
        bytes.splice(15_000..15_000, *b"some new text in the middle");
    }
    bytes
}

fn old() -> std::io::Result<Vec<u8>> {
    tar(&[
        ("same", b"the same\n"),
        ("old-name", b"moved\n"),
        ("program", &program(false)),
    ])
}

fn new() -> std::io::Result<Vec<u8>> {
    tar(&[
        ("same", b"the same\n"),
        ("new-name", b"moved\n"),
        ("program", &program(true)),
        ("text", b"All of this is new, all of this is new, and all of this.\n"),
    ])
}

/// The delta that makes the one of the other, as this machine makes it.
fn make(mut base: impl Contents) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (old, new) = (Survey::read(&old()?[..])?, new()?);
    let (target, mut made) = (Survey::read(&new[..])?, Vec::new());
    write(&[&old], &mut base, &target, &new[..], &mut made)?;
    Ok(made)
}

pub fn delta() -> Checked {
    if !rustix::process::geteuid().is_root() {
        return Ok(Said::Skipped("only root can give files to others".into()));
    }
    let (old, new) = (old()?, new()?);
    let scratch = Scratch::new("delta")?;
    let store = Store::open(&scratch.0.join("root"))?;
    let base = store.layers.stage(None)?.unpack(&old[..])?.commit_as_is()?;
    let made = make(files(&store, &base)?)?;
    let mut linked = true;
    for delta in [BAKED, &made] {
        let layer = apply(&store, &base, delta)?;
        let mut tar = Vec::new();
        store.layers.write_tar(&layer, &mut tar)?;
        ensure(tar == new, || {
            "what a delta makes is not what it was made of".to_owned()
        })?;
        let inode = |layer: &LayerId| -> Result<u64, Box<dyn std::error::Error>> {
            Ok(store.layers.diff_path(layer.chain_id())?.join("same").metadata()?.ino())
        };
        linked &= inode(&layer)? == inode(&base)?;
        let chain = layer.chain_id().clone();
        drop(layer);
        store.layers.remove_unused(&chain)?;
    }
    let mut broken = BAKED.to_vec();
    let middle = broken.len() / 2;
    broken[middle] ^= 0x55;
    ensure(apply(&store, &base, &broken).is_err(), || {
        "a damaged delta is not noticed".to_owned()
    })?;
    Ok(Said::Ok(format!(
        "{} bytes made of {}, here and elsewhere; what did not change is {}",
        new.len(),
        made.len(),
        if linked { "linked" } else { "copied" }
    )))
}

fn files(store: &Store, base: &LayerId) -> store::Result<BaseFiles> {
    Ok(BaseFiles::new(vec![store.layers.base(base.clone())?]))
}

fn apply(store: &Store, base: &LayerId, delta: &[u8]) -> Result<LayerId, Box<dyn std::error::Error>> {
    let opened = Delta::open(delta, Limits { tar_bytes: 1 << 20 })?;
    let target = DiffId(opened.header().target.clone());
    let staged = store.layers.stage(None)?;
    Ok(staged.unpack_delta(opened, files(store, base)?)?.commit(&target)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use delta::FileId;
    use std::io;

    /// A layer's files, out of its tar.
    struct Files<'a>(&'a [u8], Survey);

    impl Contents for Files<'_> {
        fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
            let start = self.1.offset(file.entry).ok_or(io::ErrorKind::NotFound)?;
            let start = usize::try_from(start + offset).map_err(io::Error::other)?;
            into.copy_from_slice(&self.0[start..start + into.len()]);
            Ok(())
        }

        fn read_target(&mut self, _: u32, _: u64, _: &mut [u8]) -> io::Result<()> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// After a change of the format it is made anew: `BALENA_BAKE=1 cargo test -p balena baked`.
    #[test]
    fn what_is_baked_in_is_what_is_made() {
        let old = old().unwrap();
        let made = make(Files(&old, Survey::read(&old[..]).unwrap())).unwrap();
        if std::env::var_os("BALENA_BAKE").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/self_test/update.delta");
            std::fs::write(path, &made).unwrap();
        }
        assert!(made == BAKED, "BALENA_BAKE=1 writes it anew");
    }
}
