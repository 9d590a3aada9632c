//! The driver of `cargo xtask crash`: works on a data root whose device is logged, and judges what a crash left of it.
//!
//! ```text
//! crash work  ROOT LEDGER LOG SEED BYTES [FAULT]   pulls, tags, creates, commits, removes; keeps the ledger
//! crash go-on ROOT LEDGER LOG SEED BYTES           pulls, updates and removes on what a crash left
//! crash check ROOT LEDGER SEED BYTES               for each line `POSITION`: recovers, compares with the ledger, pulls
//!                                                  anew, removes all; answers `good`, `resumed` or `bad SENTENCE`
//! ```
//!
//! It links the engine and the store themselves; the only thing that is not as in the daemon is the feature
//! `known-bad`, which lets `work` be told to do one thing wrong.

#![forbid(unsafe_code)]

mod check;
mod images;
mod ledger;
mod root;
mod work;

use std::process::ExitCode;
use store::fault::Fault;

/// Bytes of a batch of an image, instead of 4 to 16 MiB: small images are to have many, and so checkpoints.
fn batch(bytes: u64) -> u32 {
    u32::try_from((bytes / 24).clamp(96 << 10, 16 << 20)).unwrap_or(u32::MAX)
}

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["work", root, ledger, log, seed, bytes] => work(root, ledger, log, seed, bytes),
        ["work", root, ledger, log, seed, bytes, fault] => fault_of(fault).and_then(|fault| {
            store::fault::choose(Some(fault));
            work(root, ledger, log, seed, bytes)
        }),
        ["go-on", root, ledger, log, seed, bytes] => go_on(root, ledger, log, seed, bytes),
        ["check", root, ledger, seed, bytes] => check(root, ledger, seed, bytes),
        _ => Err("usage: see the page of this program's source".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            println!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn work(root: &str, ledger: &str, log: &str, seed: &str, bytes: &str) -> Result<()> {
    store::fault::limit_batches(batch(number(bytes)?));
    store::fault::boot_as("work");
    let ledger = ledger::Writer::create(ledger.as_ref(), log.as_ref())?;
    work::work(root.as_ref(), ledger, number(seed)?, number(bytes)?)
}

fn go_on(root: &str, ledger: &str, log: &str, seed: &str, bytes: &str) -> Result<()> {
    store::fault::limit_batches(batch(number(bytes)?));
    store::fault::boot_as("go on");
    let ledger = ledger::Writer::create(ledger.as_ref(), log.as_ref())?;
    work::go_on(root.as_ref(), ledger, number(seed)?, number(bytes)?)
}

fn check(root: &str, ledger: &str, seed: &str, bytes: &str) -> Result<()> {
    store::fault::boot_as("check");
    let judge = check::Judge::new(number(seed)?, number(bytes)?)?;
    for line in std::io::stdin().lines() {
        let position = line.map_err(|e| format!("read a position: {e}"))?;
        let expected = ledger::Expected::read(ledger.as_ref(), number(&position)?)?;
        match judge.check(root.as_ref(), &expected) {
            Ok(false) => println!("good"),
            Ok(true) => println!("resumed"),
            Err(sentence) => println!("bad {}", sentence.replace('\n', " ")),
        }
    }
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn fault_of(name: &str) -> Result<Fault> {
    Ok(match name {
        "no-data-sync" => Fault::NoDataSync,
        "record-first" => Fault::RecordFirst,
        "rename-without-sync" => Fault::RenameWithoutSync,
        "files-first" => Fault::FilesFirst,
        other => return Err(format!("no such fault: {other}")),
    })
}
