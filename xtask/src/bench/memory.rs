//! What daemons and shims keep resident: idle, with what a device has lying about, and per running container.

use super::measure::Memory;
use super::table::{Goal, Row};
use super::{Subject, busybox};
use crate::command::Result;
use std::path::Path;
use std::time::Duration;
use tests::{Image, Kind, image};

const STOPPED: usize = 20;
const IMAGES: usize = 10;
const RUNNING: usize = 5;

/// One daemon's figures, in MB.
struct Figures {
    idle: Memory,
    full: Memory,
    shim_anonymous: f64,
    shim_own: f64,
}

pub fn measure(binary: &Path) -> Result<Vec<Row>> {
    let docker = figures(Kind::Docker, binary)?;
    let ours = figures(Kind::Ours, binary)?;
    let row = |name: &str, pick: fn(&Figures) -> f64, goal| {
        Row::new(name, "MB", pick(&ours) / 1e6, Some(pick(&docker) / 1e6), goal)
    };
    Ok(vec![
        row("idle daemon: resident", |f| f.idle.resident, Goal::AtMost(10.0)),
        row("... anonymous", |f| f.idle.anonymous, Goal::AtMost(3.0)),
        row(
            "with 20 stopped containers and 10 images: resident",
            |f| f.full.resident,
            Goal::AtMost(10.0),
        ),
        row("... anonymous", |f| f.full.anonymous, Goal::AtMost(3.0)),
        row(
            "... growth, anonymous",
            |f| f.full.anonymous - f.idle.anonymous,
            Goal::AtMost(1.0),
        ),
        row(
            "per running container: anonymous",
            |f| f.shim_anonymous,
            Goal::AtMost(0.4),
        ),
        row(
            "... resident, not shared with the daemon",
            |f| f.shim_own,
            Goal::AtMost(1.5),
        ),
    ])
}

fn figures(kind: Kind, binary: &Path) -> Result<Figures> {
    let base = busybox()?;
    let subject = Subject::start(kind, binary, &base, None, None)?;
    std::thread::sleep(Duration::from_secs(3));
    let idle = Memory::of_all(&subject.cgroup.processes());

    subject.ok(&["pull", "-q", &subject.reference])?;
    for number in 1..IMAGES {
        let layer = image::Layer::gzip(
            &image::Tar::default()
                .file("number", 0o644, number.to_string().as_bytes())
                .bytes(),
        );
        let other = Image::new(
            vec![base.layers[0].clone(), layer],
            serde_json::json!({"Cmd": ["true"]}),
        );
        let name = format!("bench{number}");
        let reference = subject.push(&name, &other)?;
        subject.ok(&["pull", "-q", &reference])?;
    }
    for number in 0..STOPPED {
        subject.ok(&["run", "--name", &format!("stopped{number}"), &subject.reference, "true"])?;
    }
    std::thread::sleep(Duration::from_secs(3));
    let full = Memory::of_all(&subject.cgroup.processes());

    let before = subject.cgroup.processes();
    let shims = |subject: &Subject| -> Vec<u32> {
        let now = subject.cgroup.processes();
        now.into_iter().filter(|pid| !before.contains(pid)).collect()
    };
    let run = |subject: &Subject| subject.ok(&["run", "-d", &subject.reference, "sleep", "1000"]);
    run(&subject)?;
    std::thread::sleep(Duration::from_secs(1));
    // Of one alone, a clean page that another process has too is the daemon's.
    let shim_own = Memory::of_all(&shims(&subject)).own;
    for _ in 1..RUNNING {
        run(&subject)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let all = shims(&subject);
    if all.len() < RUNNING {
        return Err(format!(
            "{kind:?}: {} processes for {RUNNING} running containers: who watches them?",
            all.len()
        ));
    }
    let shim_anonymous = Memory::of_all(&all).anonymous / RUNNING as f64;
    Ok(Figures {
        idle,
        full,
        shim_anonymous,
        shim_own,
    })
}
