//! What a device may hold after a crash, and which crashes are looked at.
//!
//! A device keeps what was flushed. Of what came after the last flush it may have kept anything: the models are the
//! extremes of that and samples of what lies between.

use super::ledger::Span;
use super::log::{Image, Log, Request};
use crate::command::Result;
use std::path::Path;

/// What a device kept of the writes after its last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// Nothing.
    Flushed,
    /// All of them.
    Prefix,
    /// Any of them.
    Random,
    /// All but one.
    AllButOne,
    /// All to some point, and of each later one any 4 KiB.
    Torn,
    /// The later half without the earlier.
    Reordered,
}

impl Model {
    pub fn name(self) -> &'static str {
        match self {
            Model::Flushed => "flushed",
            Model::Prefix => "prefix",
            Model::Random => "random",
            Model::AllButOne => "all but one",
            Model::Torn => "torn",
            Model::Reordered => "reordered",
        }
    }
}

pub const MODELS: [Model; 6] = [
    Model::Flushed,
    Model::Prefix,
    Model::Random,
    Model::AllButOne,
    Model::Torn,
    Model::Reordered,
];

/// A crash: before the request of this number, with this model, drawn with this seed.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub request: usize,
    pub model: Model,
    pub seed: u64,
}

/// Chooses points in the order of their requests, anywhere or while these operations went on: half of them where most
/// is in the balance, right before a flush, and right after one; the rest anywhere.
pub fn choose(log: &Log, within: Option<&[Span]>, count: usize, seed: u64) -> Vec<Point> {
    let mut random = Random(seed | 1);
    let is_in = |position: u64| {
        let is_in = |span: &Span| (span.begin..=span.end).contains(&position);
        within.is_none_or(|spans| spans.iter().any(is_in))
    };
    let candidates: Vec<usize> = (0..=log.requests.len()).filter(|&n| is_in(log.position(n))).collect();
    let is_flush = |n: &usize| matches!(log.requests.get(*n), Some((_, Request::Flush)));
    let flushes: Vec<usize> = candidates.iter().copied().filter(is_flush).collect();
    let count = if candidates.is_empty() { 0 } else { count };
    let mut points: Vec<Point> = (0..count)
        .map(|n| {
            let request = match n % 4 {
                0 | 1 if !flushes.is_empty() => flushes[random.below(flushes.len())],
                2 if !flushes.is_empty() => flushes[random.below(flushes.len())] + 1,
                _ => candidates[random.below(candidates.len())],
            };
            Point {
                request,
                model: MODELS[random.below(MODELS.len())],
                seed: random.next(),
            }
        })
        .collect();
    points.sort_by_key(|point| point.request);
    points
}

/// Points around every flush, for a fault that must show somewhere: in passes that each go through the whole log in
/// wide steps, so that the place is near soon.
pub fn around_flushes(log: &Log) -> Vec<Vec<Point>> {
    const STEP: usize = 9;
    let flushes = (0..log.requests.len()).filter(|&n| matches!(log.requests[n].1, Request::Flush));
    let mut passes = vec![Vec::new(); STEP];
    let mut number = 0;
    for flush in flushes {
        for (request, model) in [
            (flush + 1, Model::Flushed),
            (flush, Model::Random),
            (flush, Model::Prefix),
        ] {
            let seed = u64::try_from(request).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            passes[number * 4 % STEP].push(Point { request, model, seed });
            number += 1;
        }
    }
    for pass in &mut passes {
        pass.sort_by_key(|point| point.request);
    }
    passes
}

/// A device going through its log, remembering what is durable.
pub struct Replay<'a> {
    log: &'a Log,
    /// What is durable.
    durable: &'a Image,
    /// The first request that is not in `durable`.
    next: usize,
}

impl<'a> Replay<'a> {
    /// Starts at what the device held before the log; that image goes through it.
    pub fn start(log: &'a Log, before: &'a Image) -> Replay<'a> {
        Replay {
            log,
            durable: before,
            next: 0,
        }
    }

    /// Makes the image that a crash leaves. Points must come in order.
    pub fn at(&mut self, point: Point, path: &Path) -> Result<Image> {
        let before = &self.log.requests[..point.request.min(self.log.requests.len())];
        let flushed = before
            .iter()
            .rposition(|(_, request)| matches!(request, Request::Flush))
            .map_or(0, |n| n + 1);
        while self.next < flushed {
            self.log.apply(&self.log.requests[self.next].1, self.durable, || true)?;
            self.next += 1;
        }
        let open = &before[flushed..];
        let mut random = Random(point.seed | 1);
        let chosen = random.below(open.len().max(1));
        let image = self.durable.copy(path)?;
        for (n, (_, request)) in open.iter().enumerate() {
            if let Request::Discard { .. } = request {
                // Nothing reads what was discarded, kept or not.
                continue;
            }
            let durable = matches!(request, Request::Write { fua: true, .. });
            let whole = match point.model {
                Model::Flushed => false,
                Model::Prefix => true,
                Model::Random => random.below(2) == 0,
                Model::AllButOne => n != chosen,
                Model::Torn => n < chosen,
                Model::Reordered => n >= open.len() / 2,
            };
            let torn = point.model == Model::Torn && n >= chosen;
            self.log
                .apply(request, &image, || durable || whole || (torn && random.below(2) == 0))?;
        }
        Ok(image)
    }
}

/// Xorshift: the same points for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(1).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }
}
