//! Writes a delta, as `rdiff` does: a block is looked for at every byte, the first that fits is taken, copies that
//! continue each other become one, and the target's last bytes may fit the base's last, shorter block.

use super::rolling::Rolling;
use super::signature::{Signature, fill};
use super::{BLOCK, DELTA_MAGIC, LITERAL, strong};
use std::io::{self, Read, Write};

/// Writes the delta that makes `target` from a signature's base, and returns its length. Memory: a literal of
/// [`LITERAL`] bytes, if there is one so long.
pub fn write(signature: &Signature, target: &mut dyn Read, out: &mut dyn Write) -> io::Result<u64> {
    write_with(signature, target, out, LITERAL)
}

/// As [`write`], with literals of at most `literal` bytes.
pub(super) fn write_with(
    signature: &Signature,
    target: &mut dyn Read,
    out: &mut dyn Write,
    literal: usize,
) -> io::Result<u64> {
    let mut writer = Writer {
        out,
        written: 0,
        copy: None,
    };
    writer.put(&DELTA_MAGIC)?;
    // From `start` on bytes are for a literal; the window is at `scan`.
    let (mut buffer, mut start, mut scan) = (Vec::new(), 0usize, 0usize);
    let mut ended = false;
    let mut sum: Option<Rolling> = None;
    loop {
        if !ended && buffer.len() <= scan + BLOCK {
            buffer.drain(..start);
            scan -= start;
            start = 0;
            let before = buffer.len();
            buffer.resize(before + 64 * 1024, 0);
            let n = fill(target, &mut buffer[before..])?;
            buffer.truncate(before + n);
            ended = n < 64 * 1024;
        }
        if scan == buffer.len() {
            break;
        }
        let end = buffer.len().min(scan + BLOCK);
        let window = &buffer[scan..end];
        let rolling = *sum.get_or_insert_with(|| Rolling::of(window));
        if let Some(place) = signature.find(rolling.value(), || strong(window)) {
            writer.literal(&buffer[start..scan])?;
            writer.copy(place, window.len() as u64)?;
            (scan, start, sum) = (end, end, None);
            continue;
        }
        match buffer.get(end) {
            Some(&next) => sum.as_mut().expect("it was just set").rotate(buffer[scan], next),
            None => sum.as_mut().expect("it was just set").roll_out(buffer[scan]),
        }
        if scan - start == literal {
            writer.literal(&buffer[start..scan])?;
            start = scan;
        }
        scan += 1;
    }
    writer.literal(&buffer[start..])?;
    writer.end_copy()?;
    writer.put(&[0])?;
    Ok(writer.written)
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    written: u64,
    /// Place and length of a copy that may go on.
    copy: Option<(u64, u64)>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn literal(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.end_copy()?;
        match bytes.len() {
            length @ 1..=64 => self.put(&[length as u8])?,
            length => {
                let (size, number) = number(length as u64);
                self.put(&[0x41 + size])?;
                self.put(&number[8 - (1 << size)..])?;
            }
        }
        self.put(bytes)
    }

    fn copy(&mut self, place: u64, length: u64) -> io::Result<()> {
        if let Some((start, before)) = self.copy
            && start + before == place
        {
            self.copy = Some((start, before + length));
            return Ok(());
        }
        self.end_copy()?;
        self.copy = Some((place, length));
        Ok(())
    }

    fn end_copy(&mut self) -> io::Result<()> {
        let Some((place, length)) = self.copy.take() else {
            return Ok(());
        };
        let ((place_size, place), (length_size, length)) = (number(place), number(length));
        self.put(&[0x45 + 4 * place_size + length_size])?;
        self.put(&place[8 - (1 << place_size)..])?;
        self.put(&length[8 - (1 << length_size)..])
    }
}

/// A number's size as a power of two, and its eight bytes.
fn number(value: u64) -> (u8, [u8; 8]) {
    let size = match value {
        0..0x100 => 0,
        0x100..0x1_0000 => 1,
        0x1_0000..0x1_0000_0000 => 2,
        _ => 3,
    };
    (size, value.to_be_bytes())
}
