//! The images of a run, the same for the same seed: two that share their base, with every kind of file in them.

use oci::tar::{Entry, Kind, Reader, Time};
use serde_json::json;
use std::io::Read;
use std::sync::Arc;
use tests::image::Tar;
use tests::{Image, Layer};

/// An image, and its layers' tars, base first.
pub struct Made {
    pub image: Arc<Image>,
    pub tars: Vec<Arc<Vec<u8>>>,
}

/// Makes the images of a seed, the largest of `bytes` together with its base. The third is a later one of the first.
pub fn make(seed: u64, bytes: u64) -> [Made; 3] {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let base = tar(&mut random, "base", bytes / 2);
    let first = tar(&mut random, "first", bytes / 2);
    let second = tar(&mut random, "second", bytes / 4);
    let third = later(&first);
    let (lower, base) = (Layer::gzip(&base), Arc::new(base));
    let make = |upper: Layer, tar: Vec<u8>, cmd: &str| Made {
        image: Arc::new(Image::new(vec![lower.clone(), upper], json!({"Cmd": [cmd]}))),
        tars: vec![base.clone(), Arc::new(tar)],
    };
    [
        make(Layer::gzip(&first), first, "first"),
        make(Layer::plain(&second), second, "second"),
        make(Layer::gzip(&third), third, "third"),
    ]
}

fn tar(random: &mut Random, name: &str, bytes: u64) -> Vec<u8> {
    let mut tar = Tar::default();
    let mut left = bytes;
    for number in 0u32.. {
        let directory = format!("{name}/{}", number % 9);
        if number < 9 {
            tar = tar.dir(&directory, 0o755);
        }
        // Many small ones, and now and then one that takes a good part of what is left.
        let size = match random.below(12) {
            0 => left / 3,
            _ => random.below(20_000),
        };
        let path = format!("{directory}/file{number}");
        let mut entry = Entry::new(Kind::Regular, path.clone());
        entry.mode = [0o644, 0o755, 0o600, 0o4755][number as usize % 4];
        (entry.uid, entry.gid) = (number % 3 * 1000, number % 2 * 50);
        entry.size = size.min(left);
        entry.mtime = Time {
            seconds: 1_600_000_000 + i64::from(number),
            nanoseconds: 0,
        };
        if number % 10 == 3 {
            entry.xattrs = vec![(b"user.note".to_vec(), b"kept".to_vec())];
        }
        tar = tar.entry(&entry, &random.bytes(entry.size));
        left -= entry.size;
        match number % 16 {
            5 => tar = tar.hard_link(&format!("{directory}/hard{number}"), &path),
            9 => tar = tar.symlink(&format!("{directory}/soft{number}"), &format!("file{number}")),
            12 if name != "base" => tar = tar.file(&format!("base/{}/.wh.file{number}", number % 9), 0o600, b""),
            _ => {}
        }
        if left == 0 && number >= 9 {
            break;
        }
    }
    tar.bytes()
}

/// The same layer with some files changed, some only in their mode or owner, and the most as they are.
fn later(tar: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(tar);
    let mut later = Tar::default();
    let mut number = 0;
    while let Some(mut entry) = reader.next_entry().expect("a tar that was made here") {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).expect("it is in memory");
        if entry.kind == Kind::Regular && !entry.name.windows(4).any(|part| part == b".wh.") {
            number += 1;
            let middle = content.len() / 2;
            match number % 7 {
                1 => content.splice(middle..middle, *b"new text").for_each(drop),
                3 => content.iter_mut().skip(middle).take(50).for_each(|byte| *byte = !*byte),
                4 => entry.mode ^= 0o011,
                5 => entry.uid += 1,
                _ => {}
            }
            entry.size = content.len() as u64;
        }
        later = later.entry(&entry, &content);
    }
    later.bytes()
}

/// Xorshift: enough for content, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Half of it compresses, as files do.
    fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let word = self.next().to_le_bytes();
            bytes.extend_from_slice(&word);
            bytes.extend_from_slice(&[word[0]; 8]);
        }
        bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        bytes
    }
}
