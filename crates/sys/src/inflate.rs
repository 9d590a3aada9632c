//! zlib's inflate, with what `flate2` keeps to itself: where deflate blocks end, to the bit, and the window there.
//!
//! Bytes, bits and window at the end of a block are all that is needed to begin decompressing there another day
//! (zlib's `examples/zran.c`). The code behind it is `zlib-rs`, the same that `flate2` runs on.

use libz_rs_sys as z;
use std::io::{Error, ErrorKind, Result};

/// Bytes that deflate can refer back to.
pub const WINDOW: usize = 32 * 1024;

const GZIP: i32 = 15 + 16;
const RAW: i32 = -15;

/// A stream being inflated.
pub struct Inflate(Box<z::z_stream>);

/// How far a step came.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub read: usize,
    pub written: usize,
    pub stop: Stop,
}

/// Where a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somewhere: the input or the room for output is used up.
    Within,
    /// Between two blocks, with so many bits of what was read still to be used (0 to 63).
    Between(u8),
    /// At the end of the member.
    End,
}

// SAFETY: the stream owns its state, which is plain memory that no other thread knows of.
unsafe impl Send for Inflate {}

impl Inflate {
    /// Starts at a gzip header.
    pub fn gzip() -> Result<Inflate> {
        Inflate::start(GZIP)
    }

    /// Starts between two blocks: with the window that was there, and the last byte read if `bits` of it are to come.
    /// The trailer of the member is not part of such a stream.
    pub fn between(bits: u8, byte: u8, window: &[u8]) -> Result<Inflate> {
        if bits > 7 || window.len() > WINDOW {
            return Err(invalid("no place between two deflate blocks"));
        }
        let mut inflate = Inflate::start(RAW)?;
        let length = z::uInt::try_from(window.len()).map_err(|_| invalid("window too large"))?;
        // SAFETY: the stream was initialised by `start`; the window is readable for `length` bytes and is copied.
        let done = unsafe {
            let primed = match bits {
                0 => z::Z_OK,
                bits => z::inflatePrime(&mut *inflate.0, bits.into(), i32::from(byte >> (8 - bits))),
            };
            match (primed, length) {
                (z::Z_OK, 0) => z::Z_OK,
                (z::Z_OK, _) => z::inflateSetDictionary(&mut *inflate.0, window.as_ptr(), length),
                (other, _) => other,
            }
        };
        match done {
            z::Z_OK => Ok(inflate),
            _ => Err(invalid("no place between two deflate blocks")),
        }
    }

    fn start(window_bits: i32) -> Result<Inflate> {
        let mut stream = Box::<z::z_stream>::default();
        let size = i32::try_from(size_of::<z::z_stream>()).map_err(|_| invalid("zlib"))?;
        // SAFETY: the stream is a valid one with default allocators, and lives in a box, so that it never moves.
        let done = unsafe { z::inflateInit2_(&mut *stream, window_bits, z::zlibVersion(), size) };
        match done {
            z::Z_OK => Ok(Inflate(stream)),
            _ => Err(Error::from(ErrorKind::OutOfMemory)),
        }
    }

    /// Inflates until the input or the output is used up, or a block ends.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step> {
        let most = |length: usize| z::uInt::try_from(length).unwrap_or(z::uInt::MAX);
        let (room_in, room_out) = (most(input.len()), most(output.len()));
        self.0.next_in = input.as_ptr().cast_mut();
        self.0.avail_in = room_in;
        self.0.next_out = output.as_mut_ptr();
        self.0.avail_out = room_out;
        // SAFETY: the stream was initialised by `start`; input and output are valid for the lengths given, and
        // nothing keeps the pointers after the call.
        let done = unsafe { z::inflate(&mut *self.0, z::Z_BLOCK) };
        let used = |room: z::uInt, left: z::uInt| usize::try_from(room - left).unwrap_or(0);
        let (read, written) = (used(room_in, self.0.avail_in), used(room_out, self.0.avail_out));
        let state = self.0.data_type;
        let stop = match done {
            z::Z_STREAM_END => Stop::End,
            z::Z_OK | z::Z_BUF_ERROR => match (state & 0xc0 == 0x80, u8::try_from(state & 0x3f)) {
                (true, Ok(bits)) => Stop::Between(bits),
                _ => Stop::Within,
            },
            z::Z_MEM_ERROR => return Err(Error::from(ErrorKind::OutOfMemory)),
            _ => return Err(invalid("corrupt gzip stream")),
        };
        Ok(Step { read, written, stop })
    }

    /// The last bytes that came out, as far as what follows can refer to them.
    pub fn window(&self) -> Vec<u8> {
        let mut window = vec![0; WINDOW];
        let mut length: z::uInt = 0;
        // SAFETY: the stream was initialised by `start`; the buffer has room for the largest window there is. zlib
        // declares the stream mutable, and only reads it.
        let done =
            unsafe { z::inflateGetDictionary((&raw const *self.0).cast_mut(), window.as_mut_ptr(), &mut length) };
        let length = if done == z::Z_OK {
            usize::try_from(length).unwrap_or(0)
        } else {
            0
        };
        window.truncate(length);
        window
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: the stream was initialised by `start`, and this is the last use.
        unsafe { z::inflateEnd(&mut *self.0) };
    }
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}
