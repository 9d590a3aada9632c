//! Runs a compiled filter as the kernel would, without a kernel: for tests, and for the self-test on a device.
//!
//! Classic BPF as far as filters use it: words of `struct seccomp_data` are loaded, compared and masked, forward jumps,
//! a constant returned. What the kernel's own check would refuse ends as an [`Invalid`].

use sys::seccomp::Instruction;

use super::Arch;

/// What a filter is shown of a system call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub number: u32,
    /// `AUDIT_ARCH_…`
    pub audit: u32,
    pub args: [u64; 6],
}

impl Call {
    pub fn new(arch: Arch, number: u32, args: [u64; 6]) -> Self {
        let audit = arch.audit();
        Self { number, audit, args }
    }

    /// `struct seccomp_data`: number, architecture, instruction pointer, arguments.
    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..4].copy_from_slice(&self.number.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.audit.to_le_bytes());
        for (place, arg) in bytes[16..].chunks_exact_mut(8).zip(self.args) {
            place.copy_from_slice(&arg.to_le_bytes());
        }
        bytes
    }
}

/// A program that the kernel would not have loaded; holds the place of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid(pub usize);

/// What a filter answers (`SECCOMP_RET_…` with its data), and after how many instructions.
pub fn interpret(program: &[Instruction], call: &Call) -> Result<(u32, usize), Invalid> {
    let data = call.bytes();
    let (mut at, mut accumulator, mut steps) = (0, 0u32, 0);
    loop {
        let step = program.get(at).ok_or(Invalid(at))?;
        let jump = |taken: bool| 1 + usize::from(if taken { step.jt } else { step.jf });
        steps += 1;
        at += match step.code {
            0x20 => {
                let start = usize::try_from(step.k).map_err(|_| Invalid(at))?;
                let word = data
                    .get(start..)
                    .and_then(|rest| rest.first_chunk())
                    .ok_or(Invalid(at))?;
                accumulator = u32::from_le_bytes(*word);
                1
            }
            0x05 => 1 + usize::try_from(step.k).map_err(|_| Invalid(at))?,
            0x15 => jump(accumulator == step.k),
            0x25 => jump(accumulator > step.k),
            0x35 => jump(accumulator >= step.k),
            0x45 => jump(accumulator & step.k != 0),
            0x54 => {
                accumulator &= step.k;
                1
            }
            0x06 => return Ok((step.k, steps)),
            _ => return Err(Invalid(at)),
        };
    }
}
