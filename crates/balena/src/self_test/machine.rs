//! Checks of what differs between architectures: times, waits, capabilities, system call filters.

use super::{Checked, Said, Scratch, ensure};
use oci::runtime::Seccomp;
use runtime::seccomp::{Arch, Call, compile, docker_default, interpret, table};
use std::fs::File;
use std::sync::{Condvar, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// Seconds since 1970 in the middle of 2042: beyond a signed 32-bit count, which ends in January 2038.
const YEAR_2042: u64 = 2_287_000_000;

pub fn version() -> Checked {
    let uname = rustix::system::uname();
    Ok(Said::Ok(format!(
        "{} for {} (API {}), on Linux {} {}, pointers of {} bits",
        api::ENGINE_VERSION,
        std::env::consts::ARCH,
        format_args!("{}.{}", api::VERSION.0, api::VERSION.1),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy(),
        usize::BITS,
    )))
}

/// The wall clock, and arithmetic with it past 2038.
pub fn clock() -> Checked {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let late = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(YEAR_2042));
    let late = late.ok_or("the standard library cannot hold a time in 2042")?;
    let text = api::time::Time::of(late).to_rfc3339();
    ensure(text.starts_with("2042-06-2"), || {
        format!("a day in 2042 is written {text}")
    })?;
    ensure(
        late.duration_since(SystemTime::UNIX_EPOCH)?.as_secs() == YEAR_2042,
        || "2042 does not come back from a time".to_owned(),
    )?;
    let before = Instant::now();
    ensure(Instant::now() >= before, || "the monotonic clock goes back".to_owned())?;
    Ok(Said::Ok(format!("{} now; {text} is a time", api::time::now()))).inspect(|_| {
        // A device without a clock's battery starts in 1970; that is no fault of ours.
        if now.as_secs() < 1_500_000_000 {
            eprintln!("note: the clock of this machine is not set");
        }
    })
}

/// Waits end when they should: not at once, and not never.
pub fn timed_waits() -> Checked {
    let wait = Duration::from_millis(120);
    // Under a slow emulator a wait may end late; one that ends early is the bug we look for.
    let limits = wait - Duration::from_millis(5)..Duration::from_secs(10);
    // One wait each, without the loop that would hide one cut short.
    let condvar = || {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let guard = mutex.lock().unwrap_or_else(|e| e.into_inner());
        drop(condvar.wait_timeout(guard, wait));
    };
    let channel = || {
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv_timeout(wait);
    };
    let poll = || {
        let _ = rustix::event::poll(
            &mut [],
            Some(&rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 120_000_000,
            }),
        );
    };
    let waits: [(&str, &dyn Fn()); 5] = [
        ("sleep", &|| std::thread::sleep(wait)),
        ("park", &|| std::thread::park_timeout(wait)),
        ("condvar", &condvar),
        ("channel", &channel),
        ("poll", &poll),
    ];
    let mut took = Vec::new();
    for (name, wait) in waits {
        let start = Instant::now();
        wait();
        let elapsed = start.elapsed();
        ensure(limits.contains(&elapsed), || {
            format!("{name} of 120 ms took {elapsed:?}")
        })?;
        took.push(format!("{name} {} ms", elapsed.as_millis()));
    }
    Ok(Said::Ok(format!("of 120 ms: {}", took.join(", "))))
}

/// A file's time in 2042 is set and read back, by the standard library and by the calls that unpacking uses.
pub fn file_times() -> Checked {
    let scratch = Scratch::new("times")?;
    let path = scratch.0.join("file");
    let file = File::create(&path)?;
    let late = SystemTime::UNIX_EPOCH + Duration::new(YEAR_2042, 123_456_789);
    if let Err(error) = file.set_modified(late) {
        // What musl says where the kernel has not the calls with 64-bit times: 32-bit ones before 5.1.
        let old = error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error());
        return match usize::BITS == 32 && old {
            true => Ok(Said::Skipped("this kernel has no times past 2038".into())),
            false => Err(format!("set a time in 2042: {error}").into()),
        };
    }
    let read = std::fs::metadata(&path)?.modified()?;
    let precise = read.duration_since(SystemTime::UNIX_EPOCH)?;
    if precise.as_secs() == i32::MAX as u64 {
        return Ok(Said::Skipped(
            "the temporary file system keeps no times past 2038".into(),
        ));
    }
    ensure(precise.as_secs() == YEAR_2042, || {
        format!("2042 was read back as {} seconds", precise.as_secs())
    })?;
    let raw = rustix::fs::fstat(&file)?;
    ensure(u64::try_from(raw.st_mtime) == Ok(YEAR_2042), || {
        format!("2042 was read back by fstat as {} seconds", raw.st_mtime)
    })?;
    let spec = rustix::fs::Timespec {
        tv_sec: YEAR_2042 as i64 + 60,
        tv_nsec: 5,
    };
    let times = rustix::fs::Timestamps {
        last_access: spec,
        last_modification: spec,
    };
    rustix::fs::futimens(&file, &times)?;
    let again = std::fs::metadata(&path)?
        .modified()?
        .duration_since(SystemTime::UNIX_EPOCH)?;
    ensure(again.as_secs() == YEAR_2042 + 60, || {
        format!("2042 was read back as {} seconds", again.as_secs())
    })?;
    Ok(Said::Ok("a day in 2042 set and read back".into()))
}

/// The 64 bits of a capability set come as two halves.
pub fn capabilities() -> Checked {
    let sets = sys::caps::get()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    for (field, ours) in [
        ("CapEff:", sets.effective),
        ("CapPrm:", sets.permitted),
        ("CapInh:", sets.inheritable),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let Some(text) = line else {
            return Ok(Said::Skipped(format!("/proc/self/status has no {field}")));
        };
        let kernel = u64::from_str_radix(text.trim(), 16)?;
        ensure(kernel == ours, || {
            format!("{field} is {kernel:016x} in /proc and {ours:016x} from capget")
        })?;
    }
    Ok(Said::Ok(format!("effective {:016x}, as /proc says", sets.effective)))
}

/// Docker's filter, compiled for this architecture, lets through what it should.
pub fn seccomp() -> Checked {
    let arch = Arch::native();
    let profile: Seccomp = docker_default(&[]);
    let filter = compile(&profile)?;
    let calls = table(arch);
    const ALLOW: u32 = 0x7fff_0000;
    let errno = |number: u32| 0x0005_0000 | number;
    let (eperm, enosys) = (errno(1), errno(38));
    let mut asked = 0;
    let mut expect = |name: &str, first: u64, expected: u32| -> Result<(), String> {
        let Some(number) = runtime::seccomp::number(&calls, name) else {
            return Ok(());
        };
        asked += 1;
        let call = Call::new(arch, number, [first, 0, 0, 0, 0, 0]);
        let (answer, _) = interpret(&filter.program, &call).map_err(|at| format!("the program breaks at {}", at.0))?;
        ensure(answer == expected, || {
            format!("{name}({first:#x}) is answered {answer:#x}, not {expected:#x}")
        })
    };
    for name in [
        "read",
        "openat",
        "execve",
        "futex",
        "futex_time64",
        "mmap",
        "mmap2",
        "exit_group",
        "set_tls",
    ] {
        expect(name, 0, ALLOW)?;
    }
    for name in [
        "mount",
        "kexec_load",
        "bpf",
        "unshare",
        "init_module",
        "keyctl",
        "io_uring_setup",
    ] {
        expect(name, 0, eperm)?;
    }
    expect("clone", 0x11, ALLOW)?;
    expect("clone", 0x1000_0000, eperm)?;
    expect("clone3", 0, enosys)?;
    expect("socket", 2, ALLOW)?;
    expect("socket", 40, eperm)?;
    expect("personality", 8, ALLOW)?;
    expect("personality", 7, eperm)?;
    let foreign = Call {
        number: 0,
        audit: 0x1234,
        args: [0; 6],
    };
    let killed = interpret(&filter.program, &foreign).map_err(|at| format!("the program breaks at {}", at.0))?;
    ensure(killed.0 == 0x8000_0000, || {
        format!("a foreign architecture is answered {:#x}", killed.0)
    })?;
    let size = filter.program.len();
    Ok(Said::Ok(format!(
        "{size} instructions for {arch:?}, {asked} calls judged as expected"
    )))
}
