//! The hash of a blob on its way: our default, and the door for one whose state can be written down.

use oci::digest::Digest;
use ring::digest::{Context, SHA256};

/// A SHA-256 in progress.
///
/// A pull that is to go on after a restart supplies one that [`snapshot`](HashState::snapshot)s.
pub trait HashState: Send {
    fn update(&mut self, bytes: &[u8]);

    /// The hash of everything so far; the state itself goes on.
    fn finish(&self) -> [u8; 32];

    /// The state as bytes that its maker can read again, if it can be written down.
    fn snapshot(&self) -> Option<Vec<u8>> {
        None
    }
}

/// SHA-256 by `ring`, which has assembly for every CPU we run on. Cannot be written down.
pub struct Sha256(Context);

impl Sha256 {
    pub fn new() -> Sha256 {
        Sha256(Context::new(&SHA256))
    }

    /// The digest of bytes at hand.
    pub fn digest(bytes: &[u8]) -> Digest {
        let mut hash = Sha256::new();
        hash.update(bytes);
        Digest::sha256(hash.finish())
    }
}

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256::new()
    }
}

impl HashState for Sha256 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> [u8; 32] {
        let hash = self.0.clone().finish();
        let mut out = [0; 32];
        out.copy_from_slice(hash.as_ref());
        out
    }
}
