//! The objects in a list of a JSON document, one after the other, however long the document is.

use super::IndexError;
use std::io::BufRead;

/// Most bytes of one of them. Ordinary ones have half a kilobyte; file attributes may be more.
pub(super) const LONGEST: usize = 256 << 10;

/// A document `{…, "name": [{…}, {…}], …}` that is being read; the objects of any list count. What is between them is
/// not checked: whoever wrote nonsense there fools himself.
pub(super) struct Entries<'a> {
    source: &'a mut dyn BufRead,
    /// Bytes that may still come.
    left: u64,
    /// Objects and lists around the byte at hand, and the outer two of them.
    depth: u32,
    outer: [u8; 2],
    quoted: bool,
    escaped: bool,
    /// An object that counts, and what came of it.
    inside: bool,
    object: Vec<u8>,
    ended: bool,
}

impl<'a> Entries<'a> {
    pub fn new(source: &'a mut dyn BufRead, most: u64) -> Entries<'a> {
        Entries {
            source,
            left: most,
            depth: 0,
            outer: [0; 2],
            quoted: false,
            escaped: false,
            inside: false,
            object: Vec::new(),
            ended: false,
        }
    }

    /// The text of the next object; nothing behind the last one of a document that is complete.
    pub fn next(&mut self) -> Result<Option<&[u8]>, IndexError> {
        self.object.clear();
        while !self.ended {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                return Err(IndexError::Wrong("it ends in the middle"));
            }
            let (mut used, mut is_whole) = (0, false);
            let before = self.object.len();
            // Where what is at hand of the object begins.
            let mut start = 0;
            for &byte in bytes {
                used += 1;
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' if self.quoted => self.escaped = true,
                    b'"' => self.quoted = !self.quoted,
                    b'{' | b'[' if !self.quoted => {
                        if let Some(outer) = self.outer.get_mut(self.depth as usize) {
                            *outer = byte;
                        }
                        self.depth += 1;
                        if self.depth == 3 && byte == b'{' && self.outer == *b"{[" {
                            (self.inside, start) = (true, used - 1);
                        }
                    }
                    b'}' | b']' if !self.quoted => {
                        is_whole = self.depth == 3 && self.inside;
                        self.depth = self.depth.saturating_sub(1);
                        self.ended = self.depth == 0;
                    }
                    _ => {}
                }
                if is_whole || self.ended {
                    break;
                }
            }
            if self.inside {
                if before + used - start > LONGEST {
                    return Err(IndexError::Wrong("an entry is too long"));
                }
                self.object.extend_from_slice(&bytes[start..used]);
            }
            self.source.consume(used);
            self.left = match self.left.checked_sub(used as u64) {
                Some(left) => left,
                None => return Err(IndexError::Wrong("it is too long")),
            };
            if is_whole {
                self.inside = false;
                return Ok(Some(&self.object));
            }
        }
        Ok(None)
    }
}
