//! `cargo xtask bench`: figures against goals, with Docker's taken in the same run.
//!
//! Both daemons run in network namespaces of their own and in cgroups of their own, by which they are measured; runs
//! alternate and medians count, because other work on the machine disturbs both alike.

mod by_crate;
mod chart;
mod delta;
mod floor;
mod images;
mod measure;
mod memory;
mod pull;
mod realistic;
mod run;
mod series;
mod size;
mod table;

use crate::apt;
use crate::binary;
use crate::command::Result;
use measure::Cgroup;
use std::path::PathBuf;
use table::Row;
use tests::daemon::{Daemon, Kind, Options};
use tests::{Client, Image, Registry, ground, image};

const USAGE: &str = "bench wants one of: run, pull, images, memory, size, delta [DIRECTORY WITH CASES], all";

pub fn main(arguments: &[String]) -> Result<()> {
    let mut given = None;
    let names: Vec<&str> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["all"] => vec!["size", "run", "memory", "pull", "images", "delta"],
        ["delta"] => vec!["delta"],
        ["delta", directory] => {
            given = Some(directory);
            vec!["delta"]
        }
        [name @ ("run" | "pull" | "images" | "memory" | "size")] => vec![name],
        _ => return Err(USAGE.into()),
    };
    let binary = binary::wanted()?;
    if names != ["size"] {
        if !apt::is_root()? {
            return Err("figures are taken in cgroups and on loop devices: run this as root".into());
        }
        apt::ensure(apt::DEMO)?;
        apt::ensure(apt::TEST)?;
    }
    // While there is a network to fetch them from.
    let cases = match names.contains(&"delta") {
        true => Some(delta::Cases::at_hand(given)?),
        false => None,
    };
    if names != ["size"] {
        // All mounts of the measurement end with this process.
        ground::isolate().map_err(|e| format!("make namespaces for the measurement: {e}"))?;
    }
    let mut missed = 0;
    for name in names {
        let rows: Vec<Row> = match name {
            "run" => run::measure(&binary)?,
            "pull" => pull::measure(&binary)?,
            "images" => images::measure(&binary)?,
            "memory" => memory::measure(&binary)?,
            "delta" => delta::measure(&binary, cases.as_ref().expect("they are at hand"))?,
            _ => size::measure(&binary)?,
        };
        table::print(name, &rows);
        table::write(name, &rows)?;
        missed += rows.iter().filter(|row| !row.ok()).count();
        // The first row is the goal; the others are caps, which only a visible change of their file may raise.
        if name == "size" && rows.iter().skip(1).any(|row| !row.ok()) {
            return Err("a cap is passed: see bench/caps.json".into());
        }
    }
    match missed {
        0 => println!("\nevery goal is met"),
        n => println!("\n{n} goals are missed"),
    }
    Ok(())
}

/// A daemon under measurement, with a registry that holds an image.
struct Subject {
    daemon: Daemon,
    cgroup: Cgroup,
    reference: String,
    registry: Registry,
}

impl Subject {
    /// Starts one in a network of its own. `memory_limit` is of the daemon's cgroup, in bytes.
    fn start(
        kind: Kind,
        binary: &std::path::Path,
        pushed: &Image,
        data_root: Option<PathBuf>,
        memory_limit: Option<u64>,
    ) -> Result<Subject> {
        let cgroup = Cgroup::make(memory_limit)?;
        let options = Options {
            binary: binary.to_owned(),
            data_root,
            cgroups: cgroup.directories(),
            ..Options::default()
        };
        let begin = || -> std::io::Result<(Registry, String, Daemon)> {
            ground::own_network()?;
            let registry = Registry::start()?;
            let reference = registry.push("bench", "1", pushed)?;
            Ok((registry, reference, Daemon::start(kind, options)?))
        };
        let started = std::thread::scope(|scope| scope.spawn(begin).join());
        let (registry, reference, daemon) = match started {
            Ok(result) => result.map_err(|e| format!("start {kind:?} for measurement: {e}"))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Subject {
            daemon,
            cgroup,
            reference,
            registry,
        })
    }

    /// Its own client: ours on ours, Docker's on Docker's.
    fn client(&self) -> Client {
        match self.daemon.kind {
            Kind::Ours => self.daemon.cli(),
            Kind::Docker => self.daemon.docker(),
        }
    }

    /// Pushes another image to its registry, from inside its network.
    fn push(&self, repository: &str, image: &Image) -> Result<String> {
        let pid = self.daemon.pid();
        let push = || -> std::io::Result<String> {
            ground::join_network(pid)?;
            self.registry.push(repository, "1", image)
        };
        match std::thread::scope(|scope| scope.spawn(push).join()) {
            Ok(result) => result.map_err(|e| format!("push {repository}: {e}")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.client().run(arguments);
        match ran.code {
            0 => Ok(ran.out.trim().to_owned()),
            code => Err(format!(
                "{:?}: {arguments:?}: exit code {code}: {}{}",
                self.daemon.kind, ran.out, ran.err
            )),
        }
    }
}

fn busybox() -> Result<Image> {
    image::busybox().map_err(|e| format!("make an image: {e}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
