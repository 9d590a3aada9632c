//! Headers of entries, as fields that are predicted: written and read here, side by side.
//!
//! Each field of a header block is taken without its trailing zeros. The prediction is the block of the base's entry
//! that the entry is said to be; without one, the last block of the same sort (directory or not) in the target.
//! The size field is predicted from the content's size and the checksum is computed, so mostly nothing is left to say.

use crate::error::Error;
use crate::stream::{Source, Stream, Streams};
use oci::tar::BLOCK;

/// Place and width of a field.
type Place = (usize, usize);

const NAME: Place = (0, 100);
const SIZE: Place = (124, 12);
const MTIME: Place = (136, 12);
const CHECKSUM: Place = (148, 8);
const LINK: Place = (157, 100);

/// All fields but name and link, in the order of their bits in the mask of changes: from [`FIRST_FIELD`] on.
const FIELDS: [Place; 13] = [
    (156, 1),   // type
    (100, 8),   // mode
    (108, 8),   // uid
    (116, 8),   // gid
    (265, 32),  // user
    (297, 32),  // group
    (345, 155), // prefix
    SIZE,
    MTIME,
    (257, 8), // magic and version
    (329, 8), // major
    (337, 8), // minor
    (500, 12),
];
const TIME_BIT: u64 = 1 << 0;
const NAME_BIT: u64 = 1 << 1;
const LINK_BIT: u64 = 1 << 2;
const FIRST_FIELD: u32 = 3;
const CHECKSUM_BIT: u64 = 1 << 16;

pub(crate) type Block = [u8; BLOCK];

/// What both sides remember of the target's headers so far.
pub(crate) struct Heads {
    /// The last block that was a directory's, and the last that was none.
    last: [Block; 2],
    name: Vec<u8>,
    link: Vec<u8>,
    time: i64,
}

impl Heads {
    pub fn new() -> Heads {
        let mut block = [0; BLOCK];
        for (at, text) in [
            (100, &b"0000644"[..]),
            (108, b"0000000"),
            (116, b"0000000"),
            (156, b"0"),
        ] {
            block[at..at + text.len()].copy_from_slice(text);
        }
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[136..147].copy_from_slice(b"00000000000");
        block[329..336].copy_from_slice(b"0000000");
        block[337..344].copy_from_slice(b"0000000");
        let mut directory = block;
        directory[156] = b'5';
        directory[100..107].copy_from_slice(b"0000755");
        Heads {
            last: [block, directory],
            name: Vec::new(),
            link: Vec::new(),
            time: 0,
        }
    }

    /// Writes a block whose content has `size` bytes.
    pub fn write(
        &mut self,
        block: &Block,
        base: Option<&Block>,
        size: u64,
        out: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let name = field(block, NAME);
        let is_directory = name.ends_with(b"/");
        let mut guess = *base.unwrap_or(&self.last[usize::from(is_directory)]);
        put_octal(&mut guess, SIZE, size);
        let mut mask = 0;
        let time = octal(block, MTIME);
        // A base's time is either kept or tells nothing.
        let new_time = match time {
            Some(time) if field(block, MTIME) != field(&guess, MTIME) => Some(time),
            _ => None,
        };
        if let Some(time) = new_time {
            mask |= TIME_BIT;
            put_octal(&mut guess, MTIME, time);
        }
        if base.is_none() || name != field(&guess, NAME) {
            mask |= NAME_BIT;
        }
        if field(block, LINK) != field(&guess, LINK) {
            mask |= LINK_BIT;
        }
        for (bit, &place) in FIELDS.iter().enumerate() {
            if field(block, place) != field(&guess, place) {
                mask |= 1 << (bit as u32 + FIRST_FIELD);
            }
        }
        if block[CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1] != checksum(block) {
            mask |= CHECKSUM_BIT;
        }
        out.number(Stream::Fields, mask);
        if mask & NAME_BIT != 0 {
            write_text(&self.name, name, out)?;
        }
        if let Some(time) = new_time {
            out.signed(Stream::Times, (time as i64).wrapping_sub(self.time));
            self.time = time as i64;
        }
        if mask & LINK_BIT != 0 {
            write_text(&self.link, field(block, LINK), out)?;
        }
        for (bit, &place) in FIELDS.iter().enumerate() {
            if mask & 1 << (bit as u32 + FIRST_FIELD) != 0 {
                write_text(b"", field(block, place), out)?;
            }
        }
        if mask & CHECKSUM_BIT != 0 {
            write_text(b"", field(block, CHECKSUM), out)?;
        }
        self.remember(block);
        Ok(())
    }

    /// Reads a block. `size` tells the content's size; it is asked for after the mask and the name are read.
    pub fn read(&mut self, base: Option<&Block>, size: u64, from: &mut Source<'_>) -> Result<Block, Error> {
        let mask = from.number(Stream::Fields)?;
        if mask >= CHECKSUM_BIT << 1 || (base.is_none() && mask & NAME_BIT == 0) {
            return Err(Error::Format("a header has unknown fields"));
        }
        let name = match mask & NAME_BIT {
            0 => None,
            _ => Some(read_text(&self.name, NAME, from)?),
        };
        let is_directory = name.as_ref().is_some_and(|name| name.ends_with(b"/"));
        let mut block = *base.unwrap_or(&self.last[usize::from(is_directory)]);
        if let Some(name) = name {
            put(&mut block, NAME, &name);
        }
        put_octal(&mut block, SIZE, size);
        if mask & TIME_BIT != 0 {
            self.time = self.time.wrapping_add(from.signed(Stream::Times)?);
            put_octal(&mut block, MTIME, self.time as u64);
        }
        if mask & LINK_BIT != 0 {
            let link = read_text(&self.link, LINK, from)?;
            put(&mut block, LINK, &link);
        }
        for (bit, &place) in FIELDS.iter().enumerate() {
            if mask & 1 << (bit as u32 + FIRST_FIELD) != 0 {
                let text = read_text(b"", place, from)?;
                put(&mut block, place, &text);
            }
        }
        let sum = match mask & CHECKSUM_BIT {
            0 => checksum(&block).to_vec(),
            _ => read_text(b"", CHECKSUM, from)?,
        };
        put(&mut block, CHECKSUM, &sum);
        self.remember(&block);
        Ok(block)
    }

    fn remember(&mut self, block: &Block) {
        self.name.clear();
        self.name.extend_from_slice(field(block, NAME));
        if !field(block, LINK).is_empty() {
            self.link.clear();
            self.link.extend_from_slice(field(block, LINK));
        }
        let which = usize::from(field(block, NAME).ends_with(b"/"));
        self.last[which] = *block;
        put(&mut self.last[which], LINK, b"");
    }
}

/// A field without its trailing zeros.
fn field(block: &Block, (at, width): Place) -> &[u8] {
    let field = &block[at..at + width];
    let end = field.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &field[..end]
}

fn put(block: &mut Block, (at, width): Place, value: &[u8]) {
    block[at..at + value.len()].copy_from_slice(value);
    block[at + value.len()..at + width].fill(0);
}

/// The value of a field that is written as [`put_octal`] would.
fn octal(block: &Block, place: Place) -> Option<u64> {
    let text = std::str::from_utf8(field(block, place)).ok()?;
    let value = u64::from_str_radix(text, 8).ok()?;
    let mut same = [0; BLOCK];
    put_octal(&mut same, place, value);
    (field(&same, place) == text.as_bytes()).then_some(value)
}

/// Writes a number as Go's and GNU's tars do: zeros in front, NUL at the end. One too large leaves the field empty.
fn put_octal(block: &mut Block, (at, width): Place, value: u64) {
    let digits = width - 1;
    let field = &mut block[at..at + width];
    field.fill(0);
    if value >> (3 * digits) == 0 {
        octal_digits(value, &mut field[..digits]);
    }
}

/// As `format!("{value:0…o}")`, which every header would wait for twice.
fn octal_digits(mut value: u64, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

fn checksum(block: &Block) -> [u8; 8] {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let sum = sum(block) - sum(&block[CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1]) + 8 * u32::from(b' ');
    let mut text = *b"000000\0 ";
    octal_digits(sum.into(), &mut text[..6]);
    text
}

/// Writes a text by what it has in common with another.
fn write_text(before: &[u8], text: &[u8], out: &mut Streams<'_>) -> Result<(), Error> {
    let common = before.iter().zip(text).take_while(|(one, other)| one == other).count();
    if !before.is_empty() {
        out.number(Stream::Sizes, common as u64);
    }
    let common = if before.is_empty() { 0 } else { common };
    out.number(Stream::Sizes, (text.len() - common) as u64);
    for &byte in &text[common..] {
        out.byte(Stream::Names, byte);
    }
    Ok(())
}

fn read_text(before: &[u8], (_, width): Place, from: &mut Source<'_>) -> Result<Vec<u8>, Error> {
    let wrong = Error::Format("a field is too long");
    let small = |n: u64| usize::try_from(n).ok().filter(|&n| n <= width);
    let common = if before.is_empty() {
        0
    } else {
        from.number(Stream::Sizes)?
    };
    let rest = from.number(Stream::Sizes)?;
    let (Some(common), Some(rest)) = (small(common), small(rest)) else {
        return Err(wrong);
    };
    if common > before.len() || common + rest > width {
        return Err(wrong);
    }
    let mut text = before[..common].to_vec();
    text.resize(common + rest, 0);
    from.bytes(Stream::Names, &mut text[common..])?;
    Ok(text)
}
