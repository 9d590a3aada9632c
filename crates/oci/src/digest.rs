//! Content digests: `sha256:` and 64 lower-case hex digits, checked once and then carried as a type.
//!
//! Only sha256 is accepted: it is what Docker's image and layer stores are keyed by, and a second algorithm would
//! be a second thing to attack. Source: OCI image spec, "Digests".

use json::{Deserialize, Reader, Serialize, Writer};
use std::fmt;

/// A sha256 digest in its text form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

const PREFIX: &str = "sha256:";

/// Says why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("invalid checksum digest format: {0:?}")]
    Format(String),
    #[error("unsupported digest algorithm: {0:?}")]
    Algorithm(String),
    #[error("invalid checksum digest length: {0:?}")]
    Length(String),
}

impl Digest {
    /// Parses `sha256:<64 lower-case hex digits>`.
    pub fn parse(text: &str) -> Result<Digest, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::Format(clip(text)));
        };
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(clip(algorithm)));
        }
        if hex.len() != 64 {
            return Err(DigestError::Length(clip(text)));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Format(clip(text)));
        }
        Ok(Digest(text.into()))
    }

    /// Makes the digest of a hash that was already computed.
    pub fn sha256(hash: [u8; 32]) -> Digest {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(PREFIX.len() + 64);
        text.push_str(PREFIX);
        for byte in hash {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Digest(text.into())
    }

    /// Makes the digest of 64 hex digits, as file names in Docker's stores carry them.
    pub fn from_hex(hex: &str) -> Result<Digest, DigestError> {
        Digest::parse(&format!("{PREFIX}{hex}"))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The first 12 hex digits, as people see them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// Always `sha256`.
    pub fn algorithm(&self) -> &str {
        "sha256"
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn clip(text: &str) -> String {
    text.chars().take(128).collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn write(&self, writer: &mut Writer) {
        writer.text(&self.0);
    }
}

impl Deserialize for Digest {
    fn read(reader: &mut Reader<'_>) -> json::Result<Digest> {
        Digest::parse(&reader.string("a digest")?).map_err(|e| json::Error::custom(e.to_string()))
    }
}

impl std::str::FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        Digest::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_sha256_in_lower_case() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Digest::parse(&format!("sha256:{hex}")).unwrap();
        assert_eq!(digest.hex(), hex);
        assert_eq!(digest.short(), "e3b0c44298fc");
        for bad in [
            hex.to_string(),
            format!("sha512:{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}/", &hex[1..]),
            "sha256:".into(),
            String::new(),
        ] {
            assert!(Digest::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_of_bytes() {
        let mut hash = [0u8; 32];
        hash[0] = 0xab;
        assert!(Digest::sha256(hash).as_str().starts_with("sha256:ab00"));
    }
}
