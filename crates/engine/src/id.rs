//! Identifiers: 64 hex digits from the kernel's random source, and the parts of them that people type.

use crate::error::{Context, Result};
use std::fmt;
use std::io::Read;

/// A container's identifier.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Box<str>);

impl ContainerId {
    /// Makes a new one.
    pub fn random() -> Result<ContainerId> {
        Ok(ContainerId(random_hex(32)?.into()))
    }

    /// Takes 64 lower-case hex digits; a directory of another name is no container.
    pub fn parse(text: &str) -> Option<ContainerId> {
        oci::reference::is_id(text).then(|| ContainerId(text.into()))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12, as people see them and as the hostname defaults to.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Random bytes as hex digits, two for each byte.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0u8; bytes];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut buffer))
        .context("read /dev/urandom")?;
    let mut text = String::with_capacity(bytes * 2);
    for byte in buffer {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble is a digit"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble is a digit"));
    }
    Ok(text)
}
