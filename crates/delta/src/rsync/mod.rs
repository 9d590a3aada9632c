//! balenaEngine's deltas: librsync's format, between the concatenated tars of the base's layers and one layer's tar.
//!
//! A signature ([`Signature`]) has a rolling sum and a BLAKE2b-256 of each block of 512 bytes of the base. A delta
//! ([`write`]) is copies from the base and literals. It says nothing of the base and nothing of the result, so
//! [`Patched`] checks what it makes against a digest that the caller knows.
//!
//! ```text
//! signature = 72 73 01 37  u32 block  u32 strong   for each block: u32 rolling sum, strong bytes of BLAKE2b
//! delta     = 72 73 02 36  operations  00
//!   01..40        literal of so many bytes       41..44      literal, length in 1, 2, 4, 8 bytes
//!   45..54        copy: place, then length, each in 1, 2, 4 or 8 bytes: 45 + 4 * (size of place) + size of length
//! ```
//!
//! All numbers are big-endian. Source: librsync's behaviour and `rdiff`, with which the tests compare.

mod patch;
mod rolling;
mod signature;
mod writer;

pub use patch::{PatchError, Patched, ReadAt};
pub use signature::Signature;
pub use writer::write;

/// Bytes in a block of the base.
pub const BLOCK: usize = 512;
/// Longest literal.
pub const LITERAL: usize = 16 << 20;

const SIGNATURE_MAGIC: [u8; 4] = [0x72, 0x73, 0x01, 0x37];
const DELTA_MAGIC: [u8; 4] = [0x72, 0x73, 0x02, 0x36];

type Strong = [u8; 32];

fn strong(bytes: &[u8]) -> Strong {
    use blake2::Digest;
    blake2::Blake2b::<blake2::digest::consts::U32>::digest(bytes).into()
}
