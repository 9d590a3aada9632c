//! Docker's bolt databases, as a data root may hold them.

use super::Target;
use oci::bolt::Database;

pub const TARGET: Target = Target {
    name: "bolt",
    run,
    seeds,
};

/// Sets the checksum of a meta page right, which mutation does not.
fn seal(page: &mut [u8]) {
    if let Some(meta) = page.get_mut(16..80) {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in &meta[..56] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        meta[56..].copy_from_slice(&hash.to_le_bytes());
    }
}

fn run(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let bytes = &bytes[..];
    let Ok(database) = Database::open(bytes) else { return };
    for name in ["libnetwork", "volumes", ""] {
        if let Ok(Some(pairs)) = database.bucket(name) {
            let total: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            // Keys and values may lie over each other, but each page is seen once.
            assert!(pairs.len() <= bytes.len() && total <= bytes.len().saturating_mul(bytes.len()));
        }
    }
}

/// A database with one bucket, on pages of 512 bytes, the checksums of its meta pages right.
fn sample() -> Vec<u8> {
    let mut pages = vec![vec![0u8; 512]; 4];
    let put = |page: &mut Vec<u8>, at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    for (number, page) in pages.iter_mut().enumerate().take(2) {
        put(page, 0, &(number as u64).to_le_bytes());
        put(page, 8, &4u16.to_le_bytes());
        put(page, 16, &0xED0C_DAEDu32.to_le_bytes());
        put(page, 20, &2u32.to_le_bytes());
        put(page, 24, &512u32.to_le_bytes());
        put(page, 32, &2u64.to_le_bytes());
        put(page, 48, &3u64.to_le_bytes());
        put(page, 56, &4u64.to_le_bytes());
        put(page, 64, &(number as u64).to_le_bytes());
        seal(page);
    }
    let leaf = |page: &mut Vec<u8>, at: usize, flags: u32, key: &[u8], value: &[u8]| {
        put(page, at + 8, &2u16.to_le_bytes());
        put(page, at + 10, &1u16.to_le_bytes());
        put(page, at + 16, &flags.to_le_bytes());
        put(page, at + 20, &16u32.to_le_bytes());
        put(page, at + 24, &(key.len() as u32).to_le_bytes());
        put(page, at + 28, &(value.len() as u32).to_le_bytes());
        put(page, at + 32, key);
        put(page, at + 32 + key.len(), value);
    };
    let mut inner = vec![0u8; 64];
    leaf(&mut inner, 16, 0, b"key", b"value");
    let inner = inner[..64].to_vec();
    put(&mut pages[2], 0, &2u64.to_le_bytes());
    leaf(&mut pages[2], 0, 1, b"volumes", &inner);
    pages.concat()
}

fn seeds() -> Vec<Vec<u8>> {
    vec![sample()]
}
