//! What the tests share: a store in a temporary directory, tars made by hand, layers made of them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use oci::tar::{Entry, Kind, Time, Writer};
use std::path::{Path, PathBuf};
use store::{ChainId, LayerId, Store};

/// Says whether this test can run as root; says so if not.
pub fn root() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root");
        return false;
    }
    true
}

/// A temporary directory that unmounts what a failed test left mounted in it.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for at in table.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(at).starts_with(self.0.path()) {
                let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// A data root of its own, and the store that has it.
pub struct Root {
    pub store: Store,
    pub dir: Scratch,
}

impl Root {
    pub fn new() -> Root {
        let dir = Scratch::new();
        Root {
            store: Store::open(dir.path()).unwrap(),
            dir,
        }
    }

    /// Opens the same data root anew, as after a restart.
    pub fn reopen(self) -> Root {
        let Root { store, dir } = self;
        drop(store);
        Root {
            store: Store::open(dir.path()).unwrap(),
            dir,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn layer(&self, parent: Option<&ChainId>, tar: &[u8]) -> store::Result<LayerId> {
        self.store.layers.stage(parent)?.unpack(tar)?.commit_as_is()
    }

    pub fn diff(&self, layer: &LayerId) -> PathBuf {
        self.store.layers.diff_path(layer.chain_id()).unwrap()
    }

    /// An image of these layers, stored, with its ID.
    pub fn image(&self, layers: &[&LayerId]) -> store::ImageId {
        let diffs: Vec<String> = layers
            .iter()
            .map(|l| self.store.layers.info(l.chain_id()).unwrap().diff_id.0.to_string())
            .collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
            "created": "2020-01-02T03:04:05Z",
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": diffs.iter().map(|_| serde_json::json!({"created_by": "test"})).collect::<Vec<_>>(),
        });
        self.store
            .images
            .put(&serde_json::to_vec(&config).unwrap(), layers.last().copied())
            .unwrap()
    }

    /// Directories in `overlay2/`, without `l`.
    pub fn overlays(&self) -> Vec<String> {
        let mut names: Vec<String> = names(&self.path().join("overlay2"));
        names.retain(|name| name != "l");
        names
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A tar put together entry by entry.
pub struct Tar(Writer<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(Writer::new(Vec::new()))
    }

    pub fn add(mut self, entry: Entry, content: &[u8]) -> Tar {
        let entry = Entry {
            size: content.len() as u64,
            ..entry
        };
        self.0.append(&entry, &mut &content[..]).unwrap();
        self
    }

    pub fn file(self, name: &str, content: &str) -> Tar {
        self.add(entry(Kind::Regular, name, 0o644), content.as_bytes())
    }

    pub fn dir(self, name: &str) -> Tar {
        self.add(entry(Kind::Directory, name, 0o755), b"")
    }

    pub fn link(self, kind: Kind, name: &str, target: &str) -> Tar {
        self.add(
            Entry {
                link: target.into(),
                ..entry(kind, name, 0o777)
            },
            b"",
        )
    }

    pub fn done(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

pub fn entry(kind: Kind, name: &str, mode: u32) -> Entry {
    Entry {
        mode,
        mtime: Time {
            seconds: 1_600_000_000,
            nanoseconds: 0,
        },
        ..Entry::new(kind, name)
    }
}
