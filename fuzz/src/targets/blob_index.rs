//! The end of a layer's blob, and the table of contents that it points to: whatever is read by it lies before it, and is a
//! file's from its first byte to its last.

use super::Target;
use oci::blob_index::{FOOTER, Format, Index, Table};
use oci::tar::{Entry, Kind, Writer};
use std::io::BufReader;

pub const TARGET: Target = Target {
    name: "blob-index",
    run,
    seeds,
};

/// The blob is a megabyte; of the input, the first byte says what the rest is.
const SIZE: u64 = 1 << 20;

fn run(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else {
        return;
    };
    let format = match kind % 3 {
        0 => Format::ZstdChunked,
        1 => Format::Estargz,
        _ => {
            let last = &rest[rest.len().saturating_sub(FOOTER as usize)..];
            if let Some(table) = Table::find(last, SIZE) {
                assert!(table.start < table.end && table.end <= SIZE);
            }
            return;
        }
    };
    let table = Table {
        format,
        start: SIZE / 2,
        end: SIZE,
    };
    let Ok(index) = Index::read(table, rest) else { return };
    // However it comes, it says the same.
    let again = Index::read(table, BufReader::with_capacity(5, rest)).expect("it could be read before");
    for name in [&b"a"[..], b"b/c", b""] {
        for size in [1, 5, 4096, 1 << 40] {
            let parts = index.file(name, size);
            assert_eq!(parts, again.file(name, size));
            let Some(parts) = parts else { continue };
            assert_eq!(parts.iter().map(|part| part.size).sum::<u64>(), size);
            assert!(
                parts
                    .iter()
                    .all(|part| part.start < part.end && part.end <= table.start)
            );
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let json = concat!(
        r#"{"version":1,"entries":[{"type":"dir","name":"b/","xattrs":{"a\"":"]}"}},"#,
        r#"{"type":"reg","name":"./a","size":5,"offset":77,"innerOffset":9},"#,
        r#"{"type":"reg","name":"b/c","size":4096,"offset":99,"chunkSize":4000},"#,
        r#"{"type":"chunk","name":"b/c","offset":200,"chunkOffset":4000,"chunkSize":96}]}"#
    );
    let mut writer = Writer::new(Vec::new());
    let mut entry = Entry::new(Kind::Regular, "stargz.index.json");
    entry.size = json.len() as u64;
    writer.append(&entry, &mut json.as_bytes()).expect("memory takes it");
    let tar = writer.finish().expect("memory takes it");
    let mut gzip = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0".to_vec();
    gzip.extend_from_slice(b"0000000000001234STARGZ\x01\0\0\xff\xff\0\0\0\0\0\0\0\0");
    let zstd = |numbers: &[u64]| {
        let mut footer = vec![0x50, 0x2a, 0x4d, 0x18, 8 * numbers.len() as u8 + 8, 0, 0, 0];
        footer.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        footer.extend_from_slice(b"GNUlInUx");
        footer
    };
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    vec![
        with(0, json.as_bytes()),
        with(1, &tar),
        with(2, &gzip),
        with(2, &zstd(&[100, 50, 900, 1])),
        with(2, &zstd(&[100, 50, 900, 1, 150, 9, 99])),
    ]
}
