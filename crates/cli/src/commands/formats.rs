//! Flags and texts that commands which list or show things share.

use crate::cli::Cli;
use crate::flags::{Flag, Kind, Parsed};
use std::collections::BTreeMap;

pub const TABLE_HELP: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

pub const HELP: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// `--format` of lists.
pub const TABLE: Flag = Flag::text("format", TABLE_HELP);

/// `-f, --format` of what shows one thing.
pub const INSPECT: Flag = Flag::text("format", HELP).short('f');

/// `-f, --filter`.
pub const FILTER: Flag = Flag::new(
    "filter",
    Kind::List("filter"),
    "Filter output based on conditions provided",
)
.short('f')
.check(check_filter);

/// `--filter` of what removes things.
pub const PRUNE_FILTER: Flag = Flag::new(
    "filter",
    Kind::List("filter"),
    "Provide filter values (e.g. \"until=<timestamp>\")",
)
.check(check_filter);

pub fn check_filter(value: &str) -> Result<(), String> {
    if value.is_empty() || value.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".into())
}

/// The filters as the API takes them; empty if there are none.
pub fn filters(parsed: &Parsed) -> String {
    let mut map: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for filter in parsed.list("filter") {
        if let Some((name, value)) = filter.split_once('=') {
            map.entry(name.trim().to_lowercase())
                .or_default()
                .insert(value.trim().to_string(), true);
        }
    }
    filters_of(&map)
}

/// The same for filters that a command made itself.
pub fn filters_of(map: &BTreeMap<String, BTreeMap<String, bool>>) -> String {
    if map.is_empty() {
        String::new()
    } else {
        json::to_string(map)
    }
}

/// The format of a list: what was asked for, what is configured, else a table; `quiet` is for `-q` of a table.
pub fn choose(cli: &Cli, parsed: &Parsed, configured: &str, table: String, quiet: &str) -> String {
    let config = cli.config.borrow();
    let wanted = match parsed.text("format") {
        "" if !parsed.bool("quiet") && !configured.is_empty() => config.text(configured),
        wanted => wanted,
    };
    match wanted {
        "" | "table" if parsed.bool("quiet") && !quiet.is_empty() => quiet.to_string(),
        "" | "table" => table,
        wanted => wanted.to_string(),
    }
}

/// The old `raw` format: a line per field, and only the first of them with `-q`.
pub fn raw(format: String, parsed: &Parsed, lines: &[&str]) -> String {
    if format != "raw" {
        return format;
    }
    match lines {
        [first, ..] if parsed.bool("quiet") => (*first).to_string(),
        lines => format!("{}\n", lines.join("\n")),
    }
}

/// `a=1,b=2`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Orders names as people do: `web2` before `web10`.
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    loop {
        let (n, m) = (digits(a), digits(b));
        if n > 0 && m > 0 {
            let (x, y) = (a[..n].trim_start_matches('0'), b[..m].trim_start_matches('0'));
            let order = x.len().cmp(&y.len()).then(x.cmp(y)).then(n.cmp(&m));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[n..], &b[m..]);
            continue;
        }
        let (x, y) = (a.chars().next(), b.chars().next());
        match (x, y) {
            (Some(x), Some(y)) if x == y => (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]),
            (x, y) => return x.cmp(&y),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn people_order() {
        let mut names = ["web10", "web2", "a", "web02", "b1c"];
        names.sort_by(|a, b| super::natural(a, b));
        assert_eq!(names, ["a", "b1c", "web2", "web02", "web10"]);
    }
}
