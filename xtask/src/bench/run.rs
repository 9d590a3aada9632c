//! How long a short container takes, from the client's start to its end; what a daemon's start costs.

use super::table::{Goal, Row};
use super::{Subject, busybox, median};
use crate::command::Result;
use std::path::Path;
use std::time::Instant;
use tests::Kind;

const RUNS: usize = 21;
const STARTS: usize = 5;

pub fn measure(binary: &Path) -> Result<Vec<Row>> {
    let image = busybox()?;
    let (mut start_cpu, mut start_wall) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..STARTS {
        for (which, kind) in [Kind::Docker, Kind::Ours].into_iter().enumerate() {
            let subject = Subject::start(kind, binary, &image, None, None)?;
            start_cpu[which].push(subject.cgroup.cpu()? * 1e3);
            start_wall[which].push(subject.daemon.took.as_secs_f64() * 1e3);
        }
    }
    let subjects = [
        Subject::start(Kind::Docker, binary, &image, None, None)?,
        Subject::start(Kind::Ours, binary, &image, None, None)?,
    ];
    for subject in &subjects {
        subject.ok(&["pull", "-q", &subject.reference])?;
        // The first run of all pays for what stays.
        subject.ok(&["run", "--rm", &subject.reference, "true"])?;
    }
    let (mut wall, mut cpu) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..RUNS {
        for (which, subject) in subjects.iter().enumerate() {
            let before = subject.cgroup.cpu()?;
            let start = Instant::now();
            subject.ok(&["run", "--rm", &subject.reference, "true"])?;
            wall[which].push(start.elapsed().as_secs_f64() * 1e3);
            cpu[which].push((subject.cgroup.cpu()? - before) * 1e3);
        }
    }
    let row = |name: &str, [docker, ours]: [Vec<f64>; 2], goal| {
        Row::new(name, "ms", median(ours), Some(median(docker)), goal)
    };
    Ok(vec![
        row("run --rm busybox true, client included", wall, Goal::Ratio(0.35)),
        row("... CPU of the engine's processes", cpu, Goal::None),
        row("daemon start to first ping, CPU", start_cpu, Goal::Ratio(0.2)),
        row("... wall", start_wall, Goal::None),
    ])
}
