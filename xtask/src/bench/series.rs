//! Figures of several rounds, in which Docker and we take turns; of each figure the median counts.

use super::median;
use super::table::{Goal, Row};
use crate::command::Result;
use std::collections::BTreeMap;
use tests::Kind;

/// One daemon's figures, by name.
#[derive(Default)]
pub struct Series(BTreeMap<&'static str, Vec<f64>>);

impl Series {
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    pub fn median(&self, name: &str) -> f64 {
        median(self.0.get(name).cloned().unwrap_or_default())
    }
}

/// Docker's figures and ours.
#[derive(Default)]
pub struct Both {
    pub docker: Series,
    pub ours: Series,
}

impl Both {
    /// Has either daemon do something, Docker first.
    pub fn each(&mut self, what: &str, mut act: impl FnMut(Kind, &mut Series) -> Result<()>) -> Result<()> {
        for (kind, series) in [(Kind::Docker, &mut self.docker), (Kind::Ours, &mut self.ours)] {
            println!("{what}: {kind:?}");
            act(kind, series)?;
        }
        Ok(())
    }

    /// The same several times over.
    pub fn rounds(&mut self, rounds: usize, mut act: impl FnMut(Kind, &mut Series) -> Result<()>) -> Result<()> {
        (1..=rounds).try_for_each(|round| self.each(&format!("round {round} of {rounds}"), &mut act))
    }

    /// A figure beside Docker's, in units of `scale`.
    pub fn row(&self, name: &str, unit: &'static str, key: &str, scale: f64, goal: Goal) -> Row {
        let docker = self.docker.median(key) / scale;
        Row::new(name, unit, self.ours.median(key) / scale, Some(docker), goal)
    }

    /// A figure that only we have.
    pub fn row_of_ours(&self, name: &str, unit: &'static str, key: &str, scale: f64, goal: Goal) -> Row {
        Row::new(name, unit, self.ours.median(key) / scale, None, goal)
    }
}
