//! balenaEngine's format against `rdiff` and against deltas that balenaEngine made.

use delta::rsync::{self, PatchError, Patched, Signature};
use oci::digest::Digest;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

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

fn sha256(bytes: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::sha256(hash.as_ref().try_into().unwrap())
}

fn make(base: &[u8], target: &[u8]) -> Vec<u8> {
    let signature = Signature::read(&mut &base[..], base.len() as u64).unwrap();
    let mut delta = Vec::new();
    let length = rsync::write(&signature, &mut &target[..], &mut delta).unwrap();
    assert_eq!(length, delta.len() as u64);
    delta
}

fn apply(base: &[u8], delta: &[u8], wanted: &Digest) -> Result<Vec<u8>, PatchError> {
    let mut patched = Patched::new(delta, base, base.len() as u64, 1 << 30, wanted.clone())?;
    let (mut out, mut buffer) = (Vec::new(), vec![0; 10_000]);
    loop {
        match patched.read_some(&mut buffer)? {
            0 => return Ok(out),
            n => out.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Bases and targets that have every kind of match: none, many, equal blocks, the shorter last block, far moves.
fn pairs() -> Vec<(Vec<u8>, Vec<u8>)> {
    let (a, b, c) = (noise(1, 512), noise(2, 512), noise(3, 512));
    let tail = noise(4, 100);
    let base = [&a[..], &b, &a, &c, &tail].concat();
    let long = noise(5, 300_000);
    let mut edited = long.clone();
    for at in (0..edited.len()).step_by(9_973) {
        edited[at] ^= 1;
    }
    edited.splice(1_000..1_000, noise(6, 777));
    edited.drain(200_000..200_333);
    let moved = [&long[150_000..], &[0; 5_000][..], &long[..150_000]].concat();
    vec![
        (Vec::new(), Vec::new()),
        (base.clone(), Vec::new()),
        (base.clone(), base.clone()),
        (base.clone(), [&noise(7, 7)[..], &a, &noise(8, 5), &b, &tail].concat()),
        (base.clone(), [&c[..], &c, &tail[..99]].concat()),
        (vec![0; 10_000], vec![0; 7_777]),
        (long.clone(), edited),
        (long.clone(), moved),
        (long.clone(), noise(9, 70_000)),
        (long, noise(10, 64)),
    ]
}

#[test]
fn deltas_come_back() {
    for (base, target) in pairs() {
        let delta = make(&base, &target);
        assert!(apply(&base, &delta, &sha256(&target)).unwrap() == target);
        assert!(delta.len() <= target.len() + target.len() / 512 + 16);
    }
}

#[test]
fn a_wrong_base_or_target_is_found() {
    let (base, target) = pairs().swap_remove(6);
    let delta = make(&base, &target);
    let mut changed = base.clone();
    changed[250_000] ^= 4;
    let wrong = apply(&changed, &delta, &sha256(&target));
    assert!(matches!(wrong, Err(PatchError::WrongResult { .. })));
    assert!(matches!(
        apply(&base, &delta, &sha256(b"")),
        Err(PatchError::WrongResult { .. })
    ));
    let limited = Patched::new(&delta[..], &base[..], base.len() as u64, 1000, sha256(&target)).unwrap();
    let error = std::io::copy(&mut { limited }, &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("more than 1000 bytes"), "{error}");
    let short = apply(&base[..1000], &delta, &sha256(&target));
    assert!(matches!(short, Err(PatchError::Format { .. })));
}

#[test]
fn damaged_deltas_are_refused() {
    let (base, target) = pairs().swap_remove(3);
    let (delta, wanted) = (make(&base, &target), sha256(&target));
    for end in 0..delta.len() {
        assert!(apply(&base, &delta[..end], &wanted).is_err(), "cut at {end}");
    }
    for bit in 0..delta.len() * 8 {
        let mut changed = delta.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(apply(&base, &changed, &wanted).is_err(), "bit {bit}");
    }
    assert!(apply(&base, &[&delta[..], b"x"].concat(), &wanted).is_err());
    let head = [0x72, 0x73, 2, 0x36];
    for operations in [
        &[0x55][..],
        &[0xff],
        &[0x41, 0, 0],
        &[0x43, 0xff, 0xff, 0xff, 0xff],
        &[0x44, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x45, 0, 0, 0],
        &[
            0x54, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 2,
        ],
    ] {
        let delta = [&head[..], operations].concat();
        assert!(matches!(apply(&base, &delta, &wanted), Err(PatchError::Format { .. })));
    }
}

/// Operations at random, mutated: whatever comes of it, no panic and no more memory than the buffers.
#[test]
fn mutations_do_no_harm() {
    let (base, target) = pairs().swap_remove(6);
    let (delta, wanted) = (make(&base, &target), sha256(&target));
    let random = noise(11, 4 * 3_000);
    for chunk in random.chunks_exact(4) {
        let mut changed = delta[..delta.len().min(6_000)].to_vec();
        let at = usize::from(u16::from_le_bytes([chunk[0], chunk[1]])) % changed.len();
        changed[at] = chunk[2];
        if chunk[3] & 1 == 0 {
            changed.truncate(at + 20);
        }
        let _ = apply(&base, &changed, &wanted);
    }
}

fn has_rdiff() -> bool {
    let found = Command::new("rdiff").arg("--version").output().is_ok();
    if !found {
        println!("skipped: rdiff is not installed");
    }
    found
}

fn rdiff(arguments: &[&str], files: &[&Path]) {
    let status = Command::new("rdiff")
        .arg("-f")
        .args(arguments)
        .args(files)
        .status()
        .unwrap();
    assert!(status.success(), "{arguments:?}");
}

#[test]
fn rdiff_makes_the_same_and_applies_ours() {
    if !has_rdiff() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (number, (base, target)) in pairs().into_iter().enumerate() {
        let (base_path, target_path, theirs, ours, result) = (
            path("base"),
            path("target"),
            path("theirs"),
            path("ours"),
            path("result"),
        );
        std::fs::write(&base_path, &base).unwrap();
        std::fs::write(&target_path, &target).unwrap();
        let parameters = ["-H", "blake2", "-R", "rollsum", "-b", "512", "-S", "32", "signature"];
        rdiff(&parameters, &[&base_path, &path("signature")]);
        let mut signature = Vec::new();
        let read = Signature::read(&mut &base[..], 0).unwrap();
        read.write(&mut signature).unwrap();
        assert!(std::fs::read(path("signature")).unwrap() == signature, "pair {number}");
        rdiff(&["delta"], &[&path("signature"), &target_path, &theirs]);
        let (theirs, delta) = (std::fs::read(&theirs).unwrap(), make(&base, &target));
        assert!(apply(&base, &theirs, &sha256(&target)).unwrap() == target);
        // rdiff cuts literals, of an empty base's delta even more: otherwise the deltas are equal to the last bit.
        if !base.is_empty() && number != 8 {
            assert!(theirs == delta, "pair {number}");
        }
        std::fs::write(&ours, &delta).unwrap();
        rdiff(&["patch"], &[&base_path, &ours, &result]);
        assert!(std::fs::read(&result).unwrap() == target);
    }
}

/// A layer's tar, by its number, of a docker-save archive; or the file `name` within it.
fn layers(archive: &Path) -> Vec<Vec<u8>> {
    let open = || {
        let gzip = flate2::read::MultiGzDecoder::new(std::fs::File::open(archive).unwrap());
        oci::tar::Reader::new(gzip)
    };
    let content = |wanted: &str| {
        let mut tar = open();
        while let Some(entry) = tar.next_entry().unwrap() {
            if entry.name == wanted.as_bytes() {
                let mut content = Vec::new();
                tar.read_to_end(&mut content).unwrap();
                return content;
            }
        }
        panic!("{} has no {wanted}", archive.display());
    };
    let manifest: serde_json::Value = serde_json::from_slice(&content("manifest.json")).unwrap();
    let names = manifest[0]["Layers"].as_array().unwrap();
    names.iter().map(|name| content(name.as_str().unwrap())).collect()
}

fn delta_of(archive: &Path) -> Vec<u8> {
    let layer = layers(archive).swap_remove(0);
    let mut tar = oci::tar::Reader::new(&layer[..]);
    let entry = tar.next_entry().unwrap().unwrap();
    assert_eq!(entry.name, b"delta");
    let mut delta = Vec::new();
    tar.read_to_end(&mut delta).unwrap();
    delta
}

#[test]
fn as_balena_engine_makes_and_applies_them() {
    let vectors: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../../shared/vectors/balena-delta"]
        .iter()
        .collect();
    if !vectors.exists() {
        println!("skipped: {} is not there", vectors.display());
        return;
    }
    let base = layers(&vectors.join("busybox-1.24.tar.gz")).concat();
    let target = layers(&vectors.join("busybox-1.29.tar.gz")).swap_remove(0);
    let wanted = sha256(&target);
    assert_eq!(&wanted.hex()[..8], "23bc2b70");
    let delta = delta_of(&vectors.join("busybox-delta.tar.gz"));
    assert!(apply(&base, &delta, &wanted).unwrap() == target);
    assert!(make(&base, &target) == delta, "ours is not theirs");
    let bad = delta_of(&vectors.join("busybox-delta-bad-magic.tar.gz"));
    assert!(matches!(
        apply(&base, &bad, &wanted),
        Err(PatchError::Format { at: 0, .. })
    ));
    let cut = delta_of(&vectors.join("busybox-delta-truncated.tar.gz"));
    assert!(matches!(
        apply(&base, &cut, &wanted),
        Err(PatchError::Format {
            why: "unexpected end",
            ..
        })
    ));
}
