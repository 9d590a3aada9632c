//! Logs: files of a data root, which another engine may have written, and what journalctl exports, which anybody on the
//! machine may have.

use super::Target;
use entry::{Entry, Format};
use export::Parser;

#[path = "../../../crates/engine/src/logs/entry.rs"]
#[allow(dead_code, reason = "a part of what its crate uses")]
mod entry;
#[path = "../../../crates/engine/src/logs/export.rs"]
mod export;
#[path = "../../../crates/engine/src/logs/json_file.rs"]
mod json_file;
#[path = "../../../crates/engine/src/logs/local.rs"]
mod local;

pub const FILES: Target = Target {
    name: "log-files",
    run: files,
    seeds: file_seeds,
};

pub const JOURNAL: Target = Target {
    name: "journal",
    run: journal,
    seeds: journal_seeds,
};

/// The first byte says which form the rest has.
fn files(bytes: &[u8]) {
    let Some((form, bytes)) = bytes.split_first() else {
        return;
    };
    let is_local = form % 2 == 0;
    let format: &dyn Format = if is_local { &local::Local } else { &json_file::JsonFile };
    let (mut rest, mut raw, mut at) = (bytes, Vec::new(), 0);
    loop {
        raw.clear();
        let used = usize::try_from(format.next(&mut rest, &mut raw)).expect("no more than there is");
        assert!(
            raw.capacity() <= 2 * bytes.len().max(64),
            "more memory than the file has"
        );
        if used == 0 {
            return;
        }
        // What is taken is there, without its frame.
        let whole = &bytes[at..at + used];
        let inner = if is_local { &whole[4..used - 4] } else { whole };
        assert!(inner == raw);
        at += used;
        if let Some(entry) = format.parse(&raw) {
            assert!(entry.text.len() <= 3 * raw.len());
        }
    }
}

fn file_seeds() -> Vec<Vec<u8>> {
    let one = b"\x0a\x06stdout\x10\xd4\xd3\xc7\xd8\xfc\x87\xe1\xf5\x18\x1a\x03one";
    let part =
        b"\x0a\x06stderr\x10\x02\x1a\x03two\x20\x01\x2a\x0b\x08\x01\x12\x057727f\x18\x02\x32\x06\x0a\x01k\x12\x01v";
    let framed = |entry: &[u8]| {
        let length = (entry.len() as u32).to_be_bytes();
        [&length, entry, &length].concat()
    };
    let line = br#"{"log":"a\u0000b\n","stream":"stderr","attrs":{"k":"v"},"time":"2026-11-23T18:20:48.5Z"}"#;
    vec![
        [&[0][..], &framed(one), &framed(part)].concat(),
        [&[1][..], line, b"\n", line, b"\n"].concat(),
    ]
}

/// The first byte says where the rest is cut: however an export comes, it says the same.
fn journal(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let at = usize::from(*cut) * bytes.len() / 255;
    let whole = read(&[bytes]);
    assert!(whole == read(&[&bytes[..at], &bytes[at..]]));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(whole == read(&single));
    let size: usize = whole.iter().map(String::len).sum();
    // Each byte may come out as an escape of its own, beside a little for each entry.
    assert!(size <= 16 * bytes.len() + 200 * whole.len());
}

fn read(chunks: &[&[u8]]) -> Vec<String> {
    let (mut parser, mut seen) = (Parser::new(true), Vec::new());
    for chunk in chunks {
        let taken = parser.feed(chunk, &mut |exported| {
            seen.push(format!("{} {:?}", exported.cursor, exported.entry.as_ref().map(shown)));
            Ok(())
        });
        taken.expect("nothing fails that is only looked at");
    }
    seen
}

fn shown(entry: &Entry<'_>) -> String {
    let Entry {
        stream,
        time,
        text,
        newline,
        attrs,
    } = entry;
    format!("{stream:?} {time:?} {} {newline} {attrs:?}", text.escape_ascii())
}

fn journal_seeds() -> Vec<Vec<u8>> {
    let export = b"\x80__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1790000000123456\nPRIORITY=6\nMESSAGE=one\n_PID=7\nCOLOUR=blue\n\n\
        __CURSOR=c2\nPRIORITY=3\nMESSAGE\n\x05\0\0\0\0\0\0\0a\nb=c\nCONTAINER_PARTIAL_MESSAGE=true\n\n";
    vec![export.to_vec()]
}
