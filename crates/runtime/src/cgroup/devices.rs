//! Device access: the rules every container has, and for cgroup v2 their translation to a BPF program.

use std::path::Path;

use oci::runtime::DeviceRule;
use rustix::fs::{Mode, OFlags};
use sys::bpf::Instruction;

use crate::error::{Context, Error, Result};

/// The spec's rules, then those for the nodes every container has: making any node (which gives no access),
/// null, zero, full, tty, random, urandom, console, and pseudo-terminals.
pub fn with_defaults(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    const ALWAYS: [(&str, Option<i64>, Option<i64>, &str); 11] = [
        ("c", None, None, "m"),
        ("b", None, None, "m"),
        ("c", Some(1), Some(3), "rwm"),
        ("c", Some(1), Some(8), "rwm"),
        ("c", Some(1), Some(7), "rwm"),
        ("c", Some(5), Some(0), "rwm"),
        ("c", Some(1), Some(5), "rwm"),
        ("c", Some(1), Some(9), "rwm"),
        ("c", Some(5), Some(1), "rwm"),
        ("c", Some(136), None, "rwm"),
        ("c", Some(5), Some(2), "rwm"),
    ];
    let mut all = rules.to_vec();
    all.extend(ALWAYS.into_iter().map(|(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind: kind.into(),
        major,
        minor,
        access: access.into(),
    }));
    all
}

/// Attaches the program for these rules to a v2 group.
pub fn attach(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let program = compile(&with_defaults(rules))?;
    let program = sys::bpf::load_device_program(&program).context("load the device cgroup program")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group =
        rustix::fs::open(directory, flags, Mode::empty()).with_context(|| format!("open {}", directory.display()))?;
    use std::os::fd::AsFd;
    sys::bpf::replace_device_program(group.as_fd(), program.as_fd())
        .with_context(|| format!("attach the device program to {}", directory.display()))
}

// Registers and opcodes of `linux/bpf.h`.
const LDX_W: u8 = 0x61;
const MOV_IMM: u8 = 0xb7;
const MOV_REG: u8 = 0xbf;
const AND_IMM32: u8 = 0x54;
const RSH_IMM32: u8 = 0x74;
const JNE_IMM: u8 = 0x55;
const JNE_REG: u8 = 0x5d;
const EXIT: u8 = 0x95;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

fn op(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: dst | src << 4,
        offset,
        immediate,
    }
}

/// The program: rules from the last to the first, the first that applies decides, else refuse.
///
/// r2 is the node's type, r3 the access wanted (1 mknod, 2 read, 4 write), r4 major, r5 minor.
/// A rule allows when it covers all of the access wanted, and denies when it covers any of it.
fn compile(rules: &[DeviceRule]) -> Result<Vec<Instruction>> {
    let mut code = vec![
        op(LDX_W, 2, 1, 0, 0),
        op(AND_IMM32, 2, 0, 0, 0xffff),
        op(LDX_W, 3, 1, 0, 0),
        op(RSH_IMM32, 3, 0, 0, 16),
        op(LDX_W, 4, 1, 4, 0),
        op(LDX_W, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut block = Vec::new();
        // Offsets of jumps out of the block are filled in below.
        match rule.kind.as_str() {
            "" | "a" => {}
            "c" | "u" => block.push(op(JNE_IMM, 2, 0, 0, CHARACTER)),
            "b" => block.push(op(JNE_IMM, 2, 0, 0, BLOCK)),
            other => return Err(Error::new(format!("invalid device cgroup rule type {other:?}"))),
        }
        let access = access_bits(&rule.access)?;
        if access != 7 {
            block.push(op(MOV_REG, 1, 3, 0, 0));
            block.push(op(AND_IMM32, 1, 0, 0, access));
            if rule.allow {
                block.push(op(JNE_REG, 1, 3, 0, 0));
            } else {
                // Applies when the intersection is not empty: skip the jump out.
                block.push(op(JNE_IMM, 1, 0, 1, 0));
                block.push(op(0x05, 0, 0, 0, 0));
            }
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number.filter(|number| *number >= 0) {
                block.push(op(JNE_IMM, register, 0, 0, number as i32));
            }
        }
        let unconditional = block.is_empty();
        block.push(op(MOV_IMM, 0, 0, 0, i32::from(rule.allow)));
        block.push(op(EXIT, 0, 0, 0, 0));
        let end = block.len();
        for (index, instruction) in block.iter_mut().enumerate() {
            let jumps = matches!(instruction.code, JNE_IMM | JNE_REG | 0x05);
            if jumps && instruction.offset == 0 {
                instruction.offset = (end - index - 1) as i16;
            }
        }
        code.extend(block);
        if unconditional {
            // Earlier rules are unreachable, and the verifier refuses unreachable code.
            return Ok(code);
        }
    }
    code.push(op(MOV_IMM, 0, 0, 0, 0));
    code.push(op(EXIT, 0, 0, 0, 0));
    Ok(code)
}

fn access_bits(access: &str) -> Result<i32> {
    if access.is_empty() {
        return Ok(7);
    }
    access.chars().try_fold(0, |bits, letter| match letter {
        'm' => Ok(bits | 1),
        'r' => Ok(bits | 2),
        'w' => Ok(bits | 4),
        other => Err(Error::new(format!("invalid device access {other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on (type, access, major, minor).
    fn run(program: &[Instruction], kind: i32, access: i32, major: i64, minor: i64) -> bool {
        let mut registers = [0i64; 11];
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let (dst, src) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            match step.code {
                LDX_W => {
                    registers[dst] = match step.offset {
                        0 => i64::from(kind | access << 16),
                        4 => major,
                        _ => minor,
                    }
                }
                MOV_IMM => registers[dst] = i64::from(step.immediate),
                MOV_REG => registers[dst] = registers[src],
                AND_IMM32 => registers[dst] &= i64::from(step.immediate),
                RSH_IMM32 => registers[dst] >>= step.immediate,
                JNE_IMM if registers[dst] != i64::from(step.immediate) => at += step.offset as usize,
                JNE_REG if registers[dst] != registers[src] => at += step.offset as usize,
                0x05 => at += step.offset as usize,
                JNE_IMM | JNE_REG => {}
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            kind: kind.into(),
            major,
            minor,
            access: access.into(),
        }
    }

    #[test]
    fn docker_rules() {
        let rules = [rule(false, "", None, None, "rwm"), rule(true, "b", Some(8), None, "r")];
        let program = compile(&with_defaults(&rules)).unwrap();
        assert!(run(&program, CHARACTER, 6, 1, 3), "null");
        assert!(run(&program, CHARACTER, 1, 99, 99), "mknod of anything");
        assert!(!run(&program, CHARACTER, 2, 1, 1), "mem");
        assert!(run(&program, BLOCK, 2, 8, 5), "read of sda5");
        assert!(!run(&program, BLOCK, 4, 8, 5), "write of sda5");
        assert!(!run(&program, BLOCK, 6, 8, 5), "read and write of sda5");
        assert!(run(&program, CHARACTER, 6, 136, 7), "pts");
    }

    #[test]
    fn order_and_denials() {
        let rules = [rule(true, "a", None, None, ""), rule(false, "c", Some(1), Some(1), "w")];
        let program = compile(&rules).unwrap();
        assert!(run(&program, CHARACTER, 2, 1, 1));
        assert!(!run(&program, CHARACTER, 6, 1, 1));
        assert!(run(&program, BLOCK, 7, 8, 0));
        let program = compile(&[rule(false, "b", None, None, ""), rule(true, "a", None, None, "rwm")]).unwrap();
        assert!(run(&program, BLOCK, 7, 8, 0), "the last rule wins");
    }
}
