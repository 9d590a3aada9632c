//! Container names: which are allowed, and a friendly one where the user gave none.

use crate::error::{Error, Result};
use crate::id::random_hex;

const LEFT: &[&str] = &[
    "agile", "airy", "amber", "ample", "apt", "avid", "balmy", "blithe", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "cheery", "clear", "clever", "cosy", "crisp", "dapper", "deft", "eager", "early", "earnest", "fair",
    "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "handy", "hardy", "hearty", "honest",
    "humble", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild",
    "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "prime", "proud", "quick", "quiet",
    "ready", "robust", "rosy", "sage", "serene", "sharp", "silent", "sleek", "smart", "snug", "solid", "spry",
    "stable", "staunch", "steady", "still", "stout", "sturdy", "sunny", "swift", "tidy", "tranquil", "trusty", "vivid",
    "warm", "wise", "witty", "young", "zesty",
];

const RIGHT: &[&str] = &[
    "albatross",
    "anchor",
    "atoll",
    "baleen",
    "barge",
    "bay",
    "beacon",
    "beluga",
    "bowhead",
    "bowsprit",
    "breaker",
    "buoy",
    "cachalot",
    "calf",
    "cape",
    "capstan",
    "cetacean",
    "cliff",
    "clipper",
    "compass",
    "coral",
    "cove",
    "current",
    "cutter",
    "delta",
    "dinghy",
    "dolphin",
    "dory",
    "drift",
    "eddy",
    "estuary",
    "ferry",
    "fin",
    "fjord",
    "fluke",
    "frigate",
    "gale",
    "galley",
    "gannet",
    "grampus",
    "gull",
    "gulf",
    "halyard",
    "harbour",
    "helm",
    "humpback",
    "inlet",
    "islet",
    "jetty",
    "kayak",
    "keel",
    "kelp",
    "ketch",
    "krill",
    "lagoon",
    "lantern",
    "lighthouse",
    "mainsail",
    "mariner",
    "mast",
    "minke",
    "moorage",
    "narwhal",
    "orca",
    "osprey",
    "otter",
    "pelican",
    "petrel",
    "pier",
    "pilot",
    "plankton",
    "pod",
    "porpoise",
    "prow",
    "puffin",
    "quay",
    "reef",
    "rorqual",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "shoal",
    "skiff",
    "sloop",
    "spinnaker",
    "strait",
    "surf",
    "swell",
    "tern",
    "tide",
    "tiller",
    "trawler",
    "turbine",
    "vaquita",
    "wake",
    "wave",
    "whale",
    "wharf",
    "yawl",
];

/// A random name; `attempt` above zero adds a digit, so that a full house does not matter.
pub fn random(attempt: u32) -> Result<String> {
    let hex = random_hex(4)?;
    let number = usize::try_from(u32::from_str_radix(&hex, 16).unwrap_or(0)).unwrap_or(0);
    let (left, right) = (LEFT[number % LEFT.len()], RIGHT[number / LEFT.len() % RIGHT.len()]);
    Ok(if attempt == 0 {
        format!("{left}_{right}")
    } else {
        format!("{left}_{right}{}", number % 10)
    })
}

/// Checks a name that a user chose; a leading `/` is dropped as Docker does.
pub fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let bytes = bare.as_bytes();
    let ok = bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok {
        return Ok(bare);
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_allowed_names() {
        for attempt in [0, 1] {
            let name = random(attempt).unwrap();
            assert_eq!(check(&name).unwrap(), name);
        }
    }

    #[test]
    fn what_is_a_name() {
        assert_eq!(check("/web").unwrap(), "web");
        for bad in ["", "a", "/", "-a", "a b", "a/b", "é1", "..", "a\n"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
