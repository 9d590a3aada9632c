//! From an OCI seccomp section to one classic BPF program, pure.
//!
//! Per architecture the numbers become ranges of equal treatment, and the ranges a balanced tree of
//! comparisons: about nine instructions run per system call with Docker's profile, instead of the hundreds
//! of a linear list. Semantics are libseccomp's as runc uses it: several rules for one call are
//! alternatives, a rule without conditions wins over those with, a rule that repeats the default action is
//! skipped, unknown names are skipped, two conditions on one argument are alternatives, a foreign
//! architecture is killed, and calls newer than every call the profile names answer ENOSYS.

use std::collections::BTreeMap;

use oci::runtime::{Seccomp, SyscallArg};
use sys::seccomp::{Instruction, MAX_INSTRUCTIONS};

use super::syscalls::{self, Arch, X32_BIT};
use crate::error::{Error, Result};

/// A program ready for [`sys::seccomp::install`].
#[derive(Debug, Clone)]
pub struct Filter {
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_…`
    pub flags: u32,
}

const LD_WORD: u16 = 0x20;
const JMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;
const AND: u16 = 0x54;

// struct seccomp_data: nr, arch, instruction_pointer (8 bytes), args (6 x 8 bytes).
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

const ACTION_KILL_THREAD: u32 = 0;
const ACTION_KILL_PROCESS: u32 = 0x8000_0000;
const ACTION_TRAP: u32 = 0x0003_0000;
const ACTION_ERRNO: u32 = 0x0005_0000;
const ACTION_TRACE: u32 = 0x7ff0_0000;
const ACTION_LOG: u32 = 0x7ffc_0000;
const ACTION_ALLOW: u32 = 0x7fff_0000;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn ret(action: u32) -> Instruction {
    instruction(RET, 0, 0, action)
}

fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(libc::EPERM as u32) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ACTION_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => ACTION_KILL_PROCESS,
        "SCMP_ACT_TRAP" => ACTION_TRAP,
        "SCMP_ACT_ERRNO" => ACTION_ERRNO | errno,
        "SCMP_ACT_TRACE" => ACTION_TRACE | errno,
        "SCMP_ACT_LOG" => ACTION_LOG,
        "SCMP_ACT_ALLOW" => ACTION_ALLOW,
        "SCMP_ACT_NOTIFY" => {
            return Err(Error::new(
                "seccomp: SCMP_ACT_NOTIFY needs a notification agent, which is not supported",
            ));
        }
        other => return Err(Error::new(format!("seccomp: invalid action {other:?}"))),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    index: u32,
    op: Op,
    value: u64,
    value_two: u64,
}

impl Condition {
    fn new(arg: &SyscallArg) -> Result<Self> {
        let op = match arg.op.as_str() {
            "SCMP_CMP_NE" => Op::Ne,
            "SCMP_CMP_LT" => Op::Lt,
            "SCMP_CMP_LE" => Op::Le,
            "SCMP_CMP_EQ" => Op::Eq,
            "SCMP_CMP_GE" => Op::Ge,
            "SCMP_CMP_GT" => Op::Gt,
            "SCMP_CMP_MASKED_EQ" => Op::MaskedEq,
            other => return Err(Error::new(format!("seccomp: invalid operator {other:?}"))),
        };
        if arg.index > 5 {
            return Err(Error::new(format!("seccomp: invalid argument index {}", arg.index)));
        }
        Ok(Self {
            index: arg.index,
            op,
            value: arg.value,
            value_two: arg.value_two,
        })
    }
}

/// Alternatives tried in order, then the default.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Treatment {
    Always(u32),
    When(Vec<(Vec<Condition>, u32)>),
}

struct Rule {
    names: Vec<String>,
    /// Alternatives; an alternative without conditions always matches.
    alternatives: Vec<Vec<Condition>>,
    action: u32,
}

/// Compiles a profile for this machine. An empty architecture list means the native one.
pub fn compile(seccomp: &Seccomp) -> Result<Filter> {
    compile_for(Arch::native(), seccomp)
}

/// Compiles a profile for a machine of this architecture.
pub fn compile_for(machine: Arch, seccomp: &Seccomp) -> Result<Filter> {
    let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
    let rules = read_rules(seccomp, default)?;
    let mut arches = vec![machine];
    for name in &seccomp.architectures {
        if !name.starts_with("SCMP_ARCH_") {
            return Err(Error::new(format!("seccomp: invalid architecture {name:?}")));
        }
        // Those of other machines cannot occur here.
        if let Some(arch) = Arch::from_scmp(name)
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    }

    let mut program = vec![instruction(LD_WORD, 0, 0, OFFSET_ARCH)];
    for arch in arches.iter().filter(|arch| **arch != Arch::X32) {
        let mut section = vec![instruction(LD_WORD, 0, 0, OFFSET_NUMBER)];
        let native = tree(&ranges(&rules, *arch, default), *arch, default);
        if *arch == Arch::X86_64 {
            let x32 = if arches.contains(&Arch::X32) {
                tree(&ranges(&rules, Arch::X32, default), Arch::X32, default)
            } else {
                vec![ret(ACTION_KILL_PROCESS)]
            };
            branch(&mut section, X32_BIT, native, x32);
        } else {
            section.extend(native);
        }
        program.push(instruction(JEQ, 1, 0, arch.audit()));
        program.push(instruction(JMP, 0, 0, section.len() as u32));
        program.extend(section);
    }
    program.push(ret(ACTION_KILL_PROCESS));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::new(format!(
            "seccomp: filter of {} instructions is longer than the kernel's limit of {MAX_INSTRUCTIONS}",
            program.len()
        )));
    }
    Ok(Filter {
        program,
        flags: flags(seccomp)?,
    })
}

fn flags(seccomp: &Seccomp) -> Result<u32> {
    let mut flags = 0;
    for name in &seccomp.flags {
        flags |= match name.as_str() {
            // Single-threaded when it is installed: nothing to synchronise.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => return Err(Error::new(format!("seccomp: invalid flag {other:?}"))),
        };
    }
    Ok(flags)
}

fn read_rules(seccomp: &Seccomp, default: u32) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(seccomp.syscalls.len());
    for rule in &seccomp.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        if action == default {
            continue;
        }
        let conditions = rule.args.iter().map(Condition::new).collect::<Result<Vec<_>>>()?;
        let repeated = (0..6).any(|index| conditions.iter().filter(|c| c.index == index).count() > 1);
        let alternatives = if repeated {
            conditions.into_iter().map(|condition| vec![condition]).collect()
        } else {
            vec![conditions]
        };
        rules.push(Rule {
            names: rule.names.clone(),
            alternatives,
            action,
        });
    }
    Ok(rules)
}

/// Splits the numbers of one architecture into ranges: (first number, treatment up to the next first).
fn ranges(rules: &[Rule], arch: Arch, default: u32) -> Vec<(u32, Treatment)> {
    let table = syscalls::table(arch);
    let mut calls: BTreeMap<u32, Treatment> = BTreeMap::new();
    for rule in rules {
        for name in &rule.names {
            let Some(number) = syscalls::number(&table, name) else {
                continue;
            };
            for conditions in &rule.alternatives {
                match calls.get_mut(&number) {
                    Some(Treatment::Always(_)) => {}
                    _ if conditions.is_empty() => {
                        calls.insert(number, Treatment::Always(rule.action));
                    }
                    Some(Treatment::When(list)) => list.push((conditions.clone(), rule.action)),
                    None => {
                        calls.insert(number, Treatment::When(vec![(conditions.clone(), rule.action)]));
                    }
                }
            }
        }
    }
    let mut ranges: Vec<(u32, Treatment)> = vec![(0, Treatment::Always(default))];
    let mut next = 0u32;
    let mut push = |first: u32, treatment: Treatment| match ranges.last_mut() {
        Some((last, old)) if *last == first => *old = treatment,
        Some((_, old)) if *old == treatment && matches!(treatment, Treatment::Always(_)) => {}
        _ => ranges.push((first, treatment)),
    };
    for (number, treatment) in calls {
        if number > next {
            push(next, Treatment::Always(default));
        }
        push(number, treatment);
        next = number + 1;
    }
    // A program built for a newer kernel probes new calls and expects ENOSYS, not the default's EPERM.
    let refuses =
        default & 0xffff_0000 == ACTION_ERRNO || default == ACTION_KILL_THREAD || default == ACTION_KILL_PROCESS;
    let newest = if refuses {
        ACTION_ERRNO | libc::ENOSYS as u32
    } else {
        default
    };
    push(next, Treatment::Always(newest));
    // ARM's own calls lie far above the others: between them and the last ordinary one is "newest" too.
    if arch == Arch::Arm && refuses {
        split_arm_gap(&mut ranges, newest);
    }
    ranges
}

fn split_arm_gap(ranges: &mut [(u32, Treatment)], newest: u32) {
    const ARM_PRIVATE: u32 = 0x000f_0000;
    let ordinary = ranges.iter().rposition(|(first, _)| *first < ARM_PRIVATE);
    if let Some(index) = ordinary
        && index + 1 < ranges.len()
        && matches!(ranges[index].1, Treatment::Always(_))
    {
        ranges[index].1 = Treatment::Always(newest);
    }
}

/// A balanced tree over the ranges. The number is in the accumulator.
fn tree(ranges: &[(u32, Treatment)], arch: Arch, default: u32) -> Vec<Instruction> {
    if let [(_, treatment)] = ranges {
        return leaf(treatment, arch, default);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut code = Vec::new();
    branch(
        &mut code,
        high[0].0,
        tree(low, arch, default),
        tree(high, arch, default),
    );
    code
}

/// Appends: go to `high` when the accumulator is at least `pivot`, else to `low`.
fn branch(code: &mut Vec<Instruction>, pivot: u32, low: Vec<Instruction>, high: Vec<Instruction>) {
    match u8::try_from(low.len()) {
        Ok(distance) => code.push(instruction(JGE, distance, 0, pivot)),
        // Conditional jumps reach 255 instructions only.
        Err(_) => {
            code.push(instruction(JGE, 0, 1, pivot));
            code.push(instruction(JMP, 0, 0, low.len() as u32));
        }
    }
    code.extend(low);
    code.extend(high);
}

fn leaf(treatment: &Treatment, arch: Arch, default: u32) -> Vec<Instruction> {
    match treatment {
        Treatment::Always(action) => vec![ret(*action)],
        Treatment::When(alternatives) => {
            let mut code = Vec::new();
            for (conditions, action) in alternatives {
                let mut block = Vec::new();
                for condition in conditions {
                    test(&mut block, condition, arch);
                }
                block.push(ret(*action));
                let end = block.len();
                for (index, instruction) in block.iter_mut().enumerate() {
                    // At most 6 conditions of 6 instructions: the distance fits.
                    let distance = (end - index - 1) as u8;
                    if instruction.jt == FAIL {
                        instruction.jt = distance;
                    }
                    if instruction.jf == FAIL {
                        instruction.jf = distance;
                    }
                }
                code.extend(block);
            }
            code.push(ret(default));
            code
        }
    }
}

/// Placeholder in a jump: to the end of the alternative.
const FAIL: u8 = 255;

/// Appends the test of one condition: falls through when it holds, else jumps to FAIL.
fn test(code: &mut Vec<Instruction>, condition: &Condition, arch: Arch) {
    let low = OFFSET_ARGS + 8 * condition.index;
    let high = low + 4;
    let (value, two) = (condition.value, condition.value_two);
    let (value_low, value_high) = (value as u32, (value >> 32) as u32);
    // The upper half of an argument is zero on 32-bit architectures: only the lower is compared.
    let wide = arch.is_64bit();
    match condition.op {
        Op::Eq => {
            if wide {
                code.push(instruction(LD_WORD, 0, 0, high));
                code.push(instruction(JEQ, 0, FAIL, value_high));
            }
            code.push(instruction(LD_WORD, 0, 0, low));
            code.push(instruction(JEQ, 0, FAIL, value_low));
        }
        Op::Ne => {
            if wide {
                code.push(instruction(LD_WORD, 0, 0, high));
                code.push(instruction(JEQ, 0, 2, value_high));
            }
            code.push(instruction(LD_WORD, 0, 0, low));
            code.push(instruction(JEQ, FAIL, 0, value_low));
        }
        Op::Ge | Op::Gt => {
            if wide {
                code.push(instruction(LD_WORD, 0, 0, high));
                code.push(instruction(JGT, 3, 0, value_high));
                code.push(instruction(JEQ, 0, FAIL, value_high));
            }
            code.push(instruction(LD_WORD, 0, 0, low));
            let compare = if condition.op == Op::Ge { JGE } else { JGT };
            code.push(instruction(compare, 0, FAIL, value_low));
        }
        Op::Lt | Op::Le => {
            if wide {
                code.push(instruction(LD_WORD, 0, 0, high));
                code.push(instruction(JGT, FAIL, 0, value_high));
                code.push(instruction(JEQ, 0, 2, value_high));
            }
            code.push(instruction(LD_WORD, 0, 0, low));
            let compare = if condition.op == Op::Lt { JGE } else { JGT };
            code.push(instruction(compare, FAIL, 0, value_low));
        }
        Op::MaskedEq => {
            if wide {
                code.push(instruction(LD_WORD, 0, 0, high));
                code.push(instruction(AND, 0, 0, value_high));
                code.push(instruction(JEQ, 0, FAIL, (two >> 32) as u32));
            }
            code.push(instruction(LD_WORD, 0, 0, low));
            code.push(instruction(AND, 0, 0, value_low));
            code.push(instruction(JEQ, 0, FAIL, two as u32));
        }
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
