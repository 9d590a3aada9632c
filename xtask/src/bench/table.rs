//! Rows of figures: shown as a table, kept as JSON.

use crate::command::{self, Result, target_dir};
use serde_json::{Value, json};

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times Docker's.
    Ratio(f64),
    AtMost(f64),
    AtLeast(f64),
    /// Shown for comparison.
    None,
}

/// One figure.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub ours: f64,
    pub docker: Option<f64>,
    pub goal: Goal,
}

impl Row {
    pub fn new(name: &str, unit: &'static str, ours: f64, docker: Option<f64>, goal: Goal) -> Row {
        Row {
            name: name.into(),
            unit,
            ours,
            docker,
            goal,
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.docker
            .filter(|docker| *docker != 0.0)
            .map(|docker| self.ours / docker)
    }

    pub fn ok(&self) -> bool {
        match self.goal {
            Goal::Ratio(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Goal::AtMost(most) => self.ours <= most,
            Goal::AtLeast(least) => self.ours >= least,
            Goal::None => true,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::Ratio(most) => format!("<= {most} x Docker"),
            Goal::AtMost(most) => format!("<= {most}"),
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::None => String::new(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "ours": self.ours, "docker": self.docker,
            "ratio": self.ratio(), "goal": self.goal(), "ok": self.ok(),
        })
    }
}

/// Shows the rows of one measurement.
pub fn print(title: &str, rows: &[Row]) {
    println!(
        "\n{title:<52} {:>6} {:>10} {:>10} {:>7}  {:<18} ",
        "unit", "ours", "Docker", "ratio", "goal"
    );
    for row in rows {
        let docker = row.docker.map_or_else(String::new, shown);
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let verdict = match (row.goal, row.ok()) {
            (Goal::None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        let (name, unit, ours, goal) = (&row.name, row.unit, shown(row.ours), row.goal());
        println!("{name:<52} {unit:>6} {ours:>10} {docker:>10} {ratio:>7}  {goal:<18} {verdict}");
    }
}

/// Keeps them in `target/bench/NAME.json`.
pub fn write(name: &str, rows: &[Row]) -> Result<()> {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let text = serde_json::to_string_pretty(&rows).map_err(|e| format!("encode figures: {e}"))?;
    command::write(&target_dir().join("bench").join(format!("{name}.json")), text + "\n")
}

fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
