//! The compiler, judged by an interpreter of classic BPF.

use oci::runtime::{Seccomp, SyscallArg, SyscallRule};

use super::*;
use crate::seccomp::{Call, docker_default, interpret};

/// What a filter answers, and the number of instructions executed.
fn run(filter: &Filter, audit: u32, number: u32, args: [u64; 6]) -> (u32, usize) {
    interpret(&filter.program, &Call { number, audit, args }).unwrap()
}

fn profile(rules: Vec<SyscallRule>) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        architectures: ["X86_64", "X86", "X32", "AARCH64", "ARM"]
            .iter()
            .map(|a| format!("SCMP_ARCH_{a}"))
            .collect(),
        syscalls: rules,
        ..Seccomp::default()
    }
}

fn rule(name: &str, action: &str, args: &[(u32, &str, u64, u64)]) -> SyscallRule {
    SyscallRule {
        names: vec![name.into()],
        action: action.into(),
        errno_ret: None,
        args: args
            .iter()
            .map(|(index, op, value, two)| SyscallArg {
                index: *index,
                op: format!("SCMP_CMP_{op}"),
                value: *value,
                value_two: *two,
            })
            .collect(),
    }
}

const EPERM: u32 = ACTION_ERRNO | 1;
const ENOSYS: u32 = ACTION_ERRNO | 38;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

#[test]
fn every_operator_on_64_bits() {
    let interesting = [
        0,
        1,
        5,
        6,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 5,
        (5 << 32) + 5,
        u64::MAX,
        5 << 32,
    ];
    for (op, holds) in [
        ("EQ", (|a, v| a == v) as fn(u64, u64) -> bool),
        ("NE", |a, v| a != v),
        ("LT", |a, v| a < v),
        ("LE", |a, v| a <= v),
        ("GE", |a, v| a >= v),
        ("GT", |a, v| a > v),
    ] {
        for value in interesting {
            let filter = compile(&profile(vec![rule("read", "SCMP_ACT_ALLOW", &[(2, op, value, 0)])])).unwrap();
            for arg in interesting {
                let expected = if holds(arg, value) { ACTION_ALLOW } else { EPERM };
                assert_eq!(
                    run(&filter, X86_64, 0, [9, 9, arg, 9, 9, 9]).0,
                    expected,
                    "{arg} {op} {value}"
                );
            }
        }
    }
}

#[test]
fn masks_and_conjunctions() {
    let filter = compile(&profile(vec![rule(
        "clone",
        "SCMP_ACT_ALLOW",
        &[(0, "MASKED_EQ", 0x7e02_0000, 0), (1, "EQ", 3, 0)],
    )]))
    .unwrap();
    assert_eq!(run(&filter, X86_64, 56, [0x11, 3, 0, 0, 0, 0]).0, ACTION_ALLOW);
    assert_eq!(run(&filter, X86_64, 56, [0x11, 4, 0, 0, 0, 0]).0, EPERM);
    assert_eq!(run(&filter, X86_64, 56, [0x1002_0011, 3, 0, 0, 0, 0]).0, EPERM);
    assert_eq!(run(&filter, X86, 120, [0x11, 3, 0, 0, 0, 0]).0, ACTION_ALLOW);
}

#[test]
fn alternatives_and_precedence() {
    let filter = compile(&profile(vec![
        rule("personality", "SCMP_ACT_ALLOW", &[(0, "EQ", 0, 0)]),
        rule("personality", "SCMP_ACT_ALLOW", &[(0, "EQ", 8, 0)]),
        rule("read", "SCMP_ACT_TRAP", &[(0, "EQ", 1, 0)]),
        rule("read", "SCMP_ACT_ALLOW", &[]),
        rule("write", "SCMP_ACT_ALLOW", &[(0, "EQ", 1, 0), (0, "EQ", 2, 0)]),
    ]))
    .unwrap();
    for (persona, expected) in [(0, ACTION_ALLOW), (8, ACTION_ALLOW), (9, EPERM)] {
        assert_eq!(run(&filter, X86_64, 135, [persona, 0, 0, 0, 0, 0]).0, expected);
    }
    assert_eq!(run(&filter, X86_64, 0, [1, 0, 0, 0, 0, 0]).0, ACTION_ALLOW);
    for (fd, expected) in [(1, ACTION_ALLOW), (2, ACTION_ALLOW), (3, EPERM)] {
        assert_eq!(run(&filter, X86_64, 1, [fd, 0, 0, 0, 0, 0]).0, expected);
    }
}

#[test]
fn architectures() {
    let mut seccomp = profile(vec![rule("read", "SCMP_ACT_ALLOW", &[])]);
    let filter = compile(&seccomp).unwrap();
    assert_eq!(run(&filter, X86, 3, [0; 6]).0, ACTION_ALLOW);
    assert_eq!(run(&filter, X86_64, X32_BIT, [0; 6]).0, ACTION_ALLOW);
    assert_eq!(run(&filter, 0x1234, 0, [0; 6]).0, ACTION_KILL_PROCESS);
    seccomp.architectures = vec!["SCMP_ARCH_X86_64".into()];
    let filter = compile(&seccomp).unwrap();
    assert_eq!(run(&filter, X86_64, X32_BIT, [0; 6]).0, ACTION_KILL_PROCESS);
    assert_eq!(run(&filter, X86, 3, [0; 6]).0, ACTION_KILL_PROCESS);
}

#[test]
fn errors() {
    for (default, names) in [("SCMP_ACT_NOTIFY", "NOTIFY"), ("SCMP_ACT_FOO", "FOO")] {
        let seccomp = Seccomp {
            default_action: default.into(),
            ..Seccomp::default()
        };
        assert!(compile(&seccomp).unwrap_err().to_string().contains(names));
    }
    assert!(compile(&profile(vec![rule("read", "SCMP_ACT_ALLOW", &[(0, "XX", 0, 0)])])).is_err());
    assert!(compile(&profile(vec![rule("read", "SCMP_ACT_ALLOW", &[(6, "EQ", 0, 0)])])).is_err());
}

#[test]
fn docker_profile_equals_its_rules() {
    for caps in [&[][..], &["CAP_SYS_ADMIN".to_string()][..]] {
        let seccomp = docker_default(caps);
        let filter = compile(&seccomp).unwrap();
        assert!(filter.program.len() < 1500, "{} instructions", filter.program.len());
        let mut longest = 0;
        for arch in [Arch::X86_64, Arch::X86] {
            if Arch::native() != Arch::X86_64 {
                continue;
            }
            let table = syscalls::table(arch);
            let newest = table
                .iter()
                .filter(|(name, _)| {
                    seccomp
                        .syscalls
                        .iter()
                        .any(|rule| rule.names.iter().any(|known| known == name))
                })
                .map(|(_, number)| *number)
                .max()
                .unwrap();
            for (name, number) in table {
                let args = [0x11, 0, 0, 0, 0, 0];
                let rules: Vec<_> = seccomp
                    .syscalls
                    .iter()
                    .filter(|rule| rule.names.iter().any(|known| known == name))
                    .collect();
                let expected = if rules.iter().any(|rule| rule.args.is_empty()) {
                    let rule = rules.iter().find(|rule| rule.args.is_empty()).unwrap();
                    if rule.action == "SCMP_ACT_ALLOW" {
                        ACTION_ALLOW
                    } else {
                        ACTION_ERRNO | rule.errno_ret.unwrap()
                    }
                } else if name == "clone" || name == "socket" {
                    ACTION_ALLOW
                } else if number > newest {
                    ENOSYS
                } else {
                    EPERM
                };
                let (action, steps) = run(&filter, arch.audit(), number, args);
                assert_eq!(action, expected, "{arch:?} {name}");
                longest = longest.max(steps);
            }
        }
        assert!(longest < 40, "{longest} steps");
    }
}

#[test]
fn docker_profile_conditions() {
    if Arch::native() != Arch::X86_64 {
        return;
    }
    let filter = compile(&docker_default(&[])).unwrap();
    let first = |number, arg| run(&filter, X86_64, number, [arg, 0, 0, 0, 0, 0]).0;
    assert_eq!(first(41, 40), EPERM, "socket(AF_VSOCK)");
    assert_eq!(first(41, 2), ACTION_ALLOW, "socket(AF_INET)");
    assert_eq!(first(56, 0x1000_0000), EPERM, "clone(CLONE_NEWUSER)");
    assert_eq!(first(435, 0), ENOSYS, "clone3");
    assert_eq!(first(272, 0), EPERM, "unshare");
    assert_eq!(first(135, 0xffff_ffff), ACTION_ALLOW, "personality query");
    assert_eq!(first(10_000, 0), ENOSYS, "a call of the future");
}

#[test]
fn arm_private_calls() {
    let mut seccomp = profile(vec![
        rule("read", "SCMP_ACT_ALLOW", &[]),
        rule("set_tls", "SCMP_ACT_ALLOW", &[]),
    ]);
    seccomp.architectures = vec!["SCMP_ARCH_ARM".into()];
    let filter = compile(&seccomp).unwrap();
    let arm = Arch::Arm.audit();
    for (number, expected) in [
        (3, ACTION_ALLOW),
        (2, EPERM),
        (400, ENOSYS),
        (0xf0005, ACTION_ALLOW),
        (0xf0006, ENOSYS),
    ] {
        assert_eq!(run(&filter, arm, number, [0; 6]).0, expected, "{number}");
    }
}
