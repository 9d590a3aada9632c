//! Deltas against a base that is there, and one of which files have changed or are gone: what comes out is the target, or an
//! error.

use super::{Target, noise};
use delta::make::{self, Survey};
use delta::{Contents, Delta, FileId, Limits, State, Target as Made, Wanted};
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
        ("bin/agent", &program(false)),
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

/// A program with the tables of Go's linker: sixty functions, of which one grows.
fn program(grown: bool) -> Vec<u8> {
    const BASE: usize = 0x40_0000;
    let mut out = vec![0; 0x400];
    let put = |out: &mut Vec<u8>, at: usize, value: usize, size: usize| {
        out.resize(out.len().max(at + size), 0);
        out[at..at + size].copy_from_slice(&(value as u64).to_le_bytes()[..size]);
    };
    let sizes = |function: usize| 64 + function % 3 * 32 + if grown && function == 30 { 32 } else { 0 };
    let entries: Vec<usize> = (0..=60).map(|end| (0..end).map(sizes).sum()).collect();
    for function in 0..60 {
        out.extend(noise(function as u64, sizes(function)));
    }
    let header = out.len();
    let table = header + 72 + 60 * 8 + 64 + 60 * 16;
    for (at, value) in [60, 1, 0, 72, 552, 584, 616, table - header].into_iter().enumerate() {
        put(&mut out, header + 8 + 8 * at, value, 8);
    }
    put(&mut out, header, 0x0801_0000_ffff_fff1, 8);
    out.resize(table, 0);
    for function in 0..60 {
        out[header + 72 + 8 * function..][..7].copy_from_slice(format!("main.{function:02}").as_bytes());
        let record = 8 * 60 + 8 + function * 56;
        put(&mut out, table + 8 * function, entries[function], 4);
        put(&mut out, table + 8 * function + 4, record, 4);
        let pc = 1 + function * 15 + if grown && function > 30 { 7 } else { 0 };
        let words = [
            entries[function],
            function * 8,
            0,
            0,
            pc,
            pc + 2,
            pc + 4,
            1,
            1,
            9,
            2 << 24,
            pc,
            function * 8,
            0,
        ];
        for (at, value) in words.into_iter().enumerate() {
            put(&mut out, table + record + 4 * at, value, 4);
        }
    }
    put(&mut out, table + 8 * 60, entries[60], 4);
    let data = out.len();
    out.extend(noise(5, 480));
    let find = out.len();
    for bucket in 0..=entries[60] / 4096 {
        let first = entries.partition_point(|entry| *entry <= bucket * 4096) - 1;
        put(&mut out, find + 20 * bucket, first, 4);
        out.resize(find + 20 * bucket + 20, 0);
    }
    let module = out.len().next_multiple_of(8);
    let words = [
        (0, header),
        (1, header + 72),
        (19, find),
        (20, 0x400),
        (22, 0x400),
        (37, 0x400),
        (40, data),
    ];
    for (at, place) in words {
        put(&mut out, module + 8 * at, BASE + place, 8);
    }
    let names = module + 41 * 8;
    out.resize(names, 0);
    out.extend(b"\0.text\0.gopclntab\0.data\0");
    for (at, value) in [(0, 0x0001_0102_464c_457f), (16, 0x003e_0002), (32, 64), (40, 0x200)] {
        put(&mut out, at, value, 8);
    }
    for (at, value) in [56, 2, 64, 5, 4].into_iter().enumerate() {
        put(&mut out, 54 + 2 * at, value, 2);
    }
    for (at, (flags, from, to)) in [(5, 0x400, header), (6, header, names)].into_iter().enumerate() {
        for (field, value) in [
            (0, 1 | flags << 32),
            (8, from),
            (16, BASE + from),
            (32, to - from),
            (40, to - from + 64),
        ] {
            put(&mut out, 64 + 56 * at + field, value, 8);
        }
    }
    let sections = [
        (1, 0x400, header, 2),
        (7, header, module, 2),
        (18, module, names, 2),
        (0, names, names + 24, 0),
    ];
    for (at, (name, from, to, flags)) in sections.into_iter().enumerate() {
        for (field, value) in [
            (0, name | 1 << 32),
            (8, flags),
            (16, BASE + from),
            (24, from),
            (32, to - from),
        ] {
            put(&mut out, 0x240 + 64 * at + field, value, 8);
        }
    }
    out
}

/// Files of the base, of which each other may be of this state; of the target none, which a reader must bear, too.
struct Files(State);

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

    fn state(&mut self, file: FileId) -> State {
        match file.entry % 2 {
            0 => State::Whole,
            _ => self.0,
        }
    }

    fn begin_elsewhere(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        assert!(wanted.at + wanted.size <= 1 << 20 && wanted.done == 0);
        Ok(())
    }

    fn read_elsewhere(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        Ok(())
    }
}

fn run(bytes: &[u8]) {
    for state in [State::Whole, State::Changed, State::Lost] {
        apply(bytes, state);
    }
}

fn apply(bytes: &[u8], state: State) {
    let Ok(opened) = Delta::open(bytes, Limits { tar_bytes: 1 << 20 }) else {
        return;
    };
    let base = vec![Arc::new(BASE.1.layer().clone()); opened.header().base.len().min(2)];
    let Ok(pieces) = opened.pieces(base) else { return };
    let mut made = Made::new(pieces, Files(state));
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
            ("bin/agent", &program(true)),
        ]),
        tar(&[("new", &noise(3, 4000)), ("twice", &noise(3, 4000))]),
        Vec::new(),
    ];
    let mut all = Vec::new();
    for target in targets {
        let survey = Survey::read(&target[..]).expect("our own tar can be read");
        for base in [vec![], vec![&BASE.1]] {
            let mut out = Vec::new();
            make::write(&base, &mut Files(State::Whole), &survey, &target[..], &mut out).expect("a delta can be made");
            all.push(out);
        }
    }
    all
}
