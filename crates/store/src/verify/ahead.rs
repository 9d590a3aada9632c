//! Reads ahead in a layer: a thread opens files before their turn and has the kernel read them, so that a disk always has
//! something to do while what it gave is hashed, and small files come as fast as a large one.
//!
//! Opening waits for directories and inodes, which come behind all that was asked for before; meanwhile the other
//! thread has that to hash. Bounded by descriptors and by bytes.

use crate::error::{Doing, Result};
use crate::rebuild::{Passing, open};
use oci::tar_split::{AssembleError, Lines, Piece};
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};

/// Files that are opened before their turn at most.
const FILES: usize = 128;

/// Bytes of them that the kernel was asked for at most; they are in the page cache.
const BYTES: u64 = 8 << 20;

/// A piece of a layer's tar, with its file if contents are read.
pub(super) struct Next {
    pub piece: Piece,
    pub file: Option<io::Result<Passing>>,
    bytes: u64,
}

/// What the thread found so far.
pub(super) struct Ahead {
    from: Receiver<io::Result<Next>>,
    room: Arc<Room>,
}

impl Ahead {
    /// Starts on the layer whose directory is `root`.
    pub fn start<R>(root: OwnedFd, shown: &Path, lines: Lines<R>, deep: bool) -> Result<Ahead>
    where
        R: BufRead + Send + 'static,
    {
        let (to, from) = sync_channel(files());
        let room = Arc::new(Room::default());
        let there = Arc::clone(&room);
        std::thread::Builder::new()
            .name("read-ahead".into())
            .stack_size(128 * 1024)
            .spawn(move || look(&root, lines, deep, &to, &there))
            .doing("start a thread to read", shown)?;
        Ok(Ahead { from, room })
    }

    /// The next piece in order; nothing at the end.
    pub fn next(&self) -> io::Result<Option<Next>> {
        let Ok(next) = self.from.recv() else { return Ok(None) };
        let next = next?;
        self.room.give(next.bytes);
        Ok(Some(next))
    }
}

/// The thread must not wait for room when nobody is there any more.
impl Drop for Ahead {
    fn drop(&mut self) {
        self.room.close();
    }
}

fn look<R: BufRead>(root: &OwnedFd, mut lines: Lines<R>, deep: bool, to: &SyncSender<io::Result<Next>>, room: &Room) {
    loop {
        let next = match lines.next_piece() {
            Ok(None) => return,
            Ok(Some(piece)) => Ok(prepare(root, piece, deep)),
            Err(AssembleError::Read { source, .. }) => Err(source),
            Err(other) => Err(io::Error::new(io::ErrorKind::InvalidData, other.to_string())),
        };
        let (over, bytes) = next.as_ref().map_or((true, 0), |next| (false, next.bytes));
        // An error at the other end is that it is not there any more.
        if !room.take(bytes) || to.send(next).is_err() || over {
            return;
        }
    }
}

fn prepare(root: &OwnedFd, piece: Piece, deep: bool) -> Next {
    let mut next = Next {
        piece,
        file: None,
        bytes: 0,
    };
    match &next.piece {
        Piece::Raw(raw) => next.bytes = raw.len() as u64,
        Piece::File { name, size, .. } if deep && *size > 0 => {
            let mut file = open(root.as_fd(), name);
            if let Ok(file) = &mut file {
                next.bytes = file.will_need(*size);
            }
            next.file = Some(file);
        }
        Piece::File { .. } => {}
    }
    next
}

/// Descriptors are shared with all else that the process does.
fn files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    usize::try_from(limit.unwrap_or(u64::MAX) / 8)
        .unwrap_or(FILES)
        .clamp(8, FILES)
}

/// How many bytes may be asked for.
#[derive(Default)]
struct Room {
    taken: Mutex<Taken>,
    changed: Condvar,
}

#[derive(Default)]
struct Taken {
    bytes: u64,
    closed: bool,
}

impl Room {
    /// Waits until there is room, or all of it; says if anybody wants it still.
    fn take(&self, bytes: u64) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(|e| e.into_inner());
        while !taken.closed && taken.bytes > 0 && taken.bytes + bytes > BYTES {
            taken = self.changed.wait(taken).unwrap_or_else(|e| e.into_inner());
        }
        taken.bytes += bytes;
        !taken.closed
    }

    fn give(&self, bytes: u64) {
        self.taken.lock().unwrap_or_else(|e| e.into_inner()).bytes -= bytes;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.taken.lock().unwrap_or_else(|e| e.into_inner()).closed = true;
        self.changed.notify_one();
    }
}
