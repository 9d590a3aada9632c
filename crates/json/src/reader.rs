//! A document that is being read, from its first byte to its last, without going back.

use crate::{Error, Result};
use std::borrow::Cow;

/// Most levels of lists and objects in one another.
pub const DEPTH: u8 = 127;

/// What reads the value that the reader stands before.
type Each<'e, 'a, T> = &'e mut dyn FnMut(T, &mut Reader<'a>) -> Result<()>;

/// A place in a document.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: u8,
    deepest: u8,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a [u8]) -> Reader<'a> {
        Reader::of_depth(text, DEPTH)
    }

    pub(crate) fn of_depth(text: &'a [u8], deepest: u8) -> Reader<'a> {
        Reader {
            text,
            at: 0,
            depth: 0,
            deepest,
        }
    }

    /// The first byte of what comes next; zero at the end.
    pub fn peek(&mut self) -> u8 {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.byte()
    }

    /// Takes a `null`, if there is one.
    pub fn null(&mut self) -> Result<bool> {
        match self.peek() {
            b'n' => self.word("null").map(|()| true),
            _ => Ok(false),
        }
    }

    pub fn boolean(&mut self) -> Result<bool> {
        match self.peek() {
            b't' => self.word("true").map(|()| true),
            b'f' => self.word("false").map(|()| false),
            _ => Err(self.unexpected("a boolean")),
        }
    }

    /// The text of a number: sign, digits, fraction, exponent.
    pub fn number(&mut self, expected: &str) -> Result<&'a str> {
        if !matches!(self.peek(), b'-' | b'0'..=b'9') {
            return Err(self.unexpected(expected));
        }
        let start = self.at;
        self.take(b"-");
        let zero = self.byte() == b'0';
        let whole = self.digits()?;
        if zero && whole > 1 {
            return Err(self.wrong("invalid number"));
        }
        if self.take(b".") {
            self.digits()?;
        }
        if self.take(b"eE") {
            self.take(b"+-");
            self.digits()?;
        }
        self.slice(start)
    }

    /// A whole number and its sign; one that has a fraction or an exponent is none, whatever its value.
    pub fn integer(&mut self, expected: &'static str) -> Result<(bool, u64)> {
        let text = self.number(expected)?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.contains(['.', 'e', 'E']) {
            return Err(wrong_type(&format!("floating point `{text}`"), expected));
        }
        let value = digits.parse().map_err(|_| out_of_range(text, expected))?;
        Ok((negative, value))
    }

    /// A text; it is copied only when it has escapes.
    pub fn string(&mut self, expected: &str) -> Result<Cow<'a, str>> {
        if self.peek() != b'"' {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        let start = self.at;
        self.plain()?;
        if self.byte() == b'"' {
            let text = self.slice(start)?;
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut text = self.slice(start)?.to_owned();
        loop {
            match self.byte() {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                // A backslash: `plain` stops at nothing else.
                _ => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
            }
            let start = self.at;
            self.plain()?;
            text.push_str(self.slice(start)?);
        }
    }

    /// A list: `each` reads an item.
    pub fn list(&mut self, expected: &str, each: &mut dyn FnMut(&mut Reader<'a>) -> Result<()>) -> Result<()> {
        if self.peek() != b'[' {
            return Err(self.unexpected(expected));
        }
        self.down()?;
        if self.peek() == b']' {
            return self.up();
        }
        loop {
            each(self)?;
            match self.peek() {
                b',' => self.at += 1,
                b']' => return self.up(),
                _ => return Err(self.ended("a list", "expected `,` or `]`")),
            }
            if self.peek() == b']' {
                return Err(self.wrong("trailing comma"));
            }
        }
    }

    /// An object: `each` reads a member's value.
    pub fn object(&mut self, expected: &str, each: Each<'_, 'a, Cow<'a, str>>) -> Result<()> {
        if self.peek() != b'{' {
            return Err(self.unexpected(expected));
        }
        self.down()?;
        if self.peek() == b'}' {
            return self.up();
        }
        loop {
            let name = self.name()?;
            each(name, self)?;
            match self.peek() {
                b',' => self.at += 1,
                b'}' => return self.up(),
                _ => return Err(self.ended("an object", "expected `,` or `}`")),
            }
            if self.peek() == b'}' {
                return Err(self.wrong("trailing comma"));
            }
        }
    }

    /// An object whose members are fields: `each` reads the value of the field with this index. `null` is one without.
    pub fn structure(&mut self, name: &str, fields: &[(&str, u8)], each: Each<'_, 'a, usize>) -> Result<()> {
        match self.peek() {
            b'{' => {}
            b'n' => return self.word("null"),
            _ => return Err(self.no_structure(name)),
        }
        self.object(name, &mut |member, reader| {
            let exact = fields.iter().find(|(field, _)| *field == member);
            let field = exact.or_else(|| fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(&member)));
            match field {
                Some((_, index)) if reader.peek() != b'n' => each(usize::from(*index), reader),
                // `null`, if it is one.
                _ => reader.skip(),
            }
        })
    }

    /// The index of an enum's variant, and whether its content follows.
    pub fn variant(&mut self, variants: &[&str]) -> Result<(usize, bool)> {
        let content = self.peek() == b'{';
        let name = match content {
            true => {
                self.down()?;
                self.name()?
            }
            false => self.string("a variant")?,
        };
        let index = variants.iter().position(|variant| *variant == name);
        let index = index.ok_or_else(|| Error::custom(format!("unknown variant `{name}`")))?;
        Ok((index, content))
    }

    /// The content of a variant that has none.
    pub fn unit(&mut self, content: bool) -> Result<()> {
        match content && !self.null()? {
            true => Err(self.unexpected("nothing")),
            false => Ok(()),
        }
    }

    /// Behind a variant's content.
    pub fn variant_end(&mut self, content: bool) -> Result<()> {
        match (content, self.peek()) {
            (false, _) => Ok(()),
            (true, b'}') => self.up(),
            (true, _) => Err(self.ended("an object", "expected `}`")),
        }
    }

    /// Reads past a value, and checks it.
    pub fn skip(&mut self) -> Result<()> {
        match self.peek() {
            b'{' => self.object("", &mut |_, reader| reader.skip()),
            b'[' => self.list("", &mut |reader| reader.skip()),
            b'"' => self.string("").map(drop),
            b'n' => self.word("null"),
            b't' | b'f' => self.boolean().map(drop),
            _ => self.number("a value").map(drop),
        }
    }

    /// A value as it stands there.
    pub fn raw(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.at;
        self.skip()?;
        self.slice(start)
    }

    /// Checks that there is nothing more.
    pub fn end(&mut self) -> Result<()> {
        match self.peek() {
            0 if self.at == self.text.len() => Ok(()),
            _ => Err(self.wrong("trailing characters")),
        }
    }

    /// Says that what comes next is not what a type wants.
    pub fn unexpected(&mut self, expected: &str) -> Error {
        let shown = match self.peek() {
            b'n' => "null",
            b't' | b'f' => "boolean",
            b'"' => "string",
            b'-' | b'0'..=b'9' => "number",
            b'[' => "sequence",
            b'{' => "map",
            _ => return self.ended("a value", "expected value"),
        };
        wrong_type(shown, expected)
    }

    /// In Docker's words, which are Go's.
    fn no_structure(&mut self, name: &str) -> Error {
        let shown = match self.peek() {
            b't' | b'f' => "bool",
            b'"' => "string",
            b'-' | b'0'..=b'9' => "number",
            b'[' => "array",
            _ => return self.ended("a value", "expected value"),
        };
        Error::custom(format!("json: cannot unmarshal {shown} into Go value of type {name}"))
    }

    /// A member's name, up to its value.
    fn name(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != b'"' {
            return Err(self.ended("an object", "key must be a string"));
        }
        let name = self.string("")?;
        match self.peek() {
            b':' => self.at += 1,
            _ => return Err(self.ended("an object", "expected `:`")),
        }
        Ok(name)
    }

    fn down(&mut self) -> Result<()> {
        if self.depth == self.deepest {
            return Err(self.wrong("recursion limit exceeded"));
        }
        self.at += 1;
        self.depth += 1;
        Ok(())
    }

    fn up(&mut self) -> Result<()> {
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// The byte here; zero at the end, which is in no place where a byte is looked for.
    fn byte(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn take(&mut self, any: &[u8]) -> bool {
        let found = self.at < self.text.len() && any.contains(&self.byte());
        self.at += usize::from(found);
        found
    }

    /// One digit or more: how many.
    fn digits(&mut self) -> Result<usize> {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        match self.at - start {
            0 => Err(self.ended("a value", "invalid number")),
            count => Ok(count),
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        match self.text[self.at..].starts_with(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(())
            }
            false => Err(self.wrong("expected ident")),
        }
    }

    /// Goes to the next quote or backslash of a text.
    fn plain(&mut self) -> Result<()> {
        // Eight bytes at a time while there is nothing special among them: tar-split is long texts.
        while let Some(bytes) = self.text[self.at..].first_chunk() {
            if has_special(u64::from_le_bytes(*bytes)) {
                break;
            }
            self.at += 8;
        }
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' | b'\\' => return Ok(()),
                0..0x20 => {
                    return Err(self.wrong("control character (\\u0000-\\u001F) found while parsing a string"));
                }
                _ => self.at += 1,
            }
        }
        Err(self.ended("a string", ""))
    }

    /// What an escape stands for, from behind its backslash.
    fn escape(&mut self) -> Result<char> {
        let byte = self.byte();
        self.at += usize::from(self.at < self.text.len());
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return Err(self.ended("a string", "invalid escape")),
        })
    }

    /// Four hexadecimal digits, or two times four for what is beyond them.
    fn code_point(&mut self) -> Result<char> {
        let mut unit = self.four_digits()?;
        if let 0xd800..0xdc00 = unit
            && self.text[self.at..].starts_with(b"\\u")
        {
            self.at += 2;
            let low = self.four_digits()?;
            unit = match low {
                0xdc00..0xe000 => 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                // Half a character, which none is.
                _ => unit,
            };
        }
        char::from_u32(unit).ok_or_else(|| self.wrong("lone surrogate in hex escape"))
    }

    fn four_digits(&mut self) -> Result<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = char::from(self.byte()).to_digit(16);
            value = value * 16 + digit.ok_or_else(|| self.ended("a string", "invalid escape"))?;
            self.at += 1;
        }
        Ok(value)
    }

    fn slice(&self, start: usize) -> Result<&'a str> {
        std::str::from_utf8(&self.text[start..self.at]).map_err(|_| self.wrong("invalid unicode code point"))
    }

    /// What is wrong here, unless it is that nothing is.
    fn ended(&self, inside: &str, wrong: &str) -> Error {
        match self.at < self.text.len() {
            true => self.wrong(wrong),
            false => self.wrong(&format!("EOF while parsing {inside}")),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        let at = self.at.min(self.text.len());
        let before = &self.text[..at];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = at - start + usize::from(at < self.text.len());
        Error::custom(format!("{what} at line {line} column {column}"))
    }
}

/// Says if one of eight bytes is a quote, a backslash, or below 0x20.
fn has_special(bytes: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Of a byte below `n`, the subtraction sets the high bit, which was not set before.
    let has_below = |bytes: u64, n: u64| bytes.wrapping_sub(ONES * n) & !bytes & (ONES << 7) != 0;
    let has = |byte: u8| has_below(bytes ^ (ONES * u64::from(byte)), 1);
    has_below(bytes, 0x20) || has(b'"') || has(b'\\')
}

#[cold]
fn wrong_type(shown: &str, expected: &str) -> Error {
    Error::custom(format!("invalid type: {shown}, expected {expected}"))
}

#[cold]
pub(crate) fn out_of_range(text: &str, expected: &str) -> Error {
    Error::custom(format!("invalid value: integer `{text}`, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_special_byte_of_eight_is_seen() {
        for at in 0..8 {
            for byte in 0..=255u8 {
                let mut bytes = *b"\xff!#[] \x80\x7f";
                bytes[at] = byte;
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(has_special(u64::from_le_bytes(bytes)), special, "{byte:#x} at {at}");
            }
        }
    }
}
