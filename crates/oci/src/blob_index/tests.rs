//! Tables that are right, and tables that lie.

use super::*;
use crate::digest::Digest;
use crate::tar::{Kind, Writer};
use std::collections::BTreeMap;
use std::io::BufReader;

const TABLE_AT: Table = Table {
    format: Format::ZstdChunked,
    start: 10_000,
    end: 11_000,
};

fn index(json: &str) -> Result<Index, IndexError> {
    // A small buffer: entries are cut anywhere.
    Index::read(TABLE_AT, BufReader::with_capacity(7, json.as_bytes()))
}

fn part(start: u64, end: u64, skip: u64, size: u64) -> Part {
    Part { start, end, skip, size }
}

#[test]
fn where_files_lie() {
    let index = index(
        r#" {"version":1, "entries": [
        {"type":"dir","name":"bin/","xattrs":{"user.a":"}]{\"","user.b":"\\"}},
        {"type":"reg","name":"./bin/one","size":100,"offset":200,"digest":"sha256:00"},
        {"type":"reg","name":"bin/two","size":1000,"offset":300,"chunkSize":400},
        {"type":"chunk","name":"bin/two","offset":500,"chunkOffset":400,"chunkSize":600,"chunkType":"zeros"},
        {"type":"reg","name":"empty"},
        {"type":"chunk","name":"empty","offset":1,"chunkOffset":5,"chunkSize":1},
        {"type":"reg","name":"small/1","size":5,"offset":900},
        {"type":"reg","name":"small/2","size":6,"offset":900,"innerOffset":1029},
        {"type":"symlink","name":"link","linkName":"bin/one"}
    ], "tarSplitDigest": "sha256:11", "more": [[{"type":"reg"}]]} "#,
    )
    .unwrap();
    assert_eq!(index.file(b"bin/one", 100), Some(vec![part(200, 300, 0, 100)]));
    assert_eq!(index.file(b"/bin//one", 100), Some(vec![part(200, 300, 0, 100)]));
    let two = vec![part(300, 500, 0, 400), part(500, 900, 0, 600)];
    assert_eq!(index.file(b"bin/two", 1000), Some(two));
    assert_eq!(index.file(b"small/2", 6), Some(vec![part(900, 10_000, 1029, 6)]));
    for (name, size) in [
        ("bin/two", 999),
        ("bin/two", 1001),
        ("bin", 0),
        ("empty", 6),
        ("link", 3),
        ("x", 1),
    ] {
        assert_eq!(index.file(name.as_bytes(), size), None, "{name}");
    }
}

#[test]
fn tables_that_lie() {
    let with = |entries: &str| index(&format!(r#"{{"entries":[{entries}]}}"#));
    // Beyond the chunks, and no numbers of bytes at all.
    for bad in [
        r#"{"type":"reg","name":"a","size":1,"offset":10000}"#,
        r#"{"type":"reg","name":"a","size":1,"offset":18446744073709551615}"#,
        r#"{"type":"reg","name":"a","size":1,"offset":-5}"#,
        r#"{"type":"reg","name":"a","size":18446744073709551616,"offset":5}"#,
        r#"{"type":"reg","name":"a","size":1,"offset":"5"}"#,
        r#"{"type":"reg","name":"a","size":1,"offset":5,"innerOffset":99999999}"#,
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
    // Two of a name, chunks that overlap, leave a hole, are more than the file, or begin anywhere.
    for bad in [
        r#"{"type":"reg","name":"a","size":9,"offset":5},{"type":"reg","name":"./a","size":9,"offset":7}"#,
        r#"{"type":"reg","name":"a","size":9,"offset":5,"chunkSize":5},{"type":"chunk","offset":7,"chunkOffset":4}"#,
        r#"{"type":"reg","name":"a","size":9,"offset":5,"chunkSize":5},{"type":"chunk","offset":7,"chunkOffset":6}"#,
        r#"{"type":"reg","name":"a","size":9,"offset":5,"chunkSize":10}"#,
        r#"{"type":"reg","name":"a","size":9,"offset":5,"chunkSize":18446744073709551615}"#,
        r#"{"type":"reg","name":"a","size":9,"offset":5,"chunkOffset":1}"#,
        r#"{"type":"chunk","name":"a","size":9,"offset":5}"#,
        r#"{"type":"reg","name":"../a","size":9,"offset":5}"#,
    ] {
        assert_eq!(with(bad).unwrap().file(b"a", 9), None, "{bad}");
    }
    // Documents that are none, or of another shape.
    for bad in [
        "",
        "{",
        r#"{"entries":[{"type":"reg""#,
        r#"{"entries":[{}"#,
        r#"{"entries":[{"type":reg}]}"#,
        "\"{",
    ] {
        assert!(index(bad).is_err(), "{bad}");
    }
    for other in [
        "{}",
        "[]",
        "[[{}]]",
        r#"{"entries":{"a":{}}}"#,
        "]",
        r#"{"entries":[[],[[{}]],"{",1]}"#,
    ] {
        assert_eq!(index(other).unwrap().file(b"a", 9), None, "{other}");
    }
}

#[test]
fn tables_that_are_too_much() {
    let entry = r#"{"type":"reg","name":"a","size":1,"offset":1},"#;
    let many = format!(r#"{{"entries":[{}{{}}]}}"#, entry.repeat(CHUNKS + 1));
    assert!(Index::read(TABLE_AT, many.as_bytes()).is_err());
    let long = format!(r#"{{"entries":[{{"name":"{}"}}]}}"#, "x".repeat(entries::LONGEST));
    assert!(Index::read(TABLE_AT, long.as_bytes()).is_err());
    // One that does not end.
    let spaces = BufReader::new(io::repeat(b' '));
    assert!(Index::read(TABLE_AT, spaces).is_err());
    let nested = format!(r#"{{"entries":[{{"name":{}"#, "[".repeat(200_000));
    assert!(Index::read(TABLE_AT, nested.as_bytes()).is_err());
}

fn footer_of_gzip(offset: u64) -> Vec<u8> {
    let mut footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0".to_vec();
    footer.extend_from_slice(format!("{offset:016x}STARGZ").as_bytes());
    footer.extend_from_slice(b"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0");
    footer
}

fn footer_of_zstd(numbers: &[u64], magic: &[u8; 8]) -> Vec<u8> {
    let mut footer = b"\x50\x2a\x4d\x18".to_vec();
    footer.extend_from_slice(&(8 * numbers.len() as u32 + 8).to_le_bytes());
    footer.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    footer.extend_from_slice(magic);
    footer
}

#[test]
fn where_tables_lie() {
    let table = |format, start, end| Some(Table { format, start, end });
    let padded = |footer: &[u8]| [&[7; 30], footer].concat();
    let gzip = footer_of_gzip(0x1234);
    assert_eq!(gzip.len(), 51);
    assert_eq!(Table::find(&gzip, 0x2000), table(Format::Estargz, 0x1234, 0x2000 - 51));
    assert_eq!(
        Table::find(&padded(&gzip), 0x2000),
        table(Format::Estargz, 0x1234, 0x2000 - 51)
    );
    assert_eq!(Table::find(&footer_of_gzip(0x2000), 0x2000), None);
    assert_eq!(Table::find(&footer_of_gzip(u64::MAX), 0x2000), None);
    assert_eq!(Table::find(&gzip, 1 << 30), None);
    for numbers in [&[100, 50, 900, 1][..], &[100, 50, 900, 1, 150, 20, 70]] {
        for magic in [b"GNUlInUx", b"GnUlInUx"] {
            let zstd = padded(&footer_of_zstd(numbers, magic));
            assert_eq!(Table::find(&zstd, 400), table(Format::ZstdChunked, 100, 150));
            assert_eq!(Table::find(&zstd, 149), None);
        }
        assert_eq!(Table::find(&footer_of_zstd(numbers, b"GNULinux"), 400), None);
    }
    assert_eq!(Table::find(&footer_of_zstd(&[100, 50, 900, 2], b"GNUlInUx"), 400), None);
    assert_eq!(
        Table::find(&footer_of_zstd(&[u64::MAX, 50, 900, 1], b"GNUlInUx"), 400),
        None
    );
    for at in 0..gzip.len() {
        // The time, and what made it, may be any.
        let mut other = gzip.clone();
        other[at] ^= 0x80;
        assert_eq!(Table::find(&other, 0x2000).is_some(), (4..10).contains(&at), "{at}");
        assert_eq!(Table::find(&gzip[..at], 0x2000), None);
    }
}

#[test]
fn what_a_descriptor_says() {
    let blob = |text: &str| Descriptor {
        media_type: String::new(),
        size: 1000,
        digest: Digest::sha256([1; 32]),
        urls: Vec::new(),
        annotations: BTreeMap::from([(POSITION.into(), text.into())]),
        platform: None,
        artifact_type: None,
    };
    let table = |text: &str| Table::of(&blob(text)).map(|table| (table.start, table.end));
    assert_eq!(table("100:50:900:1"), Some((100, 150)));
    for bad in [
        "",
        "100",
        "100:50",
        "100:50:900:2",
        "x:50:900:1",
        "100:0:0:1",
        "990:11:900:1",
        "100:-1:900:1",
    ] {
        assert_eq!(table(bad), None, "{bad}");
    }
}

#[test]
fn a_table_in_a_tar() {
    let json = br#"{"version":1,"entries":[{"type":"reg","name":"a","size":3,"offset":7}]}"#;
    let tar = |name: &str| {
        let mut writer = Writer::new(Vec::new());
        let mut entry = crate::tar::Entry::new(Kind::Regular, name);
        entry.size = json.len() as u64;
        writer.append(&entry, &mut &json[..]).unwrap();
        writer.finish().unwrap()
    };
    let table = Table {
        format: Format::Estargz,
        ..TABLE_AT
    };
    let good = tar("stargz.index.json");
    let index = Index::read(table, &good[..]).unwrap();
    assert_eq!(index.file(b"a", 3), Some(vec![part(7, 10_000, 0, 3)]));
    assert!(Index::read(table, &tar("other")[..]).is_err());
    assert!(Index::read(table, &good[..550]).is_err());
}
