//! Checks of the path a layer takes: decompressed, hashed, taken apart, unpacked, put together again.

use super::{Checked, Said, Scratch, ensure};
use oci::tar::{Entry, Kind, Reader, Time, Writer};
use oci::tar_split::{Crc64, Splitter, assemble};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use store::hash::Hashing;
use store::{Decompressed, Store};

/// 300 lines of text, by the programs of that name: `gzip -9n` and `zstd -19 --check`.
const LINES_GZIP: &[u8] = include_bytes!("lines.gz");
const LINES_ZSTD: &[u8] = include_bytes!("lines.zst");
const LINES_SHA256: &str = "sha256:870cb1bc1698ea8197aea519159d5cb20a76b6a8a686f323f0489b51992e97b1";

/// Known answers (FIPS 180-4's examples), in one piece and as a stream.
pub fn sha256() -> Checked {
    let known: [(&[u8], &str); 3] = [
        (
            b"",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            b"abc",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ];
    for (text, expected) in known {
        let got = store::hash::sha256(text).to_string();
        ensure(got == expected, || {
            format!("{} bytes: {got}, not {expected}", text.len())
        })?;
    }
    let million = "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    let mut stream = Hashing::new(std::io::repeat(b'a').take(1_000_000));
    std::io::copy(&mut stream, &mut std::io::sink())?;
    let (got, bytes) = stream.finish();
    ensure(bytes == 1_000_000 && got.to_string() == million, || {
        format!("a million a: {got}")
    })?;
    Ok(Said::Ok("4 known answers".into()))
}

/// What gzip made is read, and what we make is read back.
pub fn gzip() -> Checked {
    known(LINES_GZIP)?;
    let text = noise(300_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&text)?;
    let packed = encoder.finish()?;
    let mut back = Vec::new();
    Decompressed::open(&packed[..])?.read_to_end(&mut back)?;
    ensure(back == text, || "what was compressed is not what comes back".to_owned())?;
    let mut broken = packed.clone();
    let last = broken.len() - 5;
    broken[last] ^= 1;
    let refused = Decompressed::open(&broken[..])?.read_to_end(&mut Vec::new()).is_err();
    ensure(refused, || "a wrong checksum is not noticed".to_owned())?;
    Ok(Said::Ok(format!(
        "gzip's own file; {} bytes as {} and back",
        text.len(),
        packed.len()
    )))
}

/// What zstd made is read; a damaged frame is refused.
pub fn zstd() -> Checked {
    known(LINES_ZSTD)?;
    let mut broken = LINES_ZSTD.to_vec();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let refused = Decompressed::open(&broken[..])?.read_to_end(&mut Vec::new()).is_err();
    ensure(refused, || "a wrong checksum is not noticed".to_owned())?;
    Ok(Said::Ok("zstd's own file".into()))
}

fn known(packed: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = Vec::new();
    Decompressed::open(packed)?.read_to_end(&mut text)?;
    let digest = store::hash::sha256(&text).to_string();
    ensure(digest == LINES_SHA256, || {
        format!("{} bytes came out, with {digest}", text.len())
    })?;
    Ok(())
}

/// A tar is taken apart and put together again bit for bit, in memory.
pub fn tar_split() -> Checked {
    let tar = archive()?;
    let mut reader = Reader::with_tap(&tar[..], Splitter::new(Vec::new()));
    let mut files = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        let (mut content, mut crc) = (Vec::new(), Crc64::default());
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                break;
            }
            crc.update(chunk);
            content.extend_from_slice(chunk);
            let n = chunk.len();
            reader.consume(n)?;
        }
        let size = content.len() as u64;
        reader.tap_mut().file(&entry.name, size, crc.value())?;
        files.insert(entry.name, content);
    }
    let (_, split, bytes) = reader.finish()?;
    let lines = split.finish()?;
    let mut again = Vec::new();
    let open = |name: &[u8]| {
        let content = files.get(name).cloned();
        content
            .map(std::io::Cursor::new)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    assemble(&mut &lines[..], open, &mut again)?;
    ensure(again == tar && bytes == tar.len() as u64, || {
        "the tar that comes back is another".to_owned()
    })?;
    Ok(Said::Ok(format!(
        "{} bytes, {} entries, and back",
        tar.len(),
        files.len()
    )))
}

/// A layer is unpacked into a store of its own, looked at, and made into its tar again.
pub fn layer() -> Checked {
    if !rustix::process::geteuid().is_root() {
        return Ok(Said::Skipped("only root can give files to others".into()));
    }
    let tar = archive()?;
    let scratch = Scratch::new("layer")?;
    let store = Store::open(&scratch.0.join("root"))?;
    let layer = store.layers.stage(None)?.unpack(&tar[..])?.commit_as_is()?;
    let diff = store.layers.diff_path(layer.chain_id())?;
    let file = std::fs::metadata(diff.join("bin/tool"))?;
    ensure(file.mode() & 0o7777 == 0o4755, || {
        format!("a file's mode is {:o}", file.mode())
    })?;
    ensure(file.uid() == 1000 && file.gid() == 70_000, || {
        format!("a file is {}:{}'s", file.uid(), file.gid())
    })?;
    let late = [LATE, i64::from(i32::MAX)];
    ensure(late.contains(&file.mtime()), || {
        format!("a file's time is {}", file.mtime())
    })?;
    ensure(std::fs::read(diff.join("hard"))? == noise(70_000), || {
        "a file's content differs".to_owned()
    })?;
    ensure(std::fs::read_link(diff.join("soft"))?.as_os_str() == "bin/tool", || {
        "a link differs".to_owned()
    })?;
    let mut again = Vec::new();
    store.layers.write_tar(&layer, &mut again)?;
    ensure(again == tar, || "the layer's tar does not come back".to_owned())?;
    let clamped = if file.mtime() == LATE {
        ""
    } else {
        ", its times held at 2038"
    };
    Ok(Said::Ok(format!(
        "{} bytes unpacked, durable, and back as a tar{clamped}",
        tar.len()
    )))
}

/// A day in 2042.
const LATE: i64 = 2_287_000_000;

fn archive() -> std::io::Result<Vec<u8>> {
    let mut tar = Writer::new(Vec::new());
    let mtime = Time {
        seconds: LATE,
        nanoseconds: 123_456_789,
    };
    let tool = noise(70_000);
    let long = format!("bin/{}", "long-name-".repeat(20));
    let entries = [
        (Kind::Directory, "bin/", 0o755, "", &b""[..]),
        (Kind::Regular, "bin/tool", 0o4755, "", &tool[..]),
        (Kind::Regular, "empty", 0o600, "", b""),
        (Kind::HardLink, "hard", 0o4755, "bin/tool", b""),
        (Kind::Symlink, "soft", 0o777, "bin/tool", b""),
        (Kind::Regular, long.as_str(), 0o644, "", b"x"),
    ];
    for (kind, name, mode, link, mut content) in entries {
        let entry = Entry {
            mode,
            uid: 1000,
            gid: 70_000,
            mtime,
            link: link.into(),
            size: content.len() as u64,
            ..Entry::new(kind, name)
        };
        tar.append(&entry, &mut content)?;
    }
    tar.finish()
}

/// Bytes that repeat a little, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x0f
    };
    (0..length).map(|_| next()).collect()
}
