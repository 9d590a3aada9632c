//! Which crate a binary's code comes from, read from the linker's map of it.
//!
//! One function counts for the crate that wrote it, also where another crate's types made the copy. Data, tables of
//! the unwinder and relocations are not attributed: they have no names.

use crate::command::Result;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of code by crate, largest first.
pub fn of_map(file: &Path) -> Result<Vec<(String, u64)>> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("read {}: {e}", file.display()))?;
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for (size, place) in text.lines().filter_map(input_section) {
        *sizes.entry(crate_of(place)).or_default() += size;
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(sizes)
}

/// Size and place of a section of code: `VMA LMA SIZE ALIGN    FILE:(.text.NAME)`, numbers in hexadecimal but ALIGN.
fn input_section(line: &str) -> Option<(u64, &str)> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_start();
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let (_, _, size, _) = (word()?, word()?, word()?, word()?);
    let place = rest.trim();
    (place.contains(":(.text")).then_some((u64::from_str_radix(size, 16).ok()?, place))
}

/// The first crate that a mangled name names; else the library that the section's file is in.
fn crate_of(place: &str) -> String {
    let (file, section) = place.split_once(":(").unwrap_or((place, ""));
    if let Some(at) = section.find("_R")
        && let Some(name) = first_crate(&section[at..])
    {
        return name.to_owned();
    }
    let archive = file.split_once('(').map_or(file, |(archive, _)| archive);
    let name = archive.rsplit('/').next().unwrap_or(archive);
    let name = name.trim_start_matches("lib");
    let end = name.find(['-', '.']).unwrap_or(name.len());
    match &name[..end] {
        "c" => "musl".to_owned(),
        "unwind" => "unwinder".to_owned(),
        other => other.to_owned(),
    }
}

/// A crate's root in Rust's mangling v0 is `C`, a disambiguator `s…_`, then its name with its length before it.
/// Source: RFC 2603.
fn first_crate(symbol: &str) -> Option<&str> {
    let mut rest = symbol;
    while let Some(at) = rest.find("Cs") {
        rest = &rest[at + 2..];
        let (disambiguator, name) = rest.split_once('_')?;
        let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
        if digits == 0 || !disambiguator.bytes().all(|b| b.is_ascii_alphanumeric()) {
            continue;
        }
        let length: usize = name[..digits].parse().ok()?;
        let name = name[digits..].strip_prefix('_').unwrap_or(&name[digits..]);
        return name.get(..length);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_a_map() {
        let line = "  173f10   173f10      2c3     4         /b/balena-1.o:(.text._RNvCs12ab_6engine4pull)";
        assert_eq!(input_section(line).map(|(size, _)| size), Some(0x2c3));
        assert_eq!(
            input_section("     VMA      LMA     Size Align Out     In      Symbol"),
            None
        );
        assert_eq!(input_section("  1 2 3 4 /b/x.o:(.rodata)"), None);
    }

    #[test]
    fn crates_of_places() {
        for (place, want) in [
            ("/b/balena-1.o:(.text._RNvCs12ab_6engine4pull)", "engine"),
            (
                "/b/balena-1.o:(.text._RINvNtCsxyz_4core3ptr13drop_in_placeNtCs1_5tokio3NetE)",
                "core",
            ),
            ("/b/libring-12.rlib(aes.o):(.text)", "ring"),
            ("/b/libc.a(memcpy.lo):(.text.memcpy)", "musl"),
        ] {
            assert_eq!(crate_of(place), want, "{place}");
        }
    }
}
