//! The direction of dependencies, as ARCHITECTURE.md has it: its table of floors, and the absent lines in `Cargo.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The floor of each crate: rows like "| 0 | `json` (`json-derive`) | …".
fn floors() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(checkout().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse().ok()?, cells.next()?))
    });
    let names = rows.flat_map(|(floor, names): (u32, &str)| {
        let names = names.split('`').skip(1).step_by(2);
        names.map(move |name| (name.to_string(), floor))
    });
    names.collect()
}

/// What a crate depends on, tests aside.
fn dependencies(manifest: &str) -> Vec<&str> {
    let (mut found, mut within) = (Vec::new(), false);
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            within = section.trim_end().ends_with("dependencies]") && !section.contains("dev-dependencies");
        } else if within && let Some(at) = line.find(['.', ' ', '=']).filter(|_| !line.starts_with('#')) {
            found.push(&line[..at]);
        }
    }
    found
}

/// The dependencies that point upwards, or across: only formats and mechanisms (floors 0 and 1) may know their like, of
/// whom cargo allows no circle.
fn wrong(name: &str, manifest: &str, floors: &BTreeMap<String, u32>) -> Vec<String> {
    let own = floors[name];
    let is_wrong = |on: &&str| match floors.get(*on) {
        Some(floor) => *floor > own || *floor == own && own > 1,
        None => false,
    };
    let wrong = dependencies(manifest).into_iter().filter(is_wrong);
    wrong
        .map(|on| format!("{name} (floor {own}) depends on {on} (floor {})", floors[on]))
        .collect()
}

#[test]
fn dependencies_point_downwards() {
    let floors = floors();
    let mut crates: Vec<String> = Vec::new();
    for entry in fs::read_dir(checkout().join("crates")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        assert!(floors.contains_key(&name), "{name} has no floor");
        assert_eq!(wrong(&name, &manifest, &floors), Vec::<String>::new());
        if name == "engine" {
            let calls = dependencies(&manifest)
                .into_iter()
                .find(|on| matches!(*on, "libc" | "rustix"));
            assert_eq!(calls, None, "the engine names no system call");
        }
        crates.push(name);
    }
    crates.sort();
    assert_eq!(
        crates,
        floors.into_keys().collect::<Vec<_>>(),
        "what has a floor is there"
    );
}

#[test]
fn what_points_elsewhere_is_found() {
    let floors = floors();
    assert_eq!((floors["cli"], floors["registry"], floors["json-derive"]), (2, 2, 0));
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# registry.workspace = true\noci.workspace = true\nengine = { path = \"../engine\" }\n\n[target.'cfg(unix)'.dependencies]\nstore.workspace = true\n\n[dev-dependencies]\nnetwork.workspace = true\n";
    assert_eq!(dependencies(manifest), ["oci", "engine", "store"]);
    assert_eq!(
        wrong("cli", manifest, &floors),
        [
            "cli (floor 2) depends on engine (floor 3)",
            "cli (floor 2) depends on store (floor 2)"
        ]
    );
    assert_eq!(wrong("daemon", manifest, &floors), Vec::<String>::new());
}
