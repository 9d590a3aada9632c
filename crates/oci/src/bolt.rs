//! Reads bolt databases, in which Docker keeps its networks (`network/files/local-kv.db`) and the labels of its volumes
//! (`volumes/metadata.db`). Pure, and read-only: a data root can be given back as it was.
//!
//! A file is pages. Two of them, the first, are meta pages, of which the valid one with the higher transaction number
//! counts; it names the root of a B+ tree of buckets, each of which is a tree of keys and values, or lies whole in its
//! value. Numbers are little-endian, as on every machine that balena and Docker both run on.
//! Source: bbolt 1.3, `page.go`, `bucket.go` (format version 2).
//!
//! Everything in it is checked before it is followed: a file is at most [`LARGEST`], and a walk sees each page once.

use std::collections::BTreeSet;

/// Largest file that is looked at, bytes. Docker's have some ten thousand.
pub const LARGEST: u64 = 64 << 20;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
const BUCKET_HEADER: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
/// Flag of a leaf's element whose value is a bucket.
const IS_BUCKET: u32 = 0x01;

/// A database in memory.
#[derive(Debug)]
pub struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
    root: u64,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoltError {
    #[error("it is no bolt database")]
    NoDatabase,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

type Result<T> = std::result::Result<T, BoltError>;

/// Keys with their values, in order of keys.
pub type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

impl<'a> Database<'a> {
    /// Looks at a whole file.
    pub fn open(bytes: &'a [u8]) -> Result<Database<'a>> {
        // The page size stands in the meta page that it places: the second one is looked for at each size there is.
        let first = meta(bytes, 0);
        let sizes = (9..17).map(|bits| 1usize << bits);
        let second = sizes
            .filter_map(|size| meta(bytes, size).filter(|meta| meta.page_size == size))
            .next();
        let newest = first.into_iter().chain(second).max_by_key(|meta| meta.transaction);
        let newest = newest.ok_or(BoltError::NoDatabase)?;
        Ok(Database {
            bytes,
            page_size: newest.page_size,
            root: newest.root,
        })
    }

    /// All of a top-level bucket; `None` if there is none of that name.
    pub fn bucket(&self, name: &str) -> Result<Option<Pairs<'a>>> {
        let mut seen = BTreeSet::new();
        let mut top = Vec::new();
        self.walk(self.root, &mut seen, &mut |flags, key, value| {
            top.push((flags, key, value))
        })?;
        let Some((flags, _, value)) = top.into_iter().find(|(_, key, _)| *key == name.as_bytes()) else {
            return Ok(None);
        };
        if flags & IS_BUCKET == 0 {
            return Err(BoltError::Damaged("a key stands where a bucket should"));
        }
        let mut pairs = Vec::new();
        let mut take = |flags: u32, key, value| {
            // Buckets in buckets are nothing of Docker's.
            if flags & IS_BUCKET == 0 {
                pairs.push((key, value));
            }
        };
        match u64_at(value, 0)? {
            0 => {
                let page = value
                    .get(BUCKET_HEADER..)
                    .ok_or(BoltError::Damaged("a bucket is cut off"))?;
                if u16_at(page, 8)? & LEAF == 0 {
                    return Err(BoltError::Damaged("a bucket in its value is no leaf"));
                }
                leaf(page, &mut take)?;
            }
            root => self.walk(root, &mut seen, &mut take)?,
        }
        Ok(Some(pairs))
    }

    fn walk(&self, root: u64, seen: &mut BTreeSet<u64>, take: &mut dyn FnMut(u32, &'a [u8], &'a [u8])) -> Result<()> {
        // The pages yet to be looked at, the next one last.
        let mut ahead = vec![root];
        while let Some(number) = ahead.pop() {
            if !seen.insert(number) {
                return Err(BoltError::Damaged("a page is in the tree twice"));
            }
            let page = self.page(number)?;
            let (flags, count) = (u16_at(page, 8)?, usize::from(u16_at(page, 10)?));
            match flags & (BRANCH | LEAF | META) {
                LEAF => leaf(page, take)?,
                BRANCH => {
                    for index in (0..count).rev() {
                        ahead.push(u64_at(page, PAGE_HEADER + index * ELEMENT + 8)?);
                    }
                }
                _ => return Err(BoltError::Damaged("a page in the tree is neither branch nor leaf")),
            }
        }
        Ok(())
    }

    /// A page with those that it overflows into.
    fn page(&self, number: u64) -> Result<&'a [u8]> {
        let out = BoltError::Damaged("a page lies outside of the file");
        let start = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(self.page_size));
        let start = start.ok_or(out.clone())?;
        let page = self.bytes.get(start..).ok_or(out.clone())?;
        let more = usize::try_from(u32_at(page, 12)?).map_err(|_| out.clone())?;
        let length = more.checked_add(1).and_then(|pages| pages.checked_mul(self.page_size));
        length.and_then(|length| page.get(..length)).ok_or(out)
    }
}

struct Meta {
    page_size: usize,
    root: u64,
    transaction: u64,
}

/// The meta page at an offset, if it is one and whole.
fn meta(bytes: &[u8], at: usize) -> Option<Meta> {
    let page = bytes.get(at..)?;
    let meta = page.get(PAGE_HEADER..PAGE_HEADER + 64)?;
    let number = |at: usize| u32_at(meta, at).ok();
    let long = |at: usize| u64_at(meta, at).ok();
    let whole = u16_at(page, 8).ok()? & META != 0
        && number(0)? == MAGIC
        && number(4)? == VERSION
        && long(56)? == checksum(&meta[..56]);
    let page_size = usize::try_from(number(8)?).ok()?;
    (whole && page_size.is_power_of_two() && page_size >= 512).then_some(Meta {
        page_size,
        root: long(16)?,
        transaction: long(48)?,
    })
}

/// FNV-1a with 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn leaf<'a>(page: &'a [u8], take: &mut dyn FnMut(u32, &'a [u8], &'a [u8])) -> Result<()> {
    let cut = BoltError::Damaged("an element lies outside of its page");
    for index in 0..usize::from(u16_at(page, 10)?) {
        let at = PAGE_HEADER + index * ELEMENT;
        let size = |offset: usize| usize::try_from(u32_at(page, at + offset)?).map_err(|_| cut.clone());
        let (place, key, value) = (size(4)?, size(8)?, size(12)?);
        let start = at.checked_add(place).ok_or(cut.clone())?;
        let middle = start.checked_add(key).ok_or(cut.clone())?;
        let end = middle.checked_add(value).ok_or(cut.clone())?;
        let (Some(key), Some(value)) = (page.get(start..middle), page.get(middle..end)) else {
            return Err(cut);
        };
        take(u32_at(page, at)?, key, value);
    }
    Ok(())
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).ok_or(BoltError::Damaged("a page is cut off"))?;
    let slice = bytes.get(at..end).ok_or(BoltError::Damaged("a page is cut off"))?;
    slice.try_into().map_err(|_| BoltError::Damaged("a page is cut off"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 512;

    fn header(number: u64, flags: u16, count: u16) -> Vec<u8> {
        let mut page = number.to_le_bytes().to_vec();
        page.extend(flags.to_le_bytes());
        page.extend(count.to_le_bytes());
        page.extend(0u32.to_le_bytes());
        page
    }

    fn meta_page(number: u64, transaction: u64, root: u64) -> Vec<u8> {
        let mut meta = Vec::new();
        for word in [MAGIC, VERSION, PAGE as u32, 0] {
            meta.extend(word.to_le_bytes());
        }
        for word in [root, 0, 2, 9, transaction] {
            meta.extend(word.to_le_bytes());
        }
        meta.extend(checksum(&meta).to_le_bytes());
        padded([header(number, META, 0), meta].concat())
    }

    fn padded(mut page: Vec<u8>) -> Vec<u8> {
        page.resize(PAGE, 0);
        page
    }

    fn leaf_page(number: u64, pairs: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
        let mut page = header(number, LEAF, u16::try_from(pairs.len()).unwrap());
        let mut data: Vec<u8> = Vec::new();
        for (index, (flags, key, value)) in pairs.iter().enumerate() {
            let place = (pairs.len() - index) * ELEMENT + data.len();
            for word in [*flags as usize, place, key.len(), value.len()] {
                page.extend(u32::try_from(word).unwrap().to_le_bytes());
            }
            data.extend(*key);
            data.extend(*value);
        }
        page.extend(data);
        page
    }

    /// Root leaf (page 2) with a bucket in its value and one in pages: a branch (3) over two leaves (4, 5).
    fn database() -> Vec<u8> {
        let inline = [vec![0; BUCKET_HEADER], leaf_page(0, &[(0, b"k", b"v")])].concat();
        let mut paged = 3u64.to_le_bytes().to_vec();
        paged.extend([0; 8]);
        let root = leaf_page(2, &[(IS_BUCKET, b"big", &paged), (IS_BUCKET, b"small", &inline)]);
        let mut branch = header(3, BRANCH, 2);
        for child in [4u64, 5] {
            branch.extend([0; 8]);
            branch.extend(child.to_le_bytes());
        }
        [
            meta_page(0, 7, 99),
            meta_page(1, 8, 2),
            padded(root),
            padded(branch),
            padded(leaf_page(4, &[(0, b"a", b"1"), (0, b"b", b"2")])),
            padded(leaf_page(5, &[(0, b"c", b"3"), (IS_BUCKET, b"d", b"")])),
        ]
        .concat()
    }

    #[test]
    fn buckets() {
        let bytes = database();
        let database = Database::open(&bytes).unwrap();
        let pairs = |name: &str| database.bucket(name).unwrap();
        assert_eq!(pairs("small"), Some(vec![(&b"k"[..], &b"v"[..])]));
        let big: Vec<_> = pairs("big").unwrap().into_iter().map(|(key, _)| key[0]).collect();
        assert_eq!(big, b"abc");
        assert_eq!(pairs("none"), None);
    }

    #[test]
    fn the_older_meta_page_serves_when_the_newer_is_torn() {
        let mut bytes = database();
        bytes[PAGE + 40] ^= 1;
        bytes[..PAGE].copy_from_slice(&meta_page(0, 7, 2));
        assert!(Database::open(&bytes).unwrap().bucket("small").unwrap().is_some());
        bytes[40] ^= 1;
        assert_eq!(Database::open(&bytes).unwrap_err(), BoltError::NoDatabase);
    }

    #[test]
    fn damage_is_an_error_and_no_more() {
        let good = database();
        // Every byte behind the meta pages, changed in several ways; every length.
        for at in 2 * PAGE..good.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                let database = Database::open(&bytes).unwrap();
                let _ = (database.bucket("big"), database.bucket("small"));
            }
        }
        for length in 0..good.len() {
            if let Ok(database) = Database::open(&good[..length]) {
                let _ = (database.bucket("big"), database.bucket("small"));
            }
        }
        // A branch that leads to itself.
        let mut bytes = good;
        let child = 3 * PAGE + PAGE_HEADER + 8;
        bytes[child..child + 8].copy_from_slice(&3u64.to_le_bytes());
        let twice = BoltError::Damaged("a page is in the tree twice");
        assert_eq!(Database::open(&bytes).unwrap().bucket("big"), Err(twice));
    }
}
