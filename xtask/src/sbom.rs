//! What is in a binary, as CycloneDX 1.5: the packages that cargo links into `balena` for a target, with versions,
//! licences and checksums, and the C library, which is linked in too.

use crate::command::{Result, checkout, output, write};
use crate::dist::VERSION;
use crate::target::Target;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Writes the list for a target.
pub fn write_for(target: &Target, file: &Path) -> Result<()> {
    let text = output(Command::new("cargo").current_dir(checkout()).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        target.triple,
    ]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("read cargo's metadata: {e}"))?;
    let sums = checksums()?;
    let list = bill(&metadata, &sums, target.triple)?;
    let text = serde_json::to_string_pretty(&list).map_err(|e| format!("write {}: {e}", file.display()))?;
    write(file, text + "\n")
}

/// Name and version to the sha256 of the package as published, from Cargo.lock.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let path = checkout().join("Cargo.lock");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let mut sums = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let start = format!("{name} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|rest| rest.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) = (field("name"), field("version"), field("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    Ok(sums)
}

fn bill(metadata: &Value, sums: &BTreeMap<(String, String), String>, triple: &str) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let root = packages.iter().find(|(_, package)| package["name"] == "balena");
    let (root, _) = root.ok_or("cargo's metadata has no package balena")?;
    // What is linked: normal dependencies of normal dependencies. What only builds or tests is not in the binary.
    let (mut linked, mut todo) = (BTreeSet::new(), vec![*root]);
    let mut dependencies = Vec::new();
    while let Some(id) = todo.pop() {
        if !linked.insert(id) {
            continue;
        }
        let edges = nodes.get(id).map(|node| list(&node["deps"])).into_iter().flatten();
        let normal = edges.filter(|edge| list(&edge["dep_kinds"]).any(|kind| kind["kind"].is_null()));
        let on: Vec<&str> = normal.filter_map(|edge| edge["pkg"].as_str()).collect();
        let refs: Vec<String> = on.iter().map(|id| reference(&packages, id)).collect();
        dependencies.push(json!({"ref": reference(&packages, id), "dependsOn": refs}));
        todo.extend(on);
    }
    dependencies.sort_by(|a, b| a["ref"].as_str().cmp(&b["ref"].as_str()));
    let mut components: Vec<Value> = linked
        .iter()
        .filter(|id| *id != root)
        .filter_map(|id| packages.get(id))
        .map(|package| {
            component(
                package,
                &reference(&packages, package["id"].as_str().unwrap_or_default()),
                sums,
            )
        })
        .collect();
    components.push(json!({
        "type": "library", "name": "musl", "description": "C library, linked statically; from Debian's musl-dev",
        "licenses": [{"license": {"id": "MIT"}}],
    }));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": reference(&packages, root), "name": "balena", "version": VERSION,
                "licenses": [{"expression": "Apache-2.0"}],
                "properties": [{"name": "rust:target", "value": triple}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// How the list refers to a package: cargo's own identifiers would tell where the sources lay.
fn reference(packages: &BTreeMap<&str, &Value>, id: &str) -> String {
    let text = |name: &str| {
        packages
            .get(id)
            .and_then(|package| package[name].as_str())
            .unwrap_or("?")
    };
    format!("{}@{}", text("name"), text("version"))
}

fn component(package: &Value, reference: &str, sums: &BTreeMap<(String, String), String>) -> Value {
    let text = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("version"));
    let mut component = json!({
        "type": "library", "bom-ref": reference, "name": name, "version": version, "scope": "required",
    });
    // Old packages write a slash for OR.
    let license = text("license").replace('/', " OR ").replace("  ", " ");
    if !license.is_empty() {
        component["licenses"] = json!([{"expression": license}]);
    }
    if !package["source"].is_null() {
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
    }
    if let Some(sum) = sums.get(&(name, version)) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
