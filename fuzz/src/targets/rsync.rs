//! balenaEngine's deltas.

use super::{Target, noise};
use delta::rsync::{self, Patched, Signature};
use oci::digest::Digest;

pub const TARGET: Target = Target {
    name: "rsync",
    run,
    seeds,
};

const LIMIT: u64 = 1 << 20;

fn run(bytes: &[u8]) {
    let base = noise(1, 5000);
    let wanted = Digest::sha256([0; 32]);
    let Ok(mut patched) = Patched::new(bytes, &base[..], base.len() as u64, LIMIT, wanted) else {
        return;
    };
    let (mut buffer, mut total) = ([0; 4096], 0u64);
    loop {
        match patched.read_some(&mut buffer) {
            Ok(0) => panic!("no result has the digest of zeros"),
            Ok(n) => total += n as u64,
            Err(_) => break,
        }
        assert!(total <= LIMIT, "more than was allowed");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let base = noise(1, 5000);
    let mut edited = base.clone();
    edited.splice(700..710, *b"something else");
    let moved = [&base[2500..], &base[..2500]].concat();
    let signature = Signature::read(&mut &base[..], base.len() as u64).expect("memory can be read");
    [Vec::new(), base.clone(), edited, moved, noise(2, 3000)]
        .iter()
        .map(|target| {
            let mut out = Vec::new();
            rsync::write(&signature, &mut &target[..], &mut out).expect("memory takes it");
            out
        })
        .collect()
}
