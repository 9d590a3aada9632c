//! Sparse maps: where the stored bytes of a file with holes belong.

use super::{Extent, header::number, pax::decimal};

/// Most extents of one file; with 16 bytes each, a quarter of [`super::HEADER_LIMIT`].
pub(super) const EXTENTS_LIMIT: usize = 1 << 14;

/// Adds the entries of an old GNU map, 24 bytes each; an entry that begins with NUL ends it.
pub(super) fn add_gnu(map: &mut Vec<Extent>, bytes: &[u8]) -> Result<(), &'static str> {
    for entry in bytes.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        let field = |bytes| number(bytes).and_then(|n| u64::try_from(n).map_err(|_| "negative number in a sparse map"));
        map.push(Extent {
            offset: field(&entry[..12])?,
            length: field(&entry[12..])?,
        });
        if map.len() > EXTENTS_LIMIT {
            return Err("sparse map too long");
        }
    }
    Ok(())
}

/// Reads the map of format 1.0, which stands before the content: lines of decimal numbers, first their count.
#[derive(Default)]
pub(super) struct MapText {
    line: Vec<u8>,
    wanted: Option<usize>,
    numbers: Vec<u64>,
}

impl MapText {
    /// Takes one block; says true when the map is complete.
    pub fn block(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for &byte in block {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 20 {
                    return Err("number too long in a sparse map");
                }
                continue;
            }
            let number = decimal(&self.line)?;
            self.line.clear();
            match self.wanted {
                None => {
                    let count = usize::try_from(number).ok().filter(|&count| count <= EXTENTS_LIMIT);
                    self.wanted = Some(count.ok_or("sparse map too long")? * 2);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.wanted == Some(self.numbers.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn extents(self) -> Vec<Extent> {
        self.numbers
            .chunks_exact(2)
            .map(|pair| Extent {
                offset: pair[0],
                length: pair[1],
            })
            .collect()
    }
}

/// Checks that extents ascend without overlap, end within `size`, and have `stored` bytes between them.
pub(super) fn check(map: &[Extent], size: u64, stored: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    if map.len() > EXTENTS_LIMIT {
        return Err("sparse map too long");
    }
    for extent in map {
        if extent.offset < end {
            return Err("sparse map out of order");
        }
        end = extent
            .offset
            .checked_add(extent.length)
            .filter(|&end| end <= size)
            .ok_or("sparse map beyond the file")?;
        sum += extent.length;
    }
    if sum == stored {
        Ok(())
    } else {
        Err("sparse map and content differ in size")
    }
}
