//! Random names: layer directories, their short links, temporary files.

use ring::rand::{SecureRandom, SystemRandom};
use std::sync::OnceLock;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's random source does not fail once it is seeded, which is long before a daemon starts.
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the kernel gives random bytes");
    bytes
}

/// 64 hex digits, as Docker names layer directories (cache ID, mount ID).
pub fn long() -> String {
    hex(&random::<32>())
}

/// A unique ending for temporary names, which [`is_ours`] knows as long as this process lives.
pub fn temporary() -> String {
    format!("-{}-{}", process(), hex(&random::<4>()))
}

/// Says if a temporary name was made by this process, so may be in use.
pub fn is_ours(name: &str) -> bool {
    name.contains(process())
}

fn process() -> &'static str {
    static PROCESS: OnceLock<String> = OnceLock::new();
    PROCESS.get_or_init(|| hex(&random::<6>()))
}

/// 26 of A-Z and 2-7, as Docker names the short links in `overlay2/l`.
pub fn link() -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    random::<26>()
        .iter()
        .map(|byte| char::from(DIGITS[usize::from(byte & 31)]))
        .collect()
}

/// Says if a text is what [`long`] makes.
pub fn is_long(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}
