//! What came of the points so far, and how that is told.

use super::device::FileSystem;
use super::judge::Verdict;
use super::plan::{KNOWN_BAD, Shape};
use super::replay::Model;
use crate::command::Result;
use std::collections::BTreeMap;
use std::time::Instant;

/// Points, and how many of them failed.
#[derive(Default, Clone, Copy)]
struct Count {
    points: usize,
    failures: usize,
}

impl Count {
    fn add(&mut self, failed: bool) {
        self.points += 1;
        self.failures += usize::from(failed);
    }
}

#[derive(Default)]
pub struct Tally {
    all: Count,
    by_file_system: BTreeMap<FileSystem, Count>,
    by_model: BTreeMap<Model, Count>,
    by_operation: BTreeMap<String, Count>,
    by_megabytes: BTreeMap<u64, Count>,
    /// Of lives that went on after a crash.
    going_on: Count,
    /// Points after which a pull went on with what was there.
    resumed: usize,
    /// Per fault: points, and of them those that failed, as they should.
    faults: BTreeMap<&'static str, Count>,
    pub errors: Vec<String>,
}

impl Tally {
    /// Counts a point; returns what is wrong, if that is not as it should be.
    pub fn add(&mut self, shape: &Shape, model: Model, operation: &str, verdict: Verdict) -> Option<String> {
        let failed = matches!(verdict, Verdict::Bad(_));
        if let Some(fault) = shape.fault {
            self.faults.entry(fault).or_default().add(failed);
            return None;
        }
        self.all.add(failed);
        self.by_file_system.entry(shape.file_system).or_default().add(failed);
        self.by_model.entry(model).or_default().add(failed);
        self.by_operation.entry(operation.to_owned()).or_default().add(failed);
        self.by_megabytes.entry(shape.bytes >> 20).or_default().add(failed);
        if shape.goes_on {
            self.going_on.add(failed);
        }
        match verdict {
            Verdict::Good { resumed } => {
                self.resumed += usize::from(resumed);
                None
            }
            Verdict::Bad(sentence) => Some(sentence),
        }
    }

    /// Says if a fault was caught often enough: three times are no accident.
    pub fn is_caught(&self, fault: &str) -> bool {
        self.faults.get(fault).is_some_and(|count| count.failures >= 3)
    }

    /// One line for who waits.
    pub fn progress(&self, wanted: usize, began: Instant) -> String {
        let seconds = began.elapsed().as_secs_f64();
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(fault, count)| format!("{fault} {}/{}", count.points, count.failures))
            .collect();
        format!(
            "{seconds:.0} s: {} of {wanted} points, {} failures, {:.1} points/s; {}; {}; known bad: {}",
            self.all.points,
            self.all.failures,
            self.all.points as f64 / seconds.max(0.1),
            told(&self.by_file_system, |file_system| file_system.name().to_owned()),
            told(&self.by_model, |model| model.name().to_owned()),
            faults.join(", "),
        )
    }

    /// The summary, and whether the campaign was passed.
    pub fn report(&self, began: Instant) -> Result<()> {
        for (fault, count) in &self.faults {
            println!(
                "known bad: {fault}: caught at {} of {} points",
                count.failures, count.points
            );
        }
        println!(
            "by file system: {}",
            told(&self.by_file_system, |it| it.name().to_owned())
        );
        println!("by model: {}", told(&self.by_model, |it| it.name().to_owned()));
        println!("by size: {}", told(&self.by_megabytes, |it| format!("{it} MB")));
        println!("by what went on: {}", told(&self.by_operation, String::clone));
        println!(
            "{} points in lives that went on after a crash; a pull was gone on with after {} points",
            self.going_on.points, self.resumed
        );
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{seconds:.0} seconds, {:.3} a point",
            seconds / self.all.points.max(1) as f64
        );
        println!("crash: {} points, {} failures", self.all.points, self.all.failures);
        if let Some(error) = self.errors.first() {
            return Err(error.clone());
        }
        let missed = |fault: &&&str| self.faults.get(**fault).is_none_or(|count| count.failures == 0);
        let missed: Vec<_> = KNOWN_BAD.iter().filter(missed).collect();
        if !missed.is_empty() {
            return Err(format!("not caught: {missed:?}: the campaign proves nothing"));
        }
        match self.all.failures {
            0 => Ok(()),
            _ => Err("what was acknowledged was lost: see above".into()),
        }
    }
}

/// Points by something, and the failures where there are any.
fn told<K>(counts: &BTreeMap<K, Count>, name: impl Fn(&K) -> String) -> String {
    let told = counts.iter().map(|(key, count)| match count.failures {
        0 => format!("{} {}", name(key), count.points),
        failures => format!("{} {} ({failures} FAILED)", name(key), count.points),
    });
    told.collect::<Vec<_>>().join(", ")
}
