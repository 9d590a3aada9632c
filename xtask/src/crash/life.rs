//! One life: the engine works on a logged device, then power fails at each of its points.

use super::device::Logged;
use super::judge::{Judge, Verdict};
use super::ledger::{self, Span};
use super::log::{Image, Log};
use super::plan::{Plan, Shape};
use super::replay::{self, Point, Replay};
use super::tally::Tally;
use crate::command::{Result, attempt, output};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

/// Where a life has its files, and who leads it.
pub struct Ground<'a> {
    pub driver: &'a Path,
    pub directory: &'a Path,
}

/// What is known of a life when it is over.
struct Lived {
    log: Log,
    spans: Vec<Span>,
    ledger: PathBuf,
    /// What the device held before it.
    before: Image,
}

impl Ground<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Lets the engine live, then crashes it at all points.
    pub fn live(&self, plan: &Plan, shape: &Shape, tally: &Mutex<Tally>) -> Result<()> {
        let mounted = self.at("mounted");
        std::fs::create_dir_all(&mounted).map_err(|e| format!("make {}: {e}", mounted.display()))?;
        let device = Image::create(&self.at("disk"), shape.file_system.device_size(shape.bytes))?;
        shape.file_system.make(device.path())?;
        let mut lived = self.work("work", shape, &device)?;
        if shape.goes_on {
            let pulls: Vec<Span> = lived.spans.into_iter().filter(|span| is_pull(&span.what)).collect();
            let point = replay::choose(&lived.log, Some(&pulls), 1, !shape.seed);
            let point = *point.first().ok_or("a life without pulls")?;
            let crashed = Replay::start(&lived.log, &lived.before).at(point, device.path())?;
            lived = self.work("go-on", shape, &crashed)?;
        }
        std::fs::remove_file(device.path()).map_err(|e| format!("remove {}: {e}", device.path().display()))?;
        let only: Option<Vec<Span>> = plan.only.as_ref().map(|only| {
            let spans = std::mem::take(&mut lived.spans);
            spans.into_iter().filter(|span| span.what.contains(only)).collect()
        });
        let passes = match shape.fault {
            None => vec![replay::choose(&lived.log, only.as_deref(), shape.points, shape.seed)],
            Some(_) => replay::around_flushes(&lived.log),
        };
        let spans = only.unwrap_or_else(|| std::mem::take(&mut lived.spans));
        let errors = self.at("errors");
        let mut judge = Judge::new(self.driver, &mounted, &lived.ledger, shape, errors);
        for points in passes {
            let before = lived.before.copy(&self.at("durable"))?;
            let mut replay = Replay::start(&lived.log, &before);
            for point in points {
                if shape.fault.is_some_and(|fault| locked(tally).is_caught(fault)) {
                    return Ok(());
                }
                self.crash(plan, shape, point, &mut replay, (&lived.log, &spans), &mut judge, tally)?;
            }
        }
        Ok(())
    }

    /// Has the driver work on a device, which goes through it, with all that it writes logged.
    fn work(&self, what: &str, shape: &Shape, device: &Image) -> Result<Lived> {
        let (before, ledger) = (device.copy(&self.at("before"))?, self.at("ledger"));
        let logged = Logged::start(device.path(), self.directory)?;
        let at = self.at("mounted");
        let mounted = shape.file_system.mount(&logged.file, &at)?;
        let mut work = Command::new(self.driver);
        work.arg(what)
            .args([&at.join("root"), &ledger, &logged.log])
            .args([shape.seed.to_string(), shape.bytes.to_string()])
            .args(shape.fault);
        let worked = attempt(&mut work)?;
        mounted.unmount()?;
        let log = Log::read(&logged.finish()?)?;
        if !worked.status.success() {
            let said = [worked.stdout, worked.stderr].map(|said| String::from_utf8_lossy(&said).trim().to_owned());
            return Err(format!("the engine could not work: {}", said.join(" ")));
        }
        Ok(Lived {
            log,
            spans: ledger::spans(&ledger)?,
            ledger,
            before,
        })
    }

    #[allow(clippy::too_many_arguments, reason = "one caller")]
    fn crash(
        &self,
        plan: &Plan,
        shape: &Shape,
        point: Point,
        replay: &mut Replay<'_>,
        (log, spans): (&Log, &[Span]),
        judge: &mut Judge,
        tally: &Mutex<Tally>,
    ) -> Result<()> {
        let image = replay.at(point, &self.at("image"))?;
        let position = log.position(point.request);
        let verdict = match shape.file_system.mount(image.path(), &self.at("mounted")) {
            Ok(mounted) => {
                let verdict = judge.check(position)?;
                mounted.unmount()?;
                verdict
            }
            Err(sentence) => Verdict::Bad(sentence),
        };
        let operation = ledger::at(spans, position);
        let Some(sentence) = locked(tally).add(shape, point.model, operation, verdict) else {
            return Ok(());
        };
        println!("{}: {point:?} in {operation}: {sentence}", shape.name());
        if let Some(keep) = &plan.keep {
            // The judge changed it.
            let image = replay.at(point, image.path())?;
            let name = format!("{}-{}-{}.img", shape.file_system.name(), shape.seed, point.request);
            output(
                Command::new("cp")
                    .arg("--sparse=always")
                    .arg(image.path())
                    .arg(keep.join(name)),
            )?;
        }
        Ok(())
    }
}

fn is_pull(what: &str) -> bool {
    ["pull", "pull in pieces", "update by delta", "update by balena delta"].contains(&what)
}

pub fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(|e| e.into_inner())
}
