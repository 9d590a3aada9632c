//! The tar reader against bytes nobody vouches for, and against the writer.

use oci::tar::{Entry, Kind, Reader, Tap, TarError, Time, Writer};
use proptest::prelude::*;
use std::io::{self, Read};

/// Counts what the tap sees.
struct Count(u64);

impl Tap for Count {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// Reads everything; the bytes shown to the tap and those given as content must be all there were.
fn read(bytes: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut reader = Reader::with_tap(bytes, Count(0));
    let (mut entries, mut content) = (Vec::new(), 0u64);
    while let Some(entry) = reader.next_entry()? {
        let mut got = 0;
        loop {
            let n = reader.chunk()?.len();
            if n == 0 {
                break;
            }
            reader.consume(n)?;
            got += n as u64;
        }
        assert_eq!(got, entry.stored);
        if entry.kind == Kind::Regular && entry.sparse.is_none() {
            content += got;
        }
        entries.push(entry);
    }
    let (_, tap, total) = reader.finish()?;
    assert_eq!((tap.0 + content, total), (bytes.len() as u64, bytes.len() as u64));
    Ok(entries)
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn sample() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let long = "n".repeat(300);
    for (kind, name) in [
        (Kind::Regular, "a"),
        (Kind::Directory, "d/"),
        (Kind::Symlink, "l"),
        (Kind::Regular, &long),
    ] {
        let mut entry = Entry::new(kind, name);
        entry.link = if kind == Kind::Symlink {
            b"target".to_vec()
        } else {
            Vec::new()
        };
        entry.size = if kind == Kind::Regular { 700 } else { 0 };
        // The first has no records of its own, which would take the place of those a test puts before it.
        if name != "a" {
            entry.xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())];
        }
        writer.append(&entry, &mut io::repeat(b'x')).unwrap();
    }
    writer.finish().unwrap()
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let kinds = [
        Kind::Regular,
        Kind::Directory,
        Kind::Symlink,
        Kind::HardLink,
        Kind::Fifo,
    ];
    let kind = prop::sample::select(kinds.to_vec());
    let name = prop::collection::vec(prop_oneof![Just(b'a'), Just(b'/'), Just(b'.'), 1u8..=255], 1..300);
    let content = prop::collection::vec(any::<u8>(), 0..2000);
    let times = (-(1i64 << 40)..1i64 << 40, 0u32..1_000_000_000);
    let xattrs = prop::collection::btree_map("[a-z.]{1,20}", prop::collection::vec(any::<u8>(), 0..50), 0..3);
    let owner = (any::<u32>(), any::<u32>(), 0u32..0o10000);
    (kind, name.clone(), name, owner, times, content, xattrs).prop_map(
        |(kind, name, link, (uid, gid, mode), (seconds, nanoseconds), content, xattrs)| {
            let mut entry = Entry::new(kind, name);
            if matches!(kind, Kind::Symlink | Kind::HardLink) {
                entry.link = link;
            }
            let content = if kind == Kind::Regular { content } else { Vec::new() };
            (entry.uid, entry.gid, entry.mode) = (uid, gid, mode);
            (entry.size, entry.stored) = (content.len() as u64, content.len() as u64);
            entry.mtime = Time { seconds, nanoseconds };
            entry.xattrs = xattrs
                .into_iter()
                .map(|(key, value)| (key.into_bytes(), value))
                .collect();
            (entry, content)
        },
    )
}

/// `bytes` behind a header of PAX records.
fn with_records(text: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..1].copy_from_slice(b"x");
    header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
    header[156] = b'x';
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    let mut body = text.as_bytes().to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    [&header[..], &body, bytes].concat()
}

const KEYS: [&str; 13] = [
    "path",
    "linkpath",
    "size",
    "mtime",
    "uid",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.map",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.realsize",
    "GNU.sparse.name",
    "SCHILY.xattr.a",
];

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = rest + (rest + 2).to_string().len();
    format!("{length} {key}={value}\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(any_entry(), 0..6)) {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in &entries {
            writer.append(entry, &mut &content[..]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..]);
        for (entry, content) in &entries {
            prop_assert_eq!(&reader.next_entry().unwrap().unwrap(), entry);
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            prop_assert_eq!(&got, content);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());
        prop_assert_eq!(read(&bytes).unwrap().len(), entries.len());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
    }

    /// A true archive with bytes changed, and the checksums made right again so that the change is seen.
    #[test]
    fn no_change_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        sealed in any::<bool>(),
    ) {
        let mut bytes = sample();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if sealed {
            bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar").for_each(seal);
        }
        let _ = read(&bytes);
    }

    #[test]
    fn no_records_make_it_panic(
        records in prop::collection::vec((prop::sample::select(KEYS.to_vec()), "[0-9]{0,3}|[0-9,.\\-a]{0,12}"), 0..6),
    ) {
        let text: String = records.iter().map(|(key, value)| record(key, value)).collect();
        let _ = read(&with_records(&text, &sample()));
    }
}

/// A header that claims more than there is, or more than is allowed, costs no memory for it.
#[test]
fn claims_are_not_believed() {
    for (flag, size) in [
        (b'x', 1u64 << 20),
        (b'x', 1 << 40),
        (b'L', 1 << 33),
        (b'K', (1 << 20) + 1),
        (b'g', u64::MAX >> 1),
    ] {
        let mut header = [0u8; 512];
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
        header[156] = flag;
        header[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut header);
        assert!(read(&[&header[..], &[b'1'; 100]].concat()).is_err(), "{flag} {size}");
    }
}

/// The content is shorter or longer than the sparse map says, or the map is not one.
#[test]
fn sparse_maps_that_lie() {
    let map = |map: &str, real: &str| {
        let text = record("GNU.sparse.map", map) + &record("GNU.sparse.realsize", real);
        read(&with_records(&text, &sample()))
    };
    assert!(map("0,700", "700").is_ok());
    assert!(map("100,700", "10000").is_ok());
    for (extents, real) in [
        ("0,700", "699"),
        ("0,701", "800"),
        ("5,700,4,0", "800"),
        ("0,700,700", "800"),
        ("9223372036854775807,700", "800"),
    ] {
        assert!(map(extents, real).is_err(), "{extents}");
    }
}

/// An old GNU sparse file whose map never ends.
#[test]
fn an_endless_sparse_map_ends() {
    let mut header = [0u8; 512];
    header[..1].copy_from_slice(b"s");
    header[156] = b'S';
    header[257..265].copy_from_slice(b"ustar  \0");
    header[386..397].copy_from_slice(b"00000000000");
    header[398..409].copy_from_slice(b"00000000000");
    header[482] = 1;
    seal(&mut header);
    let mut block = [0u8; 512];
    for entry in block[..504].chunks_exact_mut(24) {
        entry[..11].copy_from_slice(b"00000000000");
        entry[12..23].copy_from_slice(b"00000000000");
    }
    block[504] = 1;
    let mut reader = Reader::new(header.chain(Endless { block, at: 0 }));
    assert!(matches!(reader.next_entry(), Err(TarError::Header { .. })));
    assert!(reader.position() < 1 << 20);
}

struct Endless {
    block: [u8; 512],
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for byte in into.iter_mut() {
            *byte = self.block[self.at];
            self.at = (self.at + 1) % 512;
        }
        Ok(into.len())
    }
}
