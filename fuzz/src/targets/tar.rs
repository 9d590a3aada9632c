//! The tar reader with tar-split as its tap: what both keep must make the same bytes again.

use super::{Target, noise};
use oci::tar::{Entry, Kind, Reader, Time, Writer};
use oci::tar_split::{Crc64, Splitter, assemble, length};
use std::collections::VecDeque;
use std::io::Cursor;

pub const TARGET: Target = Target {
    name: "tar",
    run,
    seeds,
};

/// What can be told of a tar: tar-split, and the contents of its files in order.
pub fn take_apart(bytes: &[u8]) -> Result<(Vec<u8>, VecDeque<Vec<u8>>), oci::tar::TarError> {
    let mut reader = Reader::with_tap(bytes, Splitter::new(Vec::new()));
    let mut contents = VecDeque::new();
    while let Some(entry) = reader.next_entry()? {
        // As unpacking does it: only what lies in a file as it is in the tar is not kept raw.
        let holds = entry.kind == Kind::Regular && entry.sparse.is_none();
        let (mut content, mut crc) = (Vec::new(), Crc64::default());
        loop {
            let chunk = reader.chunk()?;
            let n = chunk.len();
            if n == 0 {
                break;
            }
            if holds {
                content.extend_from_slice(chunk);
                crc.update(chunk);
            }
            reader.consume(n)?;
        }
        let size = if holds { content.len() as u64 } else { 0 };
        assert!(!holds || size == entry.size);
        reader.tap_mut().file(&entry.name, size, crc.value())?;
        if size > 0 {
            contents.push_back(content);
        }
    }
    let (_, splitter, _) = reader.finish()?;
    Ok((splitter.finish()?, contents))
}

/// Sets the headers' checksums right, which mutation does not.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (bytes.to_vec(), 0usize);
    while let Some(block) = bytes
        .get_mut(at..at.saturating_add(512))
        .filter(|block| block.iter().any(|b| *b != 0))
    {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = String::from_utf8_lossy(&block[124..136]).into_owned();
        let size = u32::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0) as usize;
        let has_content = !matches!(block[156], b'1'..=b'6');
        at += 512 + if has_content { size.next_multiple_of(512) } else { 0 };
    }
    bytes
}

fn run(bytes: &[u8]) {
    let bytes = &sealed(bytes)[..];
    let Ok((lines, mut contents)) = take_apart(bytes) else {
        return;
    };
    assert_eq!(
        length(&lines[..]).expect("our own lines can be read"),
        bytes.len() as u64
    );
    let mut again = Vec::new();
    let open = |_: &[u8]| Ok(Cursor::new(contents.pop_front().expect("as many files as were taken")));
    assemble(&mut &lines[..], open, &mut again).expect("what was taken apart goes together");
    assert!(again == bytes, "the tar is another one");
}

/// A tar with one of each kind.
pub fn sample() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let long = format!("{}/{}", "n".repeat(200), "m".repeat(200));
    for (kind, name, link) in [
        (Kind::Directory, "d/", ""),
        (Kind::Regular, "d/file", ""),
        (Kind::Symlink, "d/link", "../file"),
        (Kind::HardLink, "d/hard", "d/file"),
        (Kind::Fifo, "d/fifo", ""),
        (Kind::CharDevice, "d/null", ""),
        (Kind::Regular, "d/.wh.gone", ""),
        (Kind::Regular, "d/.wh..wh..opq", ""),
        (Kind::Regular, &long, ""),
    ] {
        let mut entry = Entry::new(kind, name);
        entry.link = link.into();
        entry.mode = 0o755;
        entry.mtime = Time {
            seconds: 1_600_000_000,
            nanoseconds: 5,
        };
        let content = if kind == Kind::Regular {
            noise(1, 700)
        } else {
            Vec::new()
        };
        entry.size = content.len() as u64;
        if name == "d/file" {
            entry.xattrs = vec![(b"user.x".to_vec(), b"y\0z".to_vec())];
        }
        writer.append(&entry, &mut &content[..]).expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

/// Old GNU's sparse file, and one whose map is in its content.
fn sparse() -> Vec<Vec<u8>> {
    let block = |kind: u8, fields: &[(usize, &[u8])]| {
        let mut block = [0u8; 512];
        block[..4].copy_from_slice(b"hole");
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = kind;
        for (at, bytes) in fields {
            block[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    let gnu = [
        &block(
            b'S',
            &[
                (124, b"00000001000"),
                (257, b"ustar  \0"),
                (386, b"00000010000"),
                (398, b"00000001000"),
                (483, b"00000020000"),
            ],
        )[..],
        &[7; 512],
        &[0; 1024],
    ]
    .concat();
    let records: String = [
        "GNU.sparse.major=1",
        "GNU.sparse.minor=0",
        "GNU.sparse.realsize=8192",
        "GNU.sparse.name=hole",
    ]
    .iter()
    .map(|record| format!("{} {record}\n", record.len() + 4))
    .collect();
    let mut pax = records.clone().into_bytes();
    pax.resize(512, 0);
    let mut map = b"1\n4096\n512\n".to_vec();
    map.resize(512, 0);
    let size = format!("{:011o}", records.len());
    let in_content = [
        &block(b'x', &[(124, size.as_bytes()), (257, b"ustar\x0000")])[..],
        &pax,
        &block(b'0', &[(124, b"00000002000"), (257, b"ustar\x0000")])[..],
        &map,
        &[9; 512],
        &[0; 1024],
    ]
    .concat();
    vec![gnu, in_content]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = sparse();
    all.extend([sample(), vec![0; 1024], Vec::new()]);
    all
}
