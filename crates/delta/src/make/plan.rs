//! Decides, for each entry of the target, what its header is predicted from and where its content comes from.

use super::survey::{Facts, Sketch, Survey};
use crate::layer::FileId;
use std::collections::HashMap;

/// What becomes of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    None,
    Same(FileId),
    /// The content of an earlier entry of the target.
    Again(u32),
    Patch(FileId),
    New,
}

/// An entry's part of the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub head: Option<FileId>,
    pub way: Way,
}

/// The base's files by what may be asked of them.
struct Known {
    by_name: HashMap<u64, FileId>,
    /// Files with content of which an upper layer has another of the same name, lowest first.
    below: HashMap<u64, Vec<FileId>>,
    by_base_name: HashMap<u64, FileId>,
    by_hash: HashMap<u128, FileId>,
    /// Class and value of a sketch, and the file that has it; sorted.
    sketches: Vec<(u64, FileId)>,
}

/// Smallest file that is worth a sketch.
const SKETCHED: u64 = 256;
/// Most files looked at for one value of a sketch: beyond, it says nothing.
const SAME_SKETCH: usize = 32;

pub(super) fn plan(base: &[&Survey], target: &Survey) -> Vec<Planned> {
    let known = Known::new(base);
    let facts = |file: FileId| &base[file.layer as usize].facts[file.entry as usize];
    let mut made: HashMap<u128, u32> = HashMap::new();
    let mut plan = Vec::with_capacity(target.facts.len());
    for (number, wanted) in target.facts.iter().enumerate() {
        let head = known.by_name.get(&wanted.name).copied();
        let way = if wanted.size == 0 {
            Way::None
        } else if let Some(same) = head.filter(|&head| facts(head).hash == wanted.hash) {
            Way::Same(same)
        } else if let Some(&same) = known.by_hash.get(&wanted.hash) {
            Way::Same(same)
        } else if let Some(&again) = made.get(&wanted.hash) {
            Way::Again(again)
        } else {
            made.insert(wanted.hash, number as u32);
            let has_content = |file: &FileId| facts(*file).size > 0;
            let near = head
                .filter(has_content)
                .map(|head| known.of_the_name(head, wanted, &facts))
                .or_else(|| known.similar(wanted, &facts))
                .or_else(|| known.by_base_name.get(&wanted.base_name).copied().filter(has_content));
            near.map_or(Way::New, Way::Patch)
        };
        plan.push(Planned { head, way });
    }
    plan
}

impl Known {
    fn new(base: &[&Survey]) -> Known {
        let mut known = Known {
            by_name: HashMap::new(),
            below: HashMap::new(),
            by_base_name: HashMap::new(),
            by_hash: HashMap::new(),
            sketches: Vec::new(),
        };
        let size = |file: FileId| base[file.layer as usize].facts[file.entry as usize].size;
        for (layer, survey) in base.iter().enumerate() {
            for (entry, facts) in survey.facts.iter().enumerate() {
                let file = FileId {
                    layer: layer as u32,
                    entry: entry as u32,
                };
                // Of two layers that have the name, the upper one's is what the image shows.
                let below = known.by_name.insert(facts.name, file);
                if let Some(below) = below.filter(|below| size(*below) > 0) {
                    known.below.entry(facts.name).or_default().push(below);
                }
                if facts.size == 0 {
                    continue;
                }
                known.by_base_name.insert(facts.base_name, file);
                known.by_hash.insert(facts.hash, file);
                if facts.size >= SKETCHED {
                    known.sketches.extend(keys(&facts.sketch).map(|key| (key, file)));
                }
            }
        }
        known.sketches.sort_unstable();
        known
    }

    /// Of the files of a name, in several layers or images, the one that shares most with the wanted one: `head`, the
    /// uppermost, if no other shares more.
    fn of_the_name<'a>(&self, head: FileId, wanted: &Facts, facts: &dyn Fn(FileId) -> &'a Facts) -> FileId {
        let votes = |file: &FileId| shared(&facts(*file).sketch, &wanted.sketch);
        let below = self.below.get(&wanted.name).map_or(&[][..], Vec::as_slice);
        // Of equals the last, which is the upper.
        let best = below.iter().copied().max_by_key(votes);
        best.filter(|best| votes(best) > votes(&head)).unwrap_or(head)
    }

    /// The file that shares most with the wanted one, if it is at least a quarter of the sketch.
    fn similar<'a>(&self, wanted: &Facts, facts: &dyn Fn(FileId) -> &'a Facts) -> Option<FileId> {
        if wanted.size < SKETCHED {
            return None;
        }
        let mut votes: HashMap<FileId, u32> = HashMap::new();
        for key in keys(&wanted.sketch) {
            let start = self.sketches.partition_point(|(known, _)| *known < key);
            let same = self.sketches[start..].iter().take_while(|(known, _)| *known == key);
            for (_, file) in same.take(SAME_SKETCH) {
                *votes.entry(*file).or_default() += 1;
            }
        }
        let enough = votes.into_iter().filter(|&(_, votes)| votes >= 2);
        let best = enough.max_by_key(|&(file, votes)| {
            let facts = facts(file);
            (
                votes,
                facts.base_name == wanted.base_name,
                u64::MAX - facts.size.abs_diff(wanted.size),
                file,
            )
        });
        best.map(|(file, _)| file)
    }
}

/// How many values two sketches have in common.
fn shared(one: &Sketch, other: &Sketch) -> usize {
    let both = one.iter().zip(other);
    both.filter(|(one, other)| one == other && **one != u32::MAX).count()
}

fn keys(sketch: &Sketch) -> impl Iterator<Item = u64> {
    let classes = sketch.iter().enumerate().filter(|(_, value)| **value != u32::MAX);
    classes.map(|(class, value)| (class as u64) << 32 | u64::from(*value))
}
