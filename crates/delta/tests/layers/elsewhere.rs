//! Files of the base that have changed or are gone: what would be made from them comes from elsewhere, all else as ever.

use super::executables::elf;
use super::{LIMITS, Memory, file, make, noise, survey, tar, text};
use delta::{Contents, Delta, Error, FileId, State, Target, Wanted};
use std::io;
use std::sync::{Arc, Mutex};

/// A base of which one file is not whole, and the target, from which its entries come.
struct Damaged<'a> {
    base: Memory<'a>,
    file: u32,
    state: State,
    target: &'a [u8],
    /// Where the next byte of what was begun lies in the target's tar.
    at: usize,
    begun: Vec<(String, u64)>,
}

impl Contents for Damaged<'_> {
    fn read_base(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        assert!(file.entry != self.file || self.state == State::Changed, "it is gone");
        self.base.read_base(file, offset, into)?;
        if file.entry == self.file && self.state == State::Changed {
            // One byte, in the middle of what may be read of it.
            let change = 3_000u64.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = change.and_then(|at| into.get_mut(at)) {
                *byte ^= 0x20;
            }
        }
        Ok(())
    }

    fn read_target(&mut self, entry: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.base.read_target(entry, offset, into)
    }

    fn state(&mut self, file: FileId) -> State {
        match file.entry == self.file {
            true => self.state,
            false => State::Whole,
        }
    }

    fn begin_elsewhere(&mut self, wanted: &Wanted<'_>) -> io::Result<()> {
        assert_eq!(wanted.instead_of.entry, self.file);
        self.at = usize::try_from(wanted.at + wanted.done).unwrap();
        let name = String::from_utf8_lossy(wanted.name).into_owned();
        self.begun.push((name, wanted.size - wanted.done));
        Ok(())
    }

    fn read_elsewhere(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&self.target[self.at..self.at + into.len()]);
        self.at += into.len();
        Ok(())
    }
}

/// What comes out, from a byte of the target's on, and what came from elsewhere, of which there are no hints.
type Made = (Vec<u8>, Vec<(String, u64)>);

fn apply(old: &[u8], new: &[u8], delta: &[u8], lacks: (u32, State), skip: usize) -> Result<Made, Error> {
    let (old_survey, new_survey) = (survey(old), survey(new));
    let made = Arc::new(Mutex::new(new[..skip].to_vec()));
    let contents = Damaged {
        base: Memory {
            base: vec![(old, &old_survey)],
            target: Some((made.clone(), &new_survey)),
        },
        file: lacks.0,
        state: lacks.1,
        target: new,
        at: 0,
        begun: Vec::new(),
    };
    let opened = Delta::open(delta, LIMITS)?;
    let mut target = Target::new(opened.pieces(vec![Arc::new(old_survey.layer().clone())])?, contents).unhashed();
    target.skip(skip as u64)?;
    let mut buffer = vec![0; 777];
    loop {
        match target.read_some(&mut buffer)? {
            0 => break,
            n => made.lock().unwrap().extend_from_slice(&buffer[..n]),
        }
    }
    let made = made.lock().unwrap().clone();
    let begun = std::mem::take(&mut target.contents_mut().begun);
    let hints = target.hints();
    for entry in 0..new_survey.layer().entries() {
        let hint = hints.take(entry);
        let taken =
            hint.is_some_and(|hint| matches!(hint.content, delta::Content::Base(file) if file.entry == lacks.0));
        assert!(
            !taken || skip > 0,
            "entry {entry} must not become a link to what has changed"
        );
    }
    Ok((made, begun))
}

/// Files that are taken whole, twice; patched by a little; patched with a window that is primed; patched as executables.
fn layers() -> (Vec<u8>, Vec<u8>) {
    let (kept, library, page) = (noise(1, 20_000), text(3, 2000), text(5, 2000));
    let old = tar(&[
        file("kept", &kept),
        file("library", &library),
        file("page", &page),
        file("program", &elf(62, 400, 0)),
        file("other", &noise(2, 5_000)),
    ]);
    let mut edited = library.clone();
    edited[5_000..5_010].copy_from_slice(b"not as was");
    let mut rewritten = page.clone();
    rewritten.splice(10_000..20_000, text(7, 900));
    let new = tar(&[
        file("copy", &kept),
        file("kept", &kept),
        file("library", &edited),
        file("page", &rewritten),
        file("page-2", &text(9, 500)),
        file("program", &elf(62, 400, 16)),
        file("other", &noise(2, 5_000)),
        file("new", &text(8, 1_000)),
    ]);
    (old, new)
}

#[test]
fn what_was_to_come_from_a_file_that_is_not_whole_comes_from_elsewhere() {
    let (old, new) = layers();
    let (delta, report) = make(&[&old], &new);
    assert!(report.ways[2].files >= 3, "{report:?}");
    let all = [(0, "kept"), (1, "library"), (2, "page"), (3, "program"), (4, "other")];
    for (number, name) in all {
        for state in [State::Changed, State::Lost] {
            let made = apply(&old, &new, &delta, (number, state), 0);
            // Reading on needs the file's own bytes, or some of them.
            let needed = matches!((name, state), ("page" | "program", State::Lost));
            match made {
                Ok((made, begun)) => {
                    assert!(!needed, "{name} {state:?}");
                    assert!(made == new, "{name} {state:?}");
                    let names: Vec<&str> = begun.iter().map(|(name, _)| name.as_str()).collect();
                    let wanted = if name == "kept" { vec!["copy", name] } else { vec![name] };
                    assert_eq!(names, wanted, "{state:?}");
                }
                Err(error) => assert!(needed, "{name} {state:?}: {error}"),
            }
        }
    }
}

#[test]
fn it_is_gone_on_with_at_any_byte() {
    let (old, new) = layers();
    let (delta, _) = make(&[&old], &new);
    for (number, name) in [(0, "kept"), (1, "library"), (4, "other")] {
        for skip in (0..new.len()).step_by(4_001) {
            let (made, begun) = apply(&old, &new, &delta, (number, State::Lost), skip).unwrap();
            assert!(made == new, "{name} from {skip}");
            let left: u64 = begun.iter().map(|(_, bytes)| bytes).sum();
            assert!(left <= (new.len() - skip) as u64, "{name} from {skip}: {left}");
        }
    }
}
