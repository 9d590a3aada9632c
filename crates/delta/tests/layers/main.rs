//! Deltas between layers: everything a tar can hold comes back bit for bit, and nothing hostile gets through.

mod elsewhere;
mod executables;

use delta::make::{self, Report, Survey};
use delta::{Content, Contents, Delta, Error, FileId, Hints, Layer, Limits, Target};
use oci::tar::{Entry, Kind, Writer};
use proptest::prelude::*;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

const LIMITS: Limits = Limits { tar_bytes: 1 << 30 };

/// Contents of tars in memory. What the target made so far is where the test puts it.
struct Memory<'a> {
    base: Vec<(&'a [u8], &'a Survey)>,
    target: Option<(Arc<Mutex<Vec<u8>>>, &'a Survey)>,
}

fn part(tar: &[u8], start: Option<u64>, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let start = (start.ok_or(io::ErrorKind::NotFound)? + offset) as usize;
    into.copy_from_slice(tar.get(start..start + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

impl Contents for Memory<'_> {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (tar, survey) = self.base[file.layer as usize];
        part(tar, survey.offset(file.entry), offset, into)
    }

    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (made, survey) = self.target.as_ref().ok_or(io::ErrorKind::NotFound)?;
        part(&made.lock().unwrap(), survey.offset(entry), offset, into)
    }
}

fn survey(tar: &[u8]) -> Survey {
    Survey::read(tar).unwrap()
}

fn make(base: &[&[u8]], target: &[u8]) -> (Vec<u8>, Report) {
    let surveys: Vec<Survey> = base.iter().map(|tar| survey(tar)).collect();
    let mut contents = Memory {
        base: base.iter().copied().zip(&surveys).collect(),
        target: None,
    };
    let mut delta = Vec::new();
    let references: Vec<&Survey> = surveys.iter().collect();
    let report = make::write(&references, &mut contents, &survey(target), target, &mut delta).unwrap();
    assert_eq!(report.bytes, delta.len() as u64);
    (delta, report)
}

/// Applies a delta, to a base that may be another than it was made from; `read` bytes at a time.
fn apply(base: &[&[u8]], target: &[u8], delta: &[u8], read: usize) -> Result<(Vec<u8>, Hints), Error> {
    let surveys: Vec<Survey> = base.iter().map(|tar| survey(tar)).collect();
    apply_with(base, &surveys, &survey(target), delta, read)
}

fn apply_with(
    base: &[&[u8]],
    surveys: &[Survey],
    target: &Survey,
    delta: &[u8],
    read: usize,
) -> Result<(Vec<u8>, Hints), Error> {
    let opened = Delta::open(delta, LIMITS)?;
    let find = |wanted: &oci::digest::Digest| surveys.iter().position(|survey| survey.diff_id() == wanted);
    let header = opened.header().clone();
    let layers: Option<Vec<usize>> = header.base.iter().map(|layer| find(&layer.diff_id)).collect();
    let layers = layers.ok_or(Error::WrongBase("diff ID"))?;
    let made = Arc::new(Mutex::new(Vec::new()));
    let contents = Memory {
        base: layers.iter().map(|&at| (base[at], &surveys[at])).collect(),
        target: Some((made.clone(), target)),
    };
    let layers: Vec<Arc<Layer>> = layers.iter().map(|&at| Arc::new(surveys[at].layer().clone())).collect();
    let mut tar = Target::new(opened.pieces(layers)?, contents);
    let hints = tar.hints();
    let mut buffer = vec![0; read];
    loop {
        match tar.read_some(&mut buffer)? {
            0 => break,
            n => made.lock().unwrap().extend_from_slice(&buffer[..n]),
        }
    }
    let made = made.lock().unwrap().clone();
    Ok((made, hints))
}

/// Makes and applies, and returns the delta's length.
fn round_trip(base: &[&[u8]], target: &[u8]) -> usize {
    let (delta, _) = make(base, target);
    let (made, _) = apply(base, target, &delta, 4096).unwrap();
    assert!(made == target);
    delta.len()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn text(seed: u64, lines: usize) -> Vec<u8> {
    let words = noise(seed, lines * 6);
    let line = |chunk: &[u8]| {
        format!(
            "let {}{} = {} + {};\n",
            chunk[0] as char,
            chunk[1] % 30,
            chunk[2],
            chunk[3] / 9
        )
    };
    words.chunks(6).flat_map(|chunk| line(chunk).into_bytes()).collect()
}

fn file(name: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(Kind::Regular, name);
    (entry.mode, entry.size, entry.mtime.seconds) = (0o644, content.len() as u64, 1_700_000_000);
    (entry, content.to_vec())
}

fn tar(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

/// A layer with one of each way that content can come, and the one it comes from.
fn sample() -> (Vec<u8>, Vec<u8>) {
    let (library, program) = (text(1, 3000), noise(2, 40_000));
    let old = tar(&[
        file("etc/kept", b"the same"),
        file("lib/moved.js", &library),
        file("lib/edited.js", &text(3, 2000)),
        file("usr/bin/program", &program),
        file("gone", b"no more"),
    ]);
    let mut edited = text(3, 2000);
    edited.splice(5_000..5_010, *b"something else");
    let mut program = program;
    for at in (100..39_000).step_by(1_201) {
        program[at] = program[at].wrapping_add(3);
    }
    program.splice(20_000..20_000, noise(4, 100));
    let mut kept = file("etc/kept", b"the same");
    kept.0.mtime.seconds += 77;
    let new = tar(&[
        kept,
        file("lib/new-name.js", &library),
        file("lib/edited.js", &edited),
        file("lib/twice-1", &noise(9, 3_000)),
        file("lib/twice-2", &noise(9, 3_000)),
        file("usr/bin/program", &program),
        file("usr/empty", b""),
    ]);
    (old, new)
}

#[test]
fn each_way_of_content_is_used_and_hinted() {
    let (old, new) = sample();
    let (delta, report) = make(&[&old], &new);
    assert_eq!(report.ways.map(|way| way.files), [2, 1, 2, 1]);
    assert!(delta.len() < 3_900, "{}", delta.len());
    let (made, hints) = apply(&[&old], &new, &delta, 100).unwrap();
    assert!(made == new);
    let base = |entry| Content::Base(FileId { layer: 0, entry });
    let hint = |entry: u32| {
        hints
            .take(entry)
            .map(|hint| (hint.content, hint.head.map(|head| head.entry)))
    };
    assert_eq!(hint(0), Some((base(0), Some(0))));
    assert_eq!(hint(1), Some((base(1), None)));
    assert_eq!(hint(2), None);
    assert_eq!(hint(4), Some((Content::Target(3), None)));
    assert_eq!(hint(6), None);
}

#[test]
fn only_layers_that_are_read_are_named() {
    let (old, new) = sample();
    let (unread, overlaid) = (
        tar(&[file("elsewhere", &noise(7, 900))]),
        tar(&[file("etc/kept", b"the same")]),
    );
    let (delta, report) = make(&[&unread, &old, &overlaid], &new);
    let ids: Vec<_> = report.header.base.iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(
        ids,
        [survey(&old).diff_id().clone(), survey(&overlaid).diff_id().clone()]
    );
    // Any base that has them will do, in whatever order.
    assert!(apply(&[&overlaid, &unread, &old], &new, &delta, 999).unwrap().0 == new);
    let (delta, report) = make(&[&unread], &new);
    assert!(report.header.base.is_empty());
    assert!(apply(&[], &new, &delta, 999).unwrap().0 == new);
}

/// Two images that are one base both had a program of the same name, and the delta was made from the wrong one.
#[test]
fn of_files_of_one_name_the_one_that_is_most_alike_is_patched() {
    let mut program = noise(1, 200_000);
    let (right, wrong) = (
        tar(&[file("app/run", &program)]),
        tar(&[file("app/run", &noise(2, 200_000))]),
    );
    program[100_000] ^= 1;
    let target = tar(&[file("app/run", &program)]);
    for base in [[&right[..], &wrong], [&wrong, &right]] {
        let bytes = round_trip(&base, &target);
        assert!(bytes < 1000, "{bytes}");
    }
}

#[test]
fn all_kinds_of_entries_come_back() {
    let mut entries = Vec::new();
    for (number, kind) in [
        Kind::Directory,
        Kind::Symlink,
        Kind::HardLink,
        Kind::CharDevice,
        Kind::BlockDevice,
        Kind::Fifo,
    ]
    .into_iter()
    .enumerate()
    {
        let mut entry = Entry::new(kind, format!("a/{number}"));
        (entry.link, entry.device_major, entry.device_minor) = (b"a/target".to_vec(), 7, number as u32);
        entry.mode = 0o4755;
        entries.push((entry, Vec::new()));
    }
    // PAX: long names, names that are no ASCII, attributes, times past 2242, with nanoseconds, and before 1970.
    let mut long = file(&format!("{}/é", "d".repeat(200)), b"content");
    long.0.xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 2, 255])];
    (long.0.mtime.seconds, long.0.mtime.nanoseconds) = (1 << 40, 5);
    let mut early = file("early", b"x");
    early.0.mtime.seconds = -5;
    early.0.uid = u32::MAX - 1;
    entries.extend([long, early, file(".wh.gone", b""), file("dir/.wh..wh..opq", b"")]);
    let base = tar(&entries);
    for (entry, _) in &mut entries {
        entry.mtime.seconds += 1;
    }
    entries.remove(3);
    let target = tar(&entries);
    round_trip(&[], &target);
    assert!(round_trip(&[&base], &target) < 700);
    assert!(round_trip(&[&target], &target) < 180);
}

/// What is in no ordinary tar, put into one by hand.
#[test]
fn odd_tars_come_back() {
    let plain = tar(&[file("a", b"one"), file("b", &noise(1, 600))]);
    let mut odd: Vec<Vec<u8>> = vec![
        // No end; one zero block only; much more than two; garbage behind; nothing at all.
        plain[..plain.len() - 1024].to_vec(),
        plain[..plain.len() - 512].to_vec(),
        [&plain[..], &vec![0; 8 * 1024]].concat(),
        [&plain[..], &vec![0; 200_000]].concat(),
        [&plain[..], &noise(2, 150_000)].concat(),
        [&plain[..], b"x"].concat(),
        vec![0; 1024],
        Vec::new(),
        // The last file's padding left out.
        tar(&[file("a", b"one")])[..515].to_vec(),
    ];
    // Padding that is not zero; a checksum in another form; bytes behind a field's end.
    let mut padded = plain.clone();
    padded[700] = 9;
    odd.push(padded);
    let mut changed = plain.clone();
    let sum = String::from_utf8(changed[148..154].to_vec()).unwrap();
    changed[148..156].copy_from_slice(format!("{:>7}\0", sum.trim_start_matches('0')).as_bytes());
    odd.push(changed);
    let mut stained = plain.clone();
    stained[60] = b'z';
    let sum: u32 = (0..512)
        .map(|at| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(stained[at])
            }
        })
        .sum();
    stained[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    odd.push(stained);
    // GNU: a long name, and a sparse file whose content is no file's.
    let gnu = |flag: u8, name: &[u8], size: usize| {
        let mut block = plain[..512].to_vec();
        block[..100].fill(0);
        block[..name.len()].copy_from_slice(name);
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar  \0");
        if flag == b'S' {
            block[329..500].fill(0);
            block[386..397].copy_from_slice(b"00000001000");
            block[398..409].copy_from_slice(format!("{size:011o}").as_bytes());
            block[483..494].copy_from_slice(b"00000777777");
        }
        let sum: u32 = (0..512)
            .map(|at| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(block[at])
                }
            })
            .sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    let mut name = vec![b'n'; 150];
    name.resize(512, 0);
    odd.push([&gnu(b'L', b"././@LongLink", 151)[..], &name, &plain].concat());
    let mut content = noise(3, 100_000);
    content.resize(100_352, 0);
    odd.push([&gnu(b'S', b"sparse", 100_000)[..], &content, &plain].concat());
    // A whiteout with content: nobody will hold it.
    odd.push(tar(&[file(".wh.x", &noise(5, 1000)), file("y", b"z")]));
    for (number, target) in odd.iter().enumerate() {
        round_trip(&[], target);
        round_trip(&[&plain], target);
        if !target.is_empty() {
            assert!(round_trip(&[target], target) < 154_000, "tar {number}");
        }
        round_trip(&[target], &plain);
    }
}

#[test]
fn many_small_files() {
    let files = |salt: u32| -> Vec<(Entry, Vec<u8>)> {
        let one = |n: u32| {
            file(
                &format!("usr/share/{}/{n}", n / 100),
                format!("{}", n * 7 + (n % 50) / 49 * salt).as_bytes(),
            )
        };
        (0..100_000).map(one).collect()
    };
    let (old, new) = (tar(&files(0)), tar(&files(1)));
    let length = round_trip(&[&old], &new);
    assert!(length < 20_000, "{length}");
}

#[test]
fn a_file_larger_than_a_piece() {
    let old = noise(1, 21 << 20);
    let mut new = old.clone();
    new.splice(3 << 20..3 << 20, noise(2, 5000));
    new[19 << 20] ^= 1;
    let length = round_trip(&[&tar(&[file("big", &old)])], &tar(&[file("big", &new)]));
    assert!(length < 10_000, "{length}");
}

#[test]
fn another_base_is_refused_and_a_changed_file_is_named() {
    let (old, new) = sample();
    let (delta, _) = make(&[&old], &new);
    let other = tar(&[file("etc/kept", b"not same")]);
    assert!(matches!(apply(&[&other], &new, &delta, 4096), Err(Error::WrongBase(_))));
    let surveys = [survey(&old)];
    let target = survey(&new);
    // A byte of each file that is read: of the same, of the moved, of the patched ones.
    for entry in 0..4u32 {
        let mut changed = old.clone();
        changed[surveys[0].offset(entry).unwrap() as usize + 3] ^= 1;
        match apply_with(&[&changed], &surveys, &target, &delta, 4096) {
            Err(Error::BaseFile {
                layer: 0, entry: named, ..
            }) => assert_eq!(named, entry),
            other => panic!("{:?}", other.map(|(made, _)| made.len())),
        }
    }
    // The one that is not read does not matter.
    let mut changed = old.clone();
    changed[surveys[0].offset(4).unwrap() as usize] ^= 1;
    assert!(apply_with(&[&changed], &surveys, &target, &delta, 4096).is_ok());
}

#[test]
fn a_delta_cut_anywhere_is_refused() {
    let (old, new) = sample();
    let (delta, _) = make(&[&old], &new);
    let surveys = [survey(&old)];
    let target = survey(&new);
    for end in 0..delta.len() {
        let cut = apply_with(&[&old], &surveys, &target, &delta[..end], 1 << 16);
        assert!(cut.is_err(), "cut at {end}");
    }
    let longer = [&delta[..], b"\0"].concat();
    assert!(apply_with(&[&old], &surveys, &target, &longer, 1 << 16).is_err());
}

/// Bits flipped, bytes replaced, stretches moved: an error each time, or the right result; never a panic.
#[test]
fn mutations_are_found() {
    let (old, new) = sample();
    let (delta, _) = make(&[&old], &new);
    let surveys = [survey(&old)];
    let target = survey(&new);
    let random = noise(42, 8 * 1500);
    for (number, dice) in random.chunks_exact(8).enumerate() {
        let mut changed = delta.clone();
        let place = |dice: &[u8]| usize::from(u16::from_le_bytes([dice[0], dice[1]])) % delta.len();
        let at = place(dice);
        match dice[2] % 4 {
            0 => changed[at] ^= 1 << (dice[3] % 8),
            1 => changed[at] = dice[3],
            // The head, whose numbers count most.
            2 => changed[place(dice) % 90] = dice[3],
            _ => {
                let end = (at + usize::from(dice[3])).min(delta.len());
                let to = place(&dice[4..]).min(delta.len() - (end - at));
                changed.copy_within(at..end, to);
            }
        }
        match apply_with(&[&old], &surveys, &target, &changed, 1 << 16) {
            Ok((made, _)) => assert!(made == new, "mutation {number}"),
            Err(_) => assert!(changed != delta, "mutation {number}"),
        }
    }
}

#[test]
fn bombs_are_refused() {
    let (old, new) = sample();
    let (delta, _) = make(&[&old], &new);
    let tight = Limits {
        tar_bytes: new.len() as u64 - 1,
    };
    assert!(matches!(Delta::open(&delta[..], tight), Err(Error::Limit { .. })));
    // A megabyte of zeros in a few bytes, in a delta that announces less: it ends where the announcement does.
    let bomb = tar(&[file("zeros", &vec![0; 50 << 20])]);
    let (mut delta, _) = make(&[], &bomb);
    assert!(delta.len() < 10_000);
    assert!(apply(&[], &bomb, &delta, 1 << 16).unwrap().0 == bomb);
    // The size in the head is the first number after magic and digest.
    assert_eq!(delta[40..44], [0x80, 0x8c, 0x80, 0x19]);
    delta[43] = 1;
    let mut made = 0;
    let opened = Delta::open(&delta[..], LIMITS).unwrap();
    let none = Memory {
        base: Vec::new(),
        target: None,
    };
    let mut target = Target::new(opened.pieces(Vec::new()).unwrap(), none);
    let mut buffer = vec![0; 1 << 16];
    let error = loop {
        match target.read_some(&mut buffer) {
            Ok(0) => panic!("the end"),
            Ok(n) => made += n,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Format(_)), "{error}");
    assert!(made <= 0x1_0000 * 512);
    assert_eq!(
        target.read_some(&mut buffer).unwrap(),
        0,
        "nothing comes after an error"
    );
    assert!(Delta::open(&b"\x89Delta\x1a\x02"[..], LIMITS).is_err());
}

/// A tree that an edit made of another: names, contents, metadata.
fn tree() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let content = prop_oneof![
        (0u64..6, 0usize..200).prop_map(|(seed, lines)| text(seed, lines)),
        (0u64..6, 0usize..3000).prop_map(|(seed, length)| noise(seed, length)),
        (0u64..4, 0usize..3000, 0usize..100, 0u64..9).prop_map(|(seed, length, at, with)| {
            let mut content = noise(seed, length);
            let at = at.min(length);
            content.splice(at..at, noise(with, 5));
            content
        }),
    ];
    let entry = (0u8..30, content, 0i64..4, 0u32..3, 0u8..12);
    prop::collection::btree_map(0u16..60, entry, 0..25).prop_map(|files| {
        let make = |(name, (directory, content, mtime, uid, kind)): (u16, (u8, Vec<u8>, i64, u32, u8))| {
            let name = format!("d{}/file-{name}", directory % 5);
            let (mut entry, mut content) = file(&name, &content);
            if kind < 3 {
                entry.kind = [Kind::Directory, Kind::Symlink, Kind::HardLink][usize::from(kind)];
                entry.link = format!("d{directory}/x").into_bytes();
                (entry.size, content) = (0, Vec::new());
            }
            (entry.mtime.seconds, entry.uid) = (1_600_000_000 + mtime, uid);
            (entry, content)
        };
        files.into_iter().map(make).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_becomes_any_other(below in tree(), old in tree(), new in tree()) {
        let (below, old, new) = (tar(&below), tar(&old), tar(&new));
        round_trip(&[&below, &old], &new);
    }
}

#[test]
fn a_writer_that_fails_and_a_target_that_changes_are_errors() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_, new) = sample();
    let mut none = Memory {
        base: Vec::new(),
        target: None,
    };
    let survey = survey(&new);
    assert!(make::write(&[], &mut none, &survey, &new[..], &mut Full).is_err());
    let other = tar(&[file("a", b"b")]);
    let changed = make::write(&[], &mut none, &survey, &other[..], &mut io::sink());
    assert!(changed.is_err());
}
