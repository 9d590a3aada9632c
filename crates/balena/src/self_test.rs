//! `balena self-test`: does what the engine is made of work on this machine?
//!
//! One line for each check, `ok …`, `skipped …` with the reason, or `FAILED …` with what went wrong; the exit status
//! is 1 if one failed. Nothing is asked of a daemon, of the network, or of a container; files go to a directory of our
//! own below the temporary one, and away. For devices, and for each architecture's binary under an emulator.

mod certificate;
mod crash;
mod delta;
mod layers;
mod machine;
mod templates;
mod tls;

/// What a check that did not fail has to say.
enum Said {
    Ok(String),
    /// What could not be tried here, and why.
    Skipped(String),
}

type Checked = Result<Said, Box<dyn std::error::Error>>;

type Check = fn() -> Checked;

/// Name and function, in the order they run.
const CHECKS: &[(&str, Check)] = &[
    ("version", machine::version),
    ("crash", crash::starts_anew),
    ("clock", machine::clock),
    ("timed waits", machine::timed_waits),
    ("file times", machine::file_times),
    ("capabilities", machine::capabilities),
    ("seccomp", machine::seccomp),
    ("sha256", layers::sha256),
    ("gzip", layers::gzip),
    ("zstd", layers::zstd),
    ("tar-split", layers::tar_split),
    ("layer", layers::layer),
    ("delta", delta::delta),
    ("templates", templates::format),
    ("tls 1.2", tls::version_1_2),
    ("tls 1.3", tls::version_1_3),
];

/// Runs all checks, or those whose names are given.
pub fn main(names: &[String]) -> i32 {
    if names == [crash::CHILD] {
        return crash::child();
    }
    let (mut tried, mut failed) = (0, 0);
    for (name, check) in CHECKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        tried += 1;
        match check() {
            Ok(Said::Ok(said)) => println!("ok      {name}: {said}"),
            Ok(Said::Skipped(why)) => println!("skipped {name}: {why}"),
            Err(error) => {
                println!("FAILED  {name}: {error}");
                failed += 1;
            }
        }
    }
    if tried == 0 {
        eprintln!("balena self-test: there is no such check");
        return 1;
    }
    i32::from(failed > 0)
}

/// Fails with a sentence unless something holds.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A directory of our own that goes when this does.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("balena-self-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
