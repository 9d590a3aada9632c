//! Random names and identifiers, from the kernel.

use std::fs::File;
use std::io::Read;

use crate::error::{Context, Result};

pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut source = File::open("/dev/urandom").what(|| "open /dev/urandom".to_owned())?;
    source.read_exact(&mut bytes).what(|| "read /dev/urandom".to_owned())?;
    Ok(bytes)
}

/// 64 hex digits, as networks and endpoints have.
pub fn id() -> Result<String> {
    Ok(hex(&bytes::<32>()?))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
