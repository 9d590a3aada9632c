//! Deltas against a base that is there: what comes out is the target, or an error.

use super::{Target, noise};
use delta::make::{self, Survey};
use delta::{Contents, Delta, FileId, Limits, Target as Made};
use oci::tar::{Entry, Kind, Writer};
use std::io;
use std::sync::{Arc, LazyLock};

pub const TARGET: Target = Target {
    name: "delta",
    run,
    seeds,
};

static BASE: LazyLock<(Vec<u8>, Survey)> = LazyLock::new(|| {
    let tar = tar(&[
        ("etc/kept", b"the same"),
        ("lib/a", &noise(1, 3000)),
        ("bin/b", &noise(2, 5000)),
        ("gone", b"x"),
    ]);
    let survey = Survey::read(&tar[..]).expect("our own tar can be read");
    (tar, survey)
});

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let mut entry = Entry::new(Kind::Regular, *name);
        (entry.mode, entry.size) = (0o644, content.len() as u64);
        writer.append(&entry, &mut &content[..]).expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

/// Files of the base; of the target none, which a reader must bear, too.
struct Files;

impl Contents for Files {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (tar, survey) = &*BASE;
        let start = survey.offset(file.entry).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(start.saturating_add(offset)).map_err(io::Error::other)?;
        let end = start.checked_add(into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(tar.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_target(&mut self, _: u32, _: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        Ok(())
    }
}

fn run(bytes: &[u8]) {
    let Ok(opened) = Delta::open(bytes, Limits { tar_bytes: 1 << 20 }) else {
        return;
    };
    let base = vec![Arc::new(BASE.1.layer().clone()); opened.header().base.len().min(2)];
    let Ok(pieces) = opened.pieces(base) else { return };
    let mut made = Made::new(pieces, Files);
    let (mut buffer, mut total) = ([0; 4096], 0);
    while let Ok(n @ 1..) = made.read_some(&mut buffer) {
        total += n;
        assert!(total <= 1 << 20, "more than was allowed");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut edited = noise(2, 5000);
    edited.splice(1000..1010, *b"something else");
    let targets = [
        tar(&[
            ("etc/kept", b"the same"),
            ("lib/moved", &noise(1, 3000)),
            ("bin/b", &edited),
        ]),
        tar(&[("new", &noise(3, 4000)), ("twice", &noise(3, 4000))]),
        Vec::new(),
    ];
    let mut all = Vec::new();
    for target in targets {
        let survey = Survey::read(&target[..]).expect("our own tar can be read");
        for base in [vec![], vec![&BASE.1]] {
            let mut out = Vec::new();
            make::write(&base, &mut Files, &survey, &target[..], &mut out).expect("a delta can be made");
            all.push(out);
        }
    }
    all
}
