//! Executables, whose addresses and tables are foreseen.

use super::{apply, file, make, noise, round_trip, tar};

/// An ELF file of one segment of code and one of data: functions that call each other and use the data, and a table of
/// their addresses. `pad` bytes are inserted into the function in the middle, which moves half of everything.
pub(super) fn elf(machine: u16, functions: usize, pad: usize) -> Vec<u8> {
    const CODE: u64 = 0x40_1000;
    let mut starts = Vec::new();
    let mut at = CODE;
    let dice = noise(21, functions * 64);
    for function in 0..functions {
        starts.push(at);
        at += 4 * 40 + if function == functions / 2 { pad as u64 } else { 0 };
    }
    let data = at.next_multiple_of(0x1000);
    let mut bytes = vec![0; 0x1000];
    let target = |dice: u8, function: usize| starts[(usize::from(dice) * 7 + function) % functions];
    for (function, &start) in starts.iter().enumerate() {
        let dice = &dice[function * 64..][..64];
        for (number, &with) in dice[..20].iter().enumerate() {
            let here = start + number as u64 * 8;
            let distance = |to: u64, from: u64| to.wrapping_sub(from) as u32;
            if machine == 62 {
                let (operation, to) = match number % 3 {
                    0 => ([0xe8, 0, 0], target(with, function)),
                    1 => ([0x8b, 0x05, 0], data + u64::from(with) * 8),
                    _ => ([0x0f, 0x84, 0], target(with, function)),
                };
                let length = if number % 3 == 0 { 1 } else { 2 };
                bytes.extend_from_slice(&operation[..length]);
                bytes.extend_from_slice(&distance(to, here + length as u64 + 4).to_le_bytes());
                bytes.resize(bytes.len() + 4 - length, 0x90);
            } else {
                let call = 0x9400_0000 | distance(target(with, function), here) >> 2 & 0x3ff_ffff;
                let pages = (((data + 0x2000) >> 12) as u32).wrapping_sub(((here + 4) >> 12) as u32);
                let page = 0x9000_0001 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
                bytes.extend_from_slice(&call.to_le_bytes());
                bytes.extend_from_slice(&page.to_le_bytes());
            }
        }
        if function == functions / 2 {
            bytes.extend(vec![0x90; pad]);
        }
    }
    bytes.resize((data - CODE + 0x1000) as usize, 0);
    for (function, &start) in starts.iter().enumerate() {
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(&(target(dice[function], function) as u32).to_le_bytes());
        bytes.extend_from_slice(&dice[function * 8..][..4]);
    }
    bytes.resize(bytes.len() + 0x3000, 1);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &machine.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 2, 0]);
    let length = starts.len() as u64 * 16 + 0x3000;
    for (number, (flags, address, length)) in [(5u8, CODE, at - CODE), (6, data, length)].into_iter().enumerate() {
        let entry = 64 + 56 * number;
        put(entry, &[1, 0, 0, 0, flags]);
        put(entry + 8, &(address - 0x40_0000).to_le_bytes());
        put(entry + 16, &address.to_le_bytes());
        put(entry + 32, &length.to_le_bytes());
        put(entry + 40, &(length + 0x1000).to_le_bytes());
    }
    bytes
}

#[test]
fn addresses_in_executables_are_foreseen() {
    for (machine, most) in [(62, 700), (183, 700), (3, 40_000)] {
        let old = tar(&[file("bin/program", &elf(machine, 2000, 0))]);
        // Within a page, so that the data stay; and beyond one, so that they move, too.
        for pad in [64, 4096 + 64] {
            let new = tar(&[file("bin/program", &elf(machine, 2000, pad))]);
            let length = round_trip(&[&old], &new);
            assert!(length < most, "machine {machine}, pad {pad}: {length}");
        }
    }
    // Another machine's number makes the same change thirty times as large.
    let (old, new) = (
        tar(&[file("x", &elf(3, 2000, 0))]),
        tar(&[file("x", &elf(3, 2000, 64))]),
    );
    assert!(round_trip(&[&old], &new) > 5_000);
}

/// Headers of an executable that lie: foreseen is nonsense then, made is what was wanted.
#[test]
fn executables_that_lie_do_no_harm() {
    let honest = elf(62, 200, 0);
    let new = tar(&[file("x", &elf(62, 200, 64))]);
    for (number, dice) in noise(31, 4 * 150).chunks_exact(4).enumerate() {
        let mut old = honest.clone();
        for &at in &dice[..2] {
            old[usize::from(at) % 176] = [0, 1, 0x7f, 0xff, dice[3]][number % 5];
        }
        round_trip(&[&tar(&[file("x", &old)])], &new);
    }
}

/// A file of 32 bits whose functions call each other and have addresses between them, and a table of addresses. `pad`
/// bytes are inserted in the middle.
fn narrow(code: fn(u32, u32) -> [u8; 4], machine: u8, functions: u32, pad: u32) -> Vec<u8> {
    const BASE: u32 = 0x1_0000;
    let dice = noise(22, functions as usize * 4);
    let start = |function: u32| BASE + 0x1000 + function * 64 + if function > functions / 2 { pad } else { 0 };
    let end = start(functions).next_multiple_of(0x1000);
    let other = |n: u32| start((u32::from(dice[n as usize % dice.len()]) * 11 + n) % functions);
    let mut bytes = vec![0; 0x1000];
    for function in 0..functions {
        for number in 0..12 {
            let here = start(function) + number * 4;
            bytes.extend_from_slice(&code(here, other(function * 4 + number)));
        }
        for number in 0..4 {
            let to = if number % 2 == 0 {
                other(function * 3 + number)
            } else {
                end + 0x1000 + number * 8
            };
            bytes.extend_from_slice(&to.to_le_bytes());
        }
        if function == functions / 2 {
            bytes.extend(vec![0; pad as usize]);
        }
    }
    bytes.resize((end - BASE) as usize, 0);
    for function in 0..functions {
        bytes.extend_from_slice(&other(function).to_le_bytes());
    }
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &[0x7f, b'E', b'L', b'F', 1, 1, 1]);
    put(18, &[machine, 0]);
    put(28, &[52]);
    put(42, &[32, 0, 2, 0, 40]);
    let segments = [(5u8, 0x1000, end - BASE - 0x1000), (6, end - BASE, functions * 4)];
    for (number, (flags, offset, size)) in segments.into_iter().enumerate() {
        let words = [
            1,
            offset,
            offset + BASE,
            offset + BASE,
            size,
            size + 0x4000,
            flags.into(),
        ];
        for (at, word) in words.into_iter().enumerate() {
            put(52 + 32 * number + 4 * at, &u32::to_le_bytes(word));
        }
    }
    bytes
}

/// BL of ARM.
fn a32(here: u32, to: u32) -> [u8; 4] {
    (0xeb00_0000 | to.wrapping_sub(here + 8) >> 2 & 0xff_ffff).to_le_bytes()
}

/// BL of Thumb.
fn thumb(here: u32, to: u32) -> [u8; 4] {
    let distance = to.wrapping_sub(here + 4);
    let sign = distance >> 24 & 1;
    let turned = |bit: u32| !(distance >> bit ^ sign) & 1;
    let low = 0xf000 | sign << 10 | distance >> 12 & 0x3ff;
    let high = 0xd000 | turned(23) << 13 | turned(22) << 11 | distance >> 1 & 0x7ff;
    (high << 16 | low).to_le_bytes()
}

/// MOV of an address to a register: the operation at the end of four bytes, the address in the next.
fn i386(here: u32, to: u32) -> [u8; 4] {
    match here & 4 {
        0 => [0x90, 0x90, 0x90, 0xb8],
        _ => to.to_le_bytes(),
    }
}

#[test]
fn addresses_of_32_bits_are_foreseen() {
    for (what, code, machine, most) in [
        ("arm", a32 as fn(u32, u32) -> [u8; 4], 40, 400),
        ("thumb", thumb, 40, 400),
        ("i386", i386, 3, 1500),
        ("other", a32, 41, 40_000),
    ] {
        let old = tar(&[file("x", &narrow(code, machine, 2000, 0))]);
        let new = tar(&[file("x", &narrow(code, machine, 2000, 64))]);
        let length = round_trip(&[&old], &new);
        assert!(length < most, "{what}: {length}");
    }
}

/// What a program of Go's linker has, in one or the other version.
#[derive(Clone, Copy)]
struct Go {
    wide: bool,
    functions: usize,
    /// The one in the middle is larger, and another follows it.
    changed: bool,
}

/// Bytes with places to come back to.
struct Bytes(Vec<u8>);

impl Bytes {
    fn word(&mut self, value: usize) {
        self.0.extend_from_slice(&(value as u32).to_le_bytes());
    }

    fn put(&mut self, at: usize, value: usize, size: usize) {
        self.0[at..at + size].copy_from_slice(&(value as u64).to_le_bytes()[..size]);
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn at(&self) -> usize {
        self.0.len()
    }
}

impl Go {
    /// A function's number that stays what it is, its size, its bytes of pctab and its offsets of them.
    fn functions(self) -> Vec<(usize, usize, usize)> {
        let middle = self.functions / 2;
        let mut all: Vec<_> = (0..self.functions)
            .map(|number| (number, 96 + number % 7 * 32, 5 + number % 11))
            .collect();
        if self.changed {
            all[middle].1 += 64;
            all[middle].2 += 9;
            all.insert(middle + 1, (self.functions, 160, 12));
        }
        all
    }

    fn build(self) -> Vec<u8> {
        let functions = self.functions();
        let (base, word) = if self.wide { (0x40_0000, 8) } else { (0x1_0000, 4) };
        let mut out = Bytes(vec![0; 0x1000]);
        let text = out.at();
        let mut entries = Vec::new();
        for &(number, size, _) in &functions {
            entries.push(out.at() - text);
            out.0
                .extend(noise(number as u64 + 77, size).iter().map(|byte| byte | 0x40));
        }
        let text_size = out.at() - text;
        out.align(0x1000);
        // Types: names, and methods with places in the text.
        let types = out.at();
        for (function, &(number, ..)) in functions.iter().enumerate().filter(|(_, all)| all.0 % 3 == 0) {
            for value in [number * 16, number % 50, entries[function], entries[function]] {
                out.word(value);
            }
        }
        out.align(32);
        let header = out.at();
        out.0.resize(header + 8 + 8 * word, 0);
        let names = out.at();
        let mut name_places = Vec::new();
        for &(number, ..) in &functions {
            name_places.push(out.at() - names);
            out.0
                .extend_from_slice(format!("example.com/agent.(*Type{}).Method{number}\0", number % 97).as_bytes());
        }
        out.align(4);
        let units = out.at();
        (0..self.functions / 50).for_each(|unit| out.word(unit * 20));
        let files = out.at();
        (0..self.functions / 50)
            .for_each(|unit| out.0.extend_from_slice(format!("/src/package{unit:07}\0").as_bytes()));
        let pcs = out.at();
        out.0.push(0);
        let mut pc_places = Vec::new();
        for &(number, _, size) in &functions {
            pc_places.push(out.at() - pcs);
            out.0
                .extend(noise(number as u64 + 7, size).iter().map(|byte| byte & 0x1f));
        }
        out.align(word);
        let table = out.at();
        out.0.resize(table + functions.len() * 8 + 4, 0);
        for (place, &(number, _, size)) in functions.iter().enumerate() {
            out.align(word);
            out.put(table + 8 * place, entries[place], 4);
            out.put(table + 8 * place + 4, out.at() - table, 4);
            let pc = pc_places[place];
            let lists = number % 4;
            let words = [
                entries[place],
                name_places[place],
                number % 5 * 8,
                0,
                pc,
                pc + 2,
                pc + size / 2,
                lists,
                number / 50 % (self.functions / 50),
                number % 300,
                3 << 24,
            ];
            words.into_iter().for_each(|value| out.word(value));
            (0..lists).for_each(|list| out.word(if list == 1 { 0 } else { pc + list }));
            let offsets = [place * 24, u32::MAX as usize, number % 20 * 24 + 8];
            offsets.into_iter().for_each(|value| out.word(value));
        }
        out.put(table + 8 * functions.len(), text_size, 4);
        out.align(word);
        let data = out.at();
        for &(number, ..) in &functions {
            out.0.extend_from_slice(&noise(number as u64 + 9, 24));
        }
        out.align(4);
        let find = out.at();
        let in_text = |at: usize| entries.partition_point(|entry| *entry <= at) - 1;
        for bucket in (0..text_size).step_by(4096) {
            let first = in_text(bucket);
            out.word(first);
            let parts = (bucket..text_size.min(bucket + 4096)).step_by(256);
            out.0.extend(parts.map(|part| (in_text(part) - first) as u8));
        }
        let table_size = out.at() - header;
        out.align(0x1000);
        let module = out.at();
        out.0.resize(module + 41 * word + 0x800, 0);
        let size = out.at();
        let names_size = 24;
        out.0.extend_from_slice(b"\0.text\0.gopclntab\0.data\0");
        // The header of the table, and what describes the module.
        out.put(header, 0xffff_fff1, 4);
        out.put(header + 6, 1, 1);
        out.put(header + 7, word, 1);
        for (at, value) in [functions.len(), 1, 0, names, units, files, pcs, table]
            .into_iter()
            .enumerate()
        {
            let value = if at < 3 { value } else { value - header };
            out.put(header + 8 + at * word, value, word);
        }
        let whats = [
            (0, header),
            (1, names),
            (19, find),
            (20, text),
            (22, text),
            (37, types),
            (40, data),
        ];
        for (at, place) in whats {
            out.put(module + at * word, base + place, word);
        }
        out.put(module + 2 * word, units - names, word);
        out.put(module + 3 * word, units - names, word);
        // The file's own headers: 64 bits have other places than 32.
        let (program, section, head) = if self.wide { (56, 64, 64) } else { (32, 40, 52) };
        out.0[..4].copy_from_slice(b"\x7fELF");
        out.put(4, if self.wide { 2 } else { 1 } | 1 << 8, 2);
        out.put(18, if self.wide { 62 } else { 40 }, 2);
        let (segments_at, sections_at, counts) = if self.wide { (32, 40, 54) } else { (28, 32, 42) };
        out.put(segments_at, head, word);
        out.put(sections_at, 0x400, word);
        for (at, value) in [program, 3, section, 5, 4].into_iter().enumerate() {
            out.put(counts + 2 * at, value, 2);
        }
        let segments = [
            (5, text, text_size),
            (4, types, header + table_size - types),
            (6, module, size - module),
        ];
        for (number, (flags, place, size)) in segments.into_iter().enumerate() {
            let at = head + program * number;
            let more = size + 0x100;
            let fields = match self.wide {
                true => [
                    (0, 1),
                    (4, flags),
                    (8, place),
                    (16, base + place),
                    (32, size),
                    (40, more),
                ],
                false => [
                    (0, 1),
                    (24, flags),
                    (4, place),
                    (8, base + place),
                    (16, size),
                    (20, more),
                ],
            };
            fields
                .into_iter()
                .for_each(|(field, value)| out.put(at + field, value, 4));
        }
        let sections = [
            (1, text, text_size),
            (7, header, table_size),
            (18, module, size - module),
            (0, size, names_size),
        ];
        for (number, (name, place, size)) in sections.into_iter().enumerate() {
            let at = 0x400 + section * (number + 1);
            let allocated = if number < 3 { 2 } else { 0 };
            let fields = match self.wide {
                true => [
                    (0, name),
                    (4, 1),
                    (8, allocated),
                    (16, base + place),
                    (24, place),
                    (32, size),
                ],
                false => [
                    (0, name),
                    (4, 1),
                    (8, allocated),
                    (12, base + place),
                    (16, place),
                    (20, size),
                ],
            };
            fields
                .into_iter()
                .for_each(|(field, value)| out.put(at + field, value, 4));
        }
        out.0
    }
}

fn go_tars(wide: bool, functions: usize) -> (Vec<u8>, Vec<u8>) {
    let build = |changed| {
        let go = Go {
            wide,
            functions,
            changed,
        };
        tar(&[file("agent", &go.build())])
    };
    (build(false), build(true))
}

/// One function grew and one is new: of 3,000 functions, nearly every offset in the tables changed.
#[test]
fn the_tables_of_go_are_foreseen() {
    for wide in [true, false] {
        let (old, new) = go_tars(wide, 3000);
        let length = round_trip(&[&old], &new);
        assert!(length < 1300, "wide {wide}: {length}");
    }
}

/// Tables that lie: counts beyond the file, offsets out of range or out of order, records that overlap.
#[test]
fn tables_of_go_that_lie_do_no_harm() {
    for wide in [true, false] {
        let (old, new) = go_tars(wide, 150);
        let at = |what: &[u8]| old.windows(what.len()).position(|window| window == what);
        let header = at(&[0xf1, 0xff, 0xff, 0xff, 0, 0, 1]).unwrap();
        let table = at(b"/src/package").unwrap();
        for (number, dice) in noise(32, 5 * 150).chunks_exact(5).enumerate() {
            let mut base = old.clone();
            let near = usize::from(u16::from_le_bytes([dice[0], dice[1]]));
            // In the header, in the table of functions and its records, and in all.
            let place = match number % 3 {
                0 => header + 4 + near % 70,
                1 => table + near % 12_000,
                _ => 512 + (near * 5) % (old.len() - 2048),
            };
            base[place] = [0, 1, 0x7f, 0xff, dice[2]][number % 5];
            base[place + 1] = dice[3];
            round_trip(&[&base], &new);
        }
    }
}

/// A damaged delta says nonsense of where the tables are and of how they moved.
#[test]
fn a_damaged_delta_of_go_is_an_error() {
    for wide in [true, false] {
        let (old, new) = go_tars(wide, 300);
        let (delta, _) = make(&[&old], &new);
        for (number, dice) in noise(33, 3 * 400).chunks_exact(3).enumerate() {
            let mut damaged = delta.clone();
            let place = 90 + usize::from(u16::from_le_bytes([dice[0], dice[1]])) % (delta.len() - 90);
            damaged[place] ^= dice[2] | 1;
            let cut = if number % 4 == 0 { place } else { delta.len() };
            // The last byte of a block may be another one, for it stands for a range.
            if let Ok((made, _)) = apply(&[&old], &new, &damaged[..cut], 4096) {
                assert!(made == new && cut == delta.len(), "{place}");
            }
        }
    }
}
