//! Blobs of layers with an index of the places in them, made by their specifications: eStargz (containerd's
//! stargz-snapshotter, `docs/estargz.md`) and zstd:chunked (containers/storage, `pkg/chunked`).

use crate::image::{Layer, Tar};
use flate2::Compression;
use flate2::write::GzEncoder;
use oci::tar::{Kind, Reader, Tap};
use serde_json::{Value, json};
use std::io::{Read, Result, Write};

/// Bytes of a file in a chunk; few, so that files have several.
const CHUNK: usize = 256 << 10;

/// A tar in parts: raw bytes, and after each but the last a file's name and content.
struct Parts {
    raw: Vec<Vec<u8>>,
    files: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Raw(Vec<u8>);

impl Tap for Raw {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Parts {
    fn of(tar: &[u8]) -> Parts {
        let mut reader = Reader::with_tap(tar, Raw::default());
        let (mut raw, mut files) = (Vec::new(), Vec::new());
        while let Some(entry) = reader.next_entry().expect("a tar that was written here") {
            if entry.kind == Kind::Regular && entry.size > 0 {
                raw.push(std::mem::take(&mut reader.tap_mut().0));
                let mut content = Vec::new();
                reader.read_to_end(&mut content).expect("memory is read");
                files.push((String::from_utf8_lossy(&entry.name).into_owned(), content));
            }
        }
        let (_, tap, _) = reader.finish().expect("a tar that was written here");
        raw.push(tap.0);
        Parts { raw, files }
    }

    /// Packs each part and each chunk by itself; `entries` tell where the chunks lie.
    fn pack(&self, pack: impl Fn(&[u8]) -> Vec<u8>) -> (Vec<u8>, Vec<Value>) {
        let (mut blob, mut entries) = (Vec::new(), Vec::new());
        for (at, raw) in self.raw.iter().enumerate() {
            blob.extend(pack(raw));
            let Some((name, content)) = self.files.get(at) else {
                break;
            };
            let chunks = content.chunks(CHUNK);
            let several = chunks.len() > 1;
            for (number, chunk) in chunks.enumerate() {
                let mut entry = json!({"name": name, "type": "chunk", "offset": blob.len()});
                if number == 0 {
                    entry["type"] = "reg".into();
                    entry["size"] = content.len().into();
                } else {
                    entry["chunkOffset"] = (number * CHUNK).into();
                }
                if several {
                    entry["chunkSize"] = chunk.len().into();
                }
                entries.push(entry);
                blob.extend(pack(chunk));
            }
        }
        (blob, entries)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    gzip.write_all(bytes).expect("memory takes what is written");
    gzip.finish().expect("memory takes what is written")
}

/// Has somebody change the index before it is written.
pub type Change<'a> = &'a dyn Fn(&mut Vec<Value>);

/// The layer of a tar as eStargz, which puts the index into the tar as a file. No annotation tells of it.
pub fn estargz(tar: &[u8], change: Change<'_>) -> Layer {
    let mut parts = Parts::of(tar);
    // The index is the last entry, so the end of the archive comes after it.
    let last = parts.raw.last_mut().expect("a tar has an end");
    last.truncate(last.len() - 1024);
    let (mut blob, mut entries) = parts.pack(gzip);
    change(&mut entries);
    let offset = blob.len();
    let index = json!({"version": 1, "entries": entries}).to_string();
    blob.extend(gzip(
        &Tar::default()
            .file("stargz.index.json", 0o444, index.as_bytes())
            .bytes(),
    ));
    blob.extend_from_slice(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0");
    blob.extend_from_slice(format!("{offset:016x}STARGZ").as_bytes());
    blob.extend_from_slice(b"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0");
    let mut whole = Vec::new();
    let mut plain = flate2::read::MultiGzDecoder::new(&blob[..]);
    plain.read_to_end(&mut whole).expect("it was packed here");
    Layer::of(&whole, blob, "+gzip")
}

fn skippable(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("an index is small");
    [&[0x50, 0x2a, 0x4d, 0x18][..], &length.to_le_bytes(), bytes].concat()
}

/// The layer of a tar as zstd:chunked; an annotation tells where the index is, or only the last frame.
pub fn zstd_chunked(tar: &[u8], annotated: bool, change: Change<'_>) -> Layer {
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("memory takes what is written");
    let (mut blob, mut entries) = Parts::of(tar).pack(zstd);
    change(&mut entries);
    let index = json!({"version": 1, "entries": entries}).to_string();
    let packed = zstd(index.as_bytes());
    // The last three are tar-split's, which is in a frame of its own, or not there.
    let numbers = [blob.len() + 8, packed.len(), index.len(), 1, 0, 0, 0];
    blob.extend(skippable(&packed));
    let mut footer: Vec<u8> = numbers
        .iter()
        .flat_map(|number| (*number as u64).to_le_bytes())
        .collect();
    footer.extend_from_slice(b"GNUlInUx");
    blob.extend(skippable(&footer));
    let mut layer = Layer::of(tar, blob, "+zstd");
    if annotated {
        let position = numbers[..4].iter().map(usize::to_string).collect::<Vec<_>>().join(":");
        let key = "io.github.containers.zstd-chunked.manifest-position";
        layer.annotations.insert(key.into(), position);
    }
    layer
}
