//! Files of the base that are missing or have changed: where the layer's own blob can be read in its middle, only what
//! they were for is fetched of it.

use super::*;
use tests::seekable;

const LIBRARY: usize = 1_000_000;
const NAMED: usize = 200_000;
const PROGRAM: usize = 700_000;

/// How the target's blob is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blob {
    Plain,
    Estargz,
    ZstdChunked,
    ZstdWithFooter,
    Gzip,
}

const SEEKABLE: [Blob; 4] = [Blob::Plain, Blob::Estargz, Blob::ZstdChunked, Blob::ZstdWithFooter];

fn tars() -> (Vec<u8>, Vec<u8>) {
    let mut program = noise(2, PROGRAM);
    let tar = |program: &[u8], names: [&str; 2], version: &[u8]| {
        Tar::default()
            .dir("app", 0o755)
            .file("app/library", 0o644, &noise(1, LIBRARY))
            .file(names[0], 0o644, &noise(3, NAMED))
            .file("app/program", 0o755, program)
            .file("app/version", 0o644, version)
            .file(names[1], 0o644, &noise(5, 1_500_000))
            .bytes()
    };
    let old = tar(&program, ["app/old-name", "app/rest"], b"one\n");
    program[300_000..300_009].copy_from_slice(b"a change.");
    (old, tar(&program, ["app/new-name", "app/rest"], b"two\n"))
}

fn update_to(blob: Blob, change: seekable::Change<'_>) -> Update {
    let busybox = image::busybox_layer().expect("busybox");
    let (old, new) = tars();
    let new = match blob {
        Blob::Plain => Layer::plain(&new),
        Blob::Estargz => seekable::estargz(&new, change),
        Blob::ZstdChunked => seekable::zstd_chunked(&new, true, change),
        Blob::ZstdWithFooter => seekable::zstd_chunked(&new, false, change),
        Blob::Gzip => Layer::gzip(&new),
    };
    let old = Layer::gzip(&old);
    Update::of(busybox, old, new)
}

fn as_made(_: &mut Vec<Value>) {}

/// Changes a byte, and nothing that a look at the file would tell.
fn flip(path: &PathBuf) {
    let times = path.metadata().unwrap().modified().unwrap();
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(path, &content).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(times).unwrap();
}

fn is_noted(daemon: &Daemon) -> bool {
    fs::read_dir(daemon.data_root().join("balena-damaged")).is_ok_and(|notes| notes.count() == 1)
}

/// Pulls the new image, of whose base something is wrong, and says what was said, and what came but for the delta.
fn pull(daemon: &mut Daemon, update: &Update, fault: Fault) -> (String, u64) {
    let double = Double::with_deltas(update.new.clone(), vec![update.artifact()], fault).unwrap();
    let said = daemon.docker().ok(&["pull", &double.reference()]);
    is_new(daemon, update, &double.reference());
    let sent = double.sent() - update.delta.bytes.len() as u64;
    daemon.docker().ok(&["rmi", &double.reference()]);
    (said, sent)
}

/// What an index and a footer may cost.
const INDEX_BYTES: u64 = 3_000;

#[test]
fn only_what_is_missing_or_has_changed_is_fetched() {
    ground::run(|g| {
        for blob in SEEKABLE {
            let update = update_to(blob, &as_made);
            let (mut daemon, old) = update.daemon(g);
            let base = top(&daemon, &old).join("app");
            // Of a file that was renamed, and of one that is patched.
            for (story, names, bytes) in [
                ("one is missing", &["old-name"][..], NAMED),
                ("two are missing", &["old-name", "program"], NAMED + PROGRAM),
                ("one has changed", &["library"], LIBRARY),
                ("one that is patched has changed", &["program"], PROGRAM),
            ] {
                let story = format!("{blob:?}: {story}");
                for name in names {
                    match story.contains("missing") {
                        true => fs::remove_file(base.join(name)).unwrap(),
                        false => flip(&base.join(name)),
                    }
                }
                let (said, sent) = pull(&mut daemon, &update, Fault::None);
                let many = match names {
                    [_] => "1 file of the base has changed: fetched ",
                    _ => "2 files of the base have changed: fetched ",
                };
                assert!(
                    said.contains(many) && said.contains("of the full layer"),
                    "{story}: {said}"
                );
                assert!(
                    said.contains("Delta from") && !said.contains("Delta not used"),
                    "{story}: {said}"
                );
                let bytes = bytes as u64;
                assert!(
                    sent >= bytes && sent < bytes + INDEX_BYTES,
                    "{story}: {sent} of {bytes}"
                );
                // It is noted, and the next pull of the base's own image mends it.
                assert!(is_noted(&daemon), "{story}");
                let said = daemon.docker().ok(&["pull", &old]);
                assert_eq!(said.matches("Already exists").count(), 1, "{story}: {said}");
                assert!(!is_noted(&daemon), "{story}");
                let verified = daemon.cli().run(&["image", "verify", "--deep", &old]);
                assert_eq!(verified.code, 0, "{story}: {}{}", verified.out, verified.err);
            }
            daemon.docker().ok(&["rmi", &old]);
            assert_eq!(daemon.left_behind(), Vec::<String>::new());
        }
    });
}

#[test]
fn one_is_missing_and_one_has_changed() {
    ground::run(|g| {
        let update = update_to(Blob::Estargz, &as_made);
        let (mut daemon, old) = update.daemon(g);
        let base = top(&daemon, &old).join("app");
        fs::remove_file(base.join("old-name")).unwrap();
        fs::write(base.join("version"), b"a\n").unwrap();
        flip(&base.join("program"));
        let (said, sent) = pull(&mut daemon, &update, Fault::None);
        assert!(said.contains("files of the base have changed: fetched"), "{said}");
        assert!(!said.contains("Delta not used"), "{said}");
        // What was missing came with each of two tries, and something more once three followed each other.
        assert!(
            sent < (2 * NAMED + PROGRAM) as u64 + 2 * INDEX_BYTES + (64 << 10),
            "{sent}"
        );
    });
}

#[test]
fn where_it_is_not_possible_the_layer_comes() {
    ground::run(|g| {
        let missing = |daemon: &Daemon, old: &str| fs::remove_file(top(daemon, old).join("app/old-name")).unwrap();
        let changed = |daemon: &Daemon, old: &str| flip(&top(daemon, old).join("app/library"));
        let all = |daemon: &Daemon, old: &str| {
            for name in ["library", "rest"] {
                fs::remove_file(top(daemon, old).join("app").join(name)).unwrap();
            }
        };
        type Damage<'a> = &'a dyn Fn(&Daemon, &str);
        let cases: [(&str, Blob, Fault, Damage<'_>); 9] = [
            ("an ordinary blob, missing", Blob::Gzip, Fault::None, &missing),
            ("an ordinary blob, changed", Blob::Gzip, Fault::None, &changed),
            ("too much is missing", Blob::Plain, Fault::None, &all),
            ("too much of an index", Blob::ZstdChunked, Fault::None, &all),
            ("no ranges, missing", Blob::Plain, Fault::NoParts, &missing),
            ("no ranges, changed", Blob::ZstdChunked, Fault::NoParts, &changed),
            ("gone from the first", Blob::Estargz, Fault::PartsGone(0), &changed),
            ("gone from the second", Blob::Estargz, Fault::PartsGone(1), &missing),
            ("gone from the third", Blob::Estargz, Fault::PartsGone(2), &changed),
        ];
        for (story, blob, fault, damage) in cases {
            let update = update_to(blob, &as_made);
            let (mut daemon, old) = update.daemon(g);
            damage(&daemon, &old);
            let (said, sent) = pull(&mut daemon, &update, fault);
            assert!(
                said.contains("Delta not used: ") && said.contains("has changed"),
                "{story}: {said}"
            );
            assert!(!said.contains("Delta from"), "{story}: {said}");
            let full = update.new.layers[1].size;
            let more = match fault {
                // A client that hangs up has no whole blob, but the double has sent one.
                Fault::NoParts => full,
                _ => full / 2,
            };
            assert!(sent >= full && sent <= full + more, "{story}: {sent} of {full}");
            daemon.docker().ok(&["rmi", &old]);
            assert_eq!(daemon.left_behind(), Vec::<String>::new(), "{story}");
        }
    });
}

#[test]
fn parts_that_break_off_are_gone_on_with() {
    ground::run(|g| {
        let update = update_to(Blob::Plain, &as_made);
        let (mut daemon, old) = update.daemon(g);
        fs::remove_file(top(&daemon, &old).join("app/library")).unwrap();
        let (said, sent) = pull(&mut daemon, &update, Fault::CutParts(300_000));
        assert!(
            said.contains("1 file of the base has changed: fetched 1.0 MB"),
            "{said}"
        );
        assert_eq!(sent, LIBRARY as u64);
    });
}

/// An index that lies costs the delta, and nothing else.
#[test]
fn an_index_that_lies() {
    ground::run(|g| {
        let of = |entries: &mut Vec<Value>, name: &str| {
            let found = entries
                .iter()
                .position(|entry| entry["name"] == name && entry["type"] == "reg");
            found.unwrap()
        };
        let set = |name: &'static str, key: &'static str, value: Value| {
            move |entries: &mut Vec<Value>| {
                let at = of(entries, name);
                entries[at][key] = value.clone();
            }
        };
        let other_place = set("app/new-name", "offset", 0.into());
        let beyond = set("app/new-name", "offset", (1u64 << 60).into());
        let size = set("app/new-name", "size", 300_000.into());
        let inner = set("app/new-name", "innerOffset", 1000.into());
        let name = set("app/new-name", "name", "../app/new-name".into());
        let into_the_middle = |entries: &mut Vec<Value>| {
            let at = of(entries, "app/new-name");
            let offset = entries[at]["offset"].as_u64().unwrap();
            entries[at]["offset"] = (offset + 7).into();
        };
        let twice = |entries: &mut Vec<Value>| {
            let at = of(entries, "app/new-name");
            entries.push(entries[at].clone());
        };
        let digests = |entries: &mut Vec<Value>| {
            for entry in entries {
                entry["chunkDigest"] = format!("sha256:{}", "0".repeat(64)).into();
                entry["digest"] = entry["chunkDigest"].clone();
            }
        };
        let cases: [(&str, seekable::Change<'_>, bool); 8] = [
            ("another place", &other_place, false),
            ("beyond the blob", &beyond, false),
            ("another size", &size, true),
            ("too much before it", &inner, false),
            ("another name", &name, false),
            ("into the middle", &into_the_middle, false),
            ("two of a name", &twice, false),
            // Nobody looks at them: the delta knows sizes, and the layer's own digest is what counts.
            ("wrong digests", &digests, true),
        ];
        for (number, (story, change, used)) in cases.into_iter().enumerate() {
            let blob = [Blob::Estargz, Blob::ZstdChunked][number % 2];
            let update = update_to(blob, change);
            let (mut daemon, old) = update.daemon(g);
            fs::remove_file(top(&daemon, &old).join("app/old-name")).unwrap();
            let (said, _) = pull(&mut daemon, &update, Fault::None);
            assert_eq!(said.contains("Delta from"), used, "{blob:?}, {story}: {said}");
            assert_eq!(said.contains("Delta not used: "), !used, "{blob:?}, {story}: {said}");
        }
    });
}

/// What an earlier pull rescued is a file of the layer, and is not fetched again. (After a kill the start looks at all files,
/// and then the base is none any more.)
#[test]
fn a_pull_that_was_cancelled_after_it_goes_on() {
    ground::run(|g| {
        let busybox = image::busybox_layer().expect("busybox");
        let tar = |version: &[u8], seed: u64| {
            let mut tar = Tar::default()
                .dir("app", 0o755)
                .file("app/version", 0o644, version)
                .file("app/first", 0o644, &noise(1, 300_000));
            for n in 0..5 {
                tar = tar.file(&format!("app/new{n}"), 0o644, &noise(seed + n, 1_000_000));
            }
            tar.file("app/library", 0o644, &noise(9, 1_500_000))
                .file("app/last", 0o644, &noise(2, 400_000))
                .bytes()
        };
        let (old, new) = (Layer::gzip(&tar(b"one\n", 100)), Layer::plain(&tar(b"two\n", 200)));
        let update = Update::of(busybox, old, new);
        let (mut daemon, old) = update.daemon(g);
        for name in ["first", "last"] {
            fs::remove_file(top(&daemon, &old).join("app").join(name)).unwrap();
        }
        let kept = cancelled(&mut daemon, &update);
        let good = Double::with_deltas(update.new.clone(), vec![update.artifact()], Fault::None).unwrap();
        let said = daemon.cli().ok(&["pull", "--delta=only", &good.reference()]);
        assert!(
            said.contains("1 file of the base has changed: fetched 0.4 MB"),
            "{said}"
        );
        assert_eq!(good.sent(), update.delta.bytes.len() as u64 - kept + 400_000);
        is_new(&daemon, &update, &good.reference());
        let links = |name: &str| top(&daemon, &good.reference()).join(name).metadata().unwrap().nlink();
        assert_eq!(["app/first", "app/library", "app/last"].map(links), [1, 2, 1]);
        assert_eq!(kept_delta(&daemon), None);
    });
}

/// Without a delta such a blob is a blob like any other.
#[test]
fn blobs_with_an_index_are_pulled_as_any() {
    ground::run(|g| {
        let daemon = g.daemon();
        for blob in SEEKABLE {
            let update = update_to(blob, &as_made);
            let name = format!("{blob:?}").to_lowercase();
            let reference = g.registry.push("app", &name, &update.new).unwrap();
            daemon.docker().ok(&["pull", "-q", &reference]);
            is_new(&daemon, &update, &reference);
            daemon.docker().ok(&["rmi", &reference]);
        }
    });
}
