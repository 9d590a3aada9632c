//! How long a short container takes, from the client's start to its end; what a daemon's start costs.

use super::table::{Goal, Row};
use super::{Subject, busybox, median};
use crate::command::{Result, run};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
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
        Row::new(
            "a crash to the next answer, with a running container",
            "ms",
            median(crashes(&subjects[1])?),
            None,
            Goal::AtMost(100.0),
        ),
    ])
}

/// From the signal of a crash to the first answer of what came in its place, milliseconds.
fn crashes(subject: &Subject) -> Result<Vec<f64>> {
    subject.ok(&["run", "-d", "--name", "steady", &subject.reference, "sleep", "1000"])?;
    let daemon = &subject.daemon;
    let mut took = Vec::new();
    for times in 1..=STARTS {
        let words = format!("started anew in place ({times} in a row)");
        let start = Instant::now();
        run(Command::new("kill").arg("-ABRT").arg(daemon.pid().to_string()))?;
        // The log tells the successor's answer from its predecessor's.
        let limit = start + Duration::from_secs(10);
        while !(daemon.log().contains(&words) && daemon.answers()) {
            if Instant::now() > limit {
                return Err(format!("the daemon did not come back after a crash: {}", daemon.log()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    subject.ok(&["rm", "-f", "steady"])?;
    Ok(took)
}
