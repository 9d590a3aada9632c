//! Our filters beside libseccomp's, made of the same rules: every call, with telling arguments, on every architecture.
//!
//! Docker's default profile for each machine and three sets of capabilities goes to `oracle/libseccomp.c`, which is
//! compiled here; both programs are interpreted. They must answer alike, with two exceptions that are on purpose: calls
//! newer than all that the profile names (ENOSYS with us, as with runc, which adds that to libseccomp's program), and
//! foreign architectures (we end the process, libseccomp's default the thread). Calls that this libseccomp is too old to
//! know are left out, and counted.

use oci::runtime::Seccomp;
use runtime::seccomp::{Arch, Call, X32_BIT, compile_for, docker_default_for, interpret, number, table};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use sys::seccomp::Instruction;

const DOCKERS_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const MANY_CAPABILITIES: &[&str] = &[
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
];

const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

#[test]
fn alike_on_every_architecture() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(oracle) = build(scratch.path()) else {
        eprintln!("skipped: no C compiler, or no libseccomp with headers");
        return;
    };
    let mut unknown = BTreeSet::new();
    let mut compared = 0;
    for machine in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm] {
        for capabilities in [&[], DOCKERS_CAPABILITIES, MANY_CAPABILITIES] {
            let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
            let profile = docker_default_for(machine, &capabilities);
            let ours = compile_for(machine, &profile).unwrap().program;
            let (theirs, names) = ask(&oracle, &profile);
            unknown.extend(names.iter().cloned());
            for scmp in &profile.architectures {
                let arch = Arch::from_scmp(scmp).unwrap();
                compared += compare(
                    arch,
                    &profile,
                    &ours,
                    &theirs,
                    &names,
                    &format!("{machine:?} {capabilities:?}"),
                );
            }
        }
    }
    println!("{compared} answers alike; libseccomp here does not know {unknown:?}");
    assert!(compared > 100_000, "only {compared} answers were compared");
}

/// Compares both filters on all numbers of an architecture and returns how many answers were compared.
fn compare(
    arch: Arch,
    profile: &Seccomp,
    ours: &[Instruction],
    theirs: &[Instruction],
    unknown: &BTreeSet<String>,
    whose: &str,
) -> usize {
    let calls = table(arch);
    let named = || profile.syscalls.iter().flat_map(|rule| &rule.names);
    let numbers: BTreeSet<u32> = named().filter_map(|name| number(&calls, name)).collect();
    let skipped: BTreeSet<u32> = unknown.iter().filter_map(|name| number(&calls, name)).collect();
    // ARM's private calls lie far above the ordinary ones; newer than all is what lies above either kind.
    let private = |n: u32| n & 0x000f_0000 != 0;
    let newest = |of_private: bool| numbers.iter().rev().find(|n| private(**n) == of_private).copied();
    let newer = |n: u32| newest(private(n)).is_none_or(|newest| n > newest);
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    let far = if arch == Arch::Arm { 0xf_0001..0xf_0010 } else { 0..0 };
    let (mut compared, mut differences) = (0, Vec::new());
    for number in (base..base + 700).chain(far) {
        if skipped.contains(&number) {
            continue;
        }
        for args in arguments(arch) {
            let call = Call::new(arch, number, args);
            let (a, _) = interpret(ours, &call).expect("our program is valid");
            let (b, _) = interpret(theirs, &call).expect("libseccomp's program is valid");
            let name = calls.iter().find(|(_, n)| *n == number).map_or("?", |(name, _)| name);
            let expected = if newer(number) { (ENOSYS, EPERM) } else { (b, b) };
            if (a, b) != expected {
                differences.push(format!(
                    "{whose}, {arch:?}: {name} ({number}) {args:x?}: ours {a:#x}, theirs {b:#x}"
                ));
                break;
            }
            compared += 1;
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    for audit in [0, 0x8000_0028, 0x1234_5678] {
        let call = Call {
            number: 1,
            audit,
            args: [0; 6],
        };
        assert_eq!(
            interpret(ours, &call).unwrap().0,
            0x8000_0000,
            "{whose}: foreign {audit:#x}"
        );
        assert_eq!(interpret(theirs, &call).unwrap().0, 0, "{whose}: foreign {audit:#x}");
    }
    compared
}

/// What the profile's conditions tell apart, in the first argument, and noise in the others.
fn arguments(arch: Arch) -> Vec<[u64; 6]> {
    let mut firsts: Vec<u64> = vec![
        0,
        1,
        2,
        7,
        8,
        9,
        0x11,
        39,
        40,
        41,
        0x20000,
        0x20008,
        0x2_0009,
        0xffff_ffff,
    ];
    // Every single flag of clone, and all the namespaces' at once.
    firsts.extend((8..32).map(|bit| 1 << bit | 0x11));
    firsts.push(0x7e02_0000);
    // Only a 64-bit machine can pass more than 32 bits.
    if arch.is_64bit() {
        firsts.extend([
            40 | 1 << 32,
            1 << 32,
            8 | 1 << 63,
            0x7e02_0000 << 32,
            u64::MAX,
            0xffff_ffff << 32,
        ]);
    }
    let noise = [0, 40, 0x1000_0000];
    firsts
        .into_iter()
        .flat_map(|first| noise.map(|other| [first, other, other, other, other, other]))
        .collect()
}

/// Compiles the oracle, if there is what it takes.
fn build(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("oracle");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/libseccomp.c");
    let status = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-lseccomp")
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

/// libseccomp's program for a profile, and the names it does not know.
fn ask(oracle: &Path, profile: &Seccomp) -> (Vec<Instruction>, BTreeSet<String>) {
    let mut text = format!("default {EPERM:#x}\n");
    for arch in &profile.architectures {
        let token = match arch.as_str() {
            "SCMP_ARCH_X86_64" => 0xc000_003e_u32,
            "SCMP_ARCH_X86" => 0x4000_0003,
            "SCMP_ARCH_X32" => 0x4000_003e,
            "SCMP_ARCH_ARM" => 0x4000_0028,
            "SCMP_ARCH_AARCH64" => 0xc000_00b7,
            other => panic!("{other}"),
        };
        text += &format!("arch {token:#x}\n");
    }
    for rule in &profile.syscalls {
        let action = match rule.action.as_str() {
            "SCMP_ACT_ALLOW" => 0x7fff_0000,
            "SCMP_ACT_ERRNO" => 0x0005_0000 | rule.errno_ret.unwrap_or(1),
            other => panic!("{other}"),
        };
        let mut args = String::new();
        for arg in &rule.args {
            // enum scmp_compare
            let op = match arg.op.as_str() {
                "SCMP_CMP_NE" => 1,
                "SCMP_CMP_LT" => 2,
                "SCMP_CMP_LE" => 3,
                "SCMP_CMP_EQ" => 4,
                "SCMP_CMP_GE" => 5,
                "SCMP_CMP_GT" => 6,
                "SCMP_CMP_MASKED_EQ" => 7,
                other => panic!("{other}"),
            };
            args += &format!(" {} {op} {:#x} {:#x}", arg.index, arg.value, arg.value_two);
        }
        for name in &rule.names {
            text += &format!("rule {action:#x} {name}{args}\n");
        }
    }
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let program = output.stdout.chunks_exact(8).map(|bytes| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    });
    let unknown = said.lines().filter_map(|line| line.strip_prefix("unknown "));
    (program.collect(), unknown.map(str::to_owned).collect())
}
