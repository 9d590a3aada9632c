//! The journal's protocol against a socket of the test's own, and a reader of it written from its description.

use super::*;
use crate::shim::log::{Log, Moment, Partial};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{IoSliceMut, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;

type Fields = Vec<(String, Vec<u8>)>;

/// Reads a datagram as journald does; nothing if it is malformed.
fn decode(mut data: &[u8]) -> Option<Fields> {
    let mut fields = Vec::new();
    while !data.is_empty() {
        let end = data.iter().position(|byte| *byte == b'\n')?;
        let line = &data[..end];
        data = &data[end + 1..];
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], line[at + 1..].to_vec()),
            None => {
                let length = u64::from_le_bytes(data.get(..8)?.try_into().ok()?);
                let length = usize::try_from(length).ok()?;
                let value = data.get(8..8 + length)?.to_vec();
                if *data.get(8 + length)? != b'\n' {
                    return None;
                }
                data = &data[8 + length + 1..];
                (line, value)
            }
        };
        fields.push((String::from_utf8(name.to_vec()).ok()?, value));
    }
    Some(fields)
}

/// What arrives at a socket: in the datagram, or in a sealed memory file.
fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut data = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut data)], &mut ancillary, flags).unwrap();
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    match fds.into_iter().next() {
        None => data[..read.bytes].to_vec(),
        Some(fd) => {
            assert_eq!(read.bytes, 0);
            let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
            assert!(seals.contains(SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE));
            let mut file = std::fs::File::from(fd);
            file.rewind().unwrap();
            let mut text = Vec::new();
            file.read_to_end(&mut text).unwrap();
            text
        }
    }
}

fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let mut found = fields.iter().filter(|(field, _)| field == name);
    let value = found.next().map(|(_, value)| &value[..]);
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

fn identity() -> BTreeMap<String, String> {
    [
        ("CONTAINER_ID", "0123456789ab"),
        ("CONTAINER_NAME", "web"),
        ("EVIL", "x\nMESSAGE=injected\n\nPRIORITY=0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn open(path: &Path, buffer: Option<u64>) -> Journal {
    Journal::open_at(path.to_str().unwrap(), &identity(), buffer).unwrap()
}

fn entry(stream: u8, line: &[u8]) -> Entry<'_> {
    Entry {
        stream,
        line,
        time: Moment {
            seconds: 951_782_400,
            nanoseconds: 500_000_000,
        },
        partial: None,
    }
}

#[test]
fn fields_are_dockers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut journal = open(&path, None);
    journal.write(&entry(1, b"one")).unwrap();
    let part = |ordinal, last| {
        Some(Partial {
            id: "abc",
            ordinal,
            last,
        })
    };
    for (ordinal, last) in [(1, false), (2, true)] {
        let partial = part(ordinal, last);
        journal
            .write(&Entry {
                partial,
                ..entry(2, b"two")
            })
            .unwrap();
    }
    let got: Vec<Fields> = (0..3).map(|_| decode(&receive(&socket)).unwrap()).collect();
    let of = |index: usize, name: &str| value(&got[index], name).map(|v| String::from_utf8(v.to_vec()).unwrap());
    for (name, want) in [
        ("PRIORITY", "6"),
        ("MESSAGE", "one"),
        ("CONTAINER_ID", "0123456789ab"),
        ("CONTAINER_NAME", "web"),
        ("EVIL", "x\nMESSAGE=injected\n\nPRIORITY=0"),
        ("SYSLOG_TIMESTAMP", "2000-02-29T00:00:00.5Z"),
        ("CONTAINER_LOG_ORDINAL", "1"),
    ] {
        assert_eq!(of(0, name).as_deref(), Some(want), "{name}");
    }
    assert_eq!(of(0, "CONTAINER_PARTIAL_ID"), None);
    for (index, ordinal, last, more) in [(1, "1", "false", Some("true")), (2, "2", "true", None)] {
        assert_eq!(of(index, "PRIORITY").as_deref(), Some("3"));
        assert_eq!(of(index, "CONTAINER_PARTIAL_ID").as_deref(), Some("abc"));
        assert_eq!(of(index, "CONTAINER_PARTIAL_ORDINAL").as_deref(), Some(ordinal));
        assert_eq!(of(index, "CONTAINER_PARTIAL_LAST").as_deref(), Some(last));
        assert_eq!(of(index, "CONTAINER_PARTIAL_MESSAGE").as_deref(), more);
    }
    let epochs: Vec<_> = (0..3).map(|index| of(index, "CONTAINER_LOG_EPOCH").unwrap()).collect();
    assert!(epochs[0].len() == 64 && epochs.iter().all(|epoch| *epoch == epochs[0]));
}

/// Whatever a container writes is one value of one field.
#[test]
fn output_makes_no_field() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut journal = open(&path, None);
    journal.write(&entry(1, b"")).unwrap();
    let usual = decode(&receive(&socket)).unwrap().len();
    let mut state = 1u32;
    let pieces: [&[u8]; 8] = [
        b"\n",
        b"=",
        b"PRIORITY=0",
        b"\0",
        b"MESSAGE",
        b"\xff\xfe",
        b"\x01\0\0\0\0\0\0\0",
        b"\r",
    ];
    for _ in 0..5000 {
        let mut line = Vec::new();
        for _ in 0..state % 7 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            line.extend_from_slice(pieces[(state >> 13) as usize % pieces.len()]);
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) ^ 5;
        journal.write(&entry(1, &line)).unwrap();
        let got = decode(&receive(&socket)).unwrap();
        assert_eq!(got.len(), usual, "{line:?}");
        assert_eq!(value(&got, "MESSAGE"), Some(&line[..]));
        assert_eq!(value(&got, "PRIORITY"), Some(&b"6"[..]));
    }
}

#[test]
fn what_is_too_large_goes_as_a_sealed_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let label = "l".repeat(700_000);
    let fields = BTreeMap::from([("LABEL".to_owned(), label.clone())]);
    let mut journal = Journal::open_at(path.to_str().unwrap(), &fields, None).unwrap();
    for line in [&b"first"[..], b"sec\nond"] {
        journal.write(&entry(2, line)).unwrap();
        let got = decode(&receive(&socket)).unwrap();
        assert_eq!(value(&got, "MESSAGE"), Some(line));
        assert_eq!(value(&got, "LABEL"), Some(label.as_bytes()));
    }
}

#[test]
fn a_journal_that_is_slow_makes_the_container_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut log = Log::of(Box::new(open(&path, None)));
    assert!(log.waits_for().is_none() && !log.is_busy());
    let mut written = 0;
    while !log.is_full() {
        let lines: String = (written..written + 50).map(|n| format!("{n}\n")).collect();
        log.write(1, lines.as_bytes()).unwrap();
        written += 50;
        assert!(written < 100_000, "the kernel's queue has no end");
    }
    assert!(log.waits_for().is_some() && log.is_busy());
    let mut read = 0;
    while read < written {
        let got = decode(&receive(&socket)).unwrap();
        assert_eq!(value(&got, "MESSAGE").unwrap(), read.to_string().as_bytes());
        read += 1;
        log.resume();
    }
    assert!(!log.is_full() && !log.is_busy());
}

#[test]
fn non_blocking_loses_what_exceeds_its_buffer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut journal = open(&path, Some(20_000));
    let (mut kept, mut lost) = (Vec::new(), 0);
    for number in 0..5000u32 {
        match journal.write(&entry(1, number.to_string().as_bytes())) {
            Ok(()) => kept.push(number),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                lost += 1;
            }
        }
        assert!(!journal.is_full() && journal.waiting_bytes() <= 20_000);
    }
    assert!(lost > 0 && journal.is_busy());
    for number in &kept {
        let got = decode(&receive(&socket)).unwrap();
        assert_eq!(value(&got, "MESSAGE").unwrap(), number.to_string().as_bytes());
        journal.resume();
    }
    assert!(!journal.is_busy());
}

#[test]
fn a_journal_that_went_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    assert!(Journal::open_at(path.to_str().unwrap(), &identity(), None).is_err());
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut journal = open(&path, None);
    journal.write(&entry(1, b"one")).unwrap();
    assert_eq!(value(&decode(&receive(&socket)).unwrap(), "MESSAGE"), Some(&b"one"[..]));
    drop(socket);
    // First the socket is dead, then its name is gone; the container goes on.
    assert!(journal.write(&entry(1, b"lost")).is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(journal.write(&entry(1, b"lost")).is_err());
    assert!(!journal.is_full() && !journal.is_busy() && journal.waits_for().is_none());
    let socket = UnixDatagram::bind(&path).unwrap();
    journal.write(&entry(1, b"two")).unwrap();
    let got = decode(&receive(&socket)).unwrap();
    assert_eq!(value(&got, "MESSAGE"), Some(&b"two"[..]));
    // What is missing shows.
    assert_eq!(value(&got, "CONTAINER_LOG_ORDINAL"), Some(&b"4"[..]));
}

#[test]
fn what_waits_for_a_journal_that_goes_is_lost_and_the_container_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut log = Log::of(Box::new(open(&path, None)));
    while !log.is_full() {
        log.write(1, b"line\n").unwrap();
    }
    drop(socket);
    log.resume();
    assert!(!log.is_full() && !log.is_busy());
}
