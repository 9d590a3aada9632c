//! Checks that a program which panics, or overflows its stack, goes on as a new one in the same process.

use super::{Checked, Said, ensure};
use std::ffi::CString;
use std::process::{Command, Stdio};

/// What a process of this check is called by.
pub const CHILD: &str = "crash-child";

/// Says how often the program in this process has crashed.
const CRASHED: &str = "BALENA_SELF_TEST_CRASHED";

pub fn starts_anew() -> Checked {
    let ran = Command::new("/proc/self/exe")
        .args(["self-test", CHILD])
        .stderr(Stdio::null())
        .output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(e) => return Ok(Said::Skipped(format!("this program cannot execute itself here: {e}"))),
    };
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let pids: Vec<&str> = said.lines().collect();
    ensure(
        ran.status.success() && pids.len() == 3 && pids.iter().all(|pid| *pid == pids[0]),
        || {
            format!(
                "a program that crashed twice ended with {}, its process IDs were {pids:?}",
                ran.status
            )
        },
    )?;
    Ok(Said::Ok(
        "after a panic and after a stack overflow it started anew in place".into(),
    ))
}

/// Prints its process ID and crashes: first by a panic, then by a stack that overflows; then it ends well.
pub fn child() -> i32 {
    println!("{}", std::process::id());
    let crashed = std::env::var(CRASHED)
        .ok()
        .and_then(|text| text.parse::<u8>().ok())
        .unwrap_or(0);
    if crashed == 2 {
        return 0;
    }
    let word = |text: &str| CString::new(text).unwrap_or_default();
    let arguments = [word("balena"), word("self-test"), word(CHILD)];
    let environment = [word(&format!("{CRASHED}={}", crashed + 1))];
    if let Err(e) = sys::crash::arm(&arguments, &environment, &[]) {
        eprintln!("arm: {e}");
        return 1;
    }
    let thread = std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || match crashed {
            0 => panic!("as planned"),
            _ => overflow(1),
        });
    let _ = thread.map(|thread| thread.join());
    // Not reached where a panic ends the process.
    1
}

#[expect(unconditional_recursion, reason = "this is what it is for")]
fn overflow(depth: u64) -> u64 {
    let more = [depth; 64];
    overflow(std::hint::black_box(more)[3] + 1) + more[5]
}
