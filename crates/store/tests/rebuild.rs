//! Tars of many kinds come back bit for bit from what was unpacked and their tar-split.

mod common;

use common::{Root, root};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

/// Unpacks and rebuilds; says what the layer's directory is.
fn round_trip(at: &Root, story: &str, tar: &[u8]) -> std::path::PathBuf {
    let layer = at.layer(None, tar).unwrap_or_else(|error| panic!("{story}: {error}"));
    let info = at.store.layers.info(layer.chain_id()).unwrap();
    assert_eq!(info.diff_id.0, store::hash::sha256(tar), "{story}");
    let mut rebuilt = Vec::new();
    at.store.layers.write_tar(&layer, &mut rebuilt).unwrap();
    assert!(
        rebuilt == tar,
        "{story}: rebuilt {} bytes of {}",
        rebuilt.len(),
        tar.len()
    );
    at.diff(&layer)
}

fn tree(root: &Path) {
    fs::create_dir_all(
        root.join(
            "a/very/deep/directory/that/is/long/enough/to/need/more/than/one/hundred/bytes/of/a/name/in/a/header",
        ),
    )
    .unwrap();
    let deep = "a/very/deep/directory/that/is/long/enough/to/need/more/than/one/hundred/bytes/of/a/name/in/a/header";
    fs::write(root.join(deep).join("file"), "deep").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("block"), vec![7; 512]).unwrap();
    fs::write(root.join("odd"), vec![7; 70_001]).unwrap();
    fs::write(root.join("ünïcode"), "x").unwrap();
    symlink("l".repeat(150), root.join("long-link")).unwrap();
    fs::hard_link(root.join("odd"), root.join("same")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    for at in [0u64, 1 << 20, 3 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[9; 4096], at).unwrap();
    }
}

#[test]
fn tars_by_gnu_tar() {
    if !root() {
        return;
    }
    let at = Root::new();
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let kinds: [&[&str]; 9] = [
        &["--format=gnu"],
        &["--format=posix"],
        &["--format=oldgnu"],
        &["--format=gnu", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
        &[
            "--format=posix",
            "--xattrs",
            "--pax-option=globexthdr.name=g,comment=hello",
        ],
        &["--format=gnu", "--blocking-factor=200"],
    ];
    for kind in kinds {
        let made = Command::new("tar")
            .args(kind)
            .args(["-C", dir.path().to_str().unwrap(), "-c", "."])
            .output();
        let Ok(made) = made else {
            eprintln!("skipped: no tar");
            return;
        };
        assert!(
            made.status.success(),
            "{kind:?}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let diff = round_trip(&at, &format!("{kind:?}"), &made.stdout);
        for name in ["odd", "sparse", "block"] {
            assert!(
                fs::read(diff.join(name)).unwrap() == fs::read(dir.path().join(name)).unwrap(),
                "{kind:?} {name}"
            );
        }
        if kind.contains(&"-S") {
            let blocks = fs::metadata(diff.join("sparse")).unwrap().blocks();
            assert!(blocks * 512 < 1 << 20, "{kind:?}: holes were filled: {blocks} blocks");
        }
        // Each kind must be a layer of its own, with its own directory.
        at.store.layers.remove_all_unused().unwrap();
    }
}

#[test]
fn tars_by_python() {
    if !root() {
        return;
    }
    let script = r#"
import sys, tarfile, io
kind, out = sys.argv[1], sys.stdout.buffer
def add(t, name, data=b"", **kw):
    i = tarfile.TarInfo(name); i.size = len(data)
    for k, v in kw.items(): setattr(i, k, v)
    t.addfile(i, io.BytesIO(data))
fmt = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}[kind]
t = tarfile.open(fileobj=out, mode="w|", format=fmt, encoding="utf-8", errors="surrogateescape")
add(t, "plain", b"1", mtime=1)
if kind != "ustar":
    add(t, "n" * 200, b"long", mtime=2**35)
    add(t, "ids", b"ids", uid=3000000, gid=3000000)
    add(t, "neg", b"", mtime=-5 if kind == "pax" else 5)
    add(t, b"not\xffutf8".decode("utf-8", "surrogateescape"), b"raw")
if kind == "pax":
    add(t, "frac", b"x", mtime=2293840000.25)
    add(t, "xattr", b"x", pax_headers={"SCHILY.xattr.user.a": "b", "LIBARCHIVE.xattr.user.c": "ZA=="})
add(t, "p" * 90 + "/" + "q" * 90, b"split")
add(t, "dir/", type=tarfile.DIRTYPE, mode=0o755)
add(t, "dir/cont", b"contiguous", type=tarfile.CONTTYPE)
t.close()
"#;
    let at = Root::new();
    for kind in ["pax", "gnu", "ustar"] {
        let Ok(made) = Command::new("python3").args(["-c", script, kind]).output() else {
            eprintln!("skipped: no python3");
            return;
        };
        assert!(
            made.status.success(),
            "{kind}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let diff = round_trip(&at, kind, &made.stdout);
        assert_eq!(fs::read(diff.join("dir/cont")).unwrap(), b"contiguous");
        if kind == "pax" {
            let frac = fs::metadata(diff.join("frac")).unwrap();
            assert_eq!((frac.mtime(), frac.mtime_nsec()), (2_293_840_000, 250_000_000));
            assert_eq!(fs::metadata(diff.join("neg")).unwrap().mtime(), -5);
            assert_eq!(fs::metadata(diff.join("ids")).unwrap().uid(), 3_000_000);
        }
    }
}

#[test]
fn odd_ends() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = common::Tar::new().file("f", "content").done();
    let body = &tar[..tar.len() - 1024];
    for (story, bytes) in [
        ("no trailer", body.to_vec()),
        ("one zero block", [body, &[0; 512]].concat()),
        ("much padding", [body, &[0; 200_000]].concat()),
        ("rubbish behind the end", [&tar[..], b"rubbish"].concat()),
        ("no padding behind the last file", body[..512 + 7].to_vec()),
        ("nothing at all", Vec::new()),
        ("only a trailer", vec![0; 1024]),
    ] {
        round_trip(&at, story, &bytes);
    }
}

#[test]
fn a_changed_file_is_noticed() {
    if !root() {
        return;
    }
    let at = Root::new();
    let layer = at
        .layer(None, &common::Tar::new().file("etc/f", "content").done())
        .unwrap();
    fs::write(at.diff(&layer).join("etc/f"), "c0ntent").unwrap();
    let error = at.store.layers.write_tar(&layer, &mut Vec::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("file integrity checksum failed for \"etc/f\""),
        "{error}"
    );
}
