//! `search`: asks an index for images.

use super::formats::{self, choose};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, table_of};
use crate::units::ellipsis;
use api::client::Request;
use json::Deserialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use template::Value;

pub const COMMAND: Command = Command::new(
    &["search"],
    "[OPTIONS] TERM",
    "Search Docker Hub for images",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    formats::FILTER,
    Flag::text("format", "Pretty-print search using a Go template"),
    Flag::int("limit", "Max number of search results"),
    Flag::bool("no-trunc", "Don't truncate output"),
]])
.examples(&["search busybox", "search --filter is-official=true --limit 5 nginx"]);

const TITLES: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
];

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    star_count: i64,
    #[serde(default)]
    is_official: bool,
}

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let term = parsed.first();
    let host = match term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    };
    let mut filters: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for filter in parsed.list("filter") {
        if let Some((name, value)) = filter.split_once('=') {
            let values = filters.entry(name.trim().to_lowercase()).or_default();
            values.insert(value.trim().into(), true);
        }
    }
    // What is no number of results is not said, and the daemon's own limit counts.
    let limit = parsed.int("limit").filter(|limit| *limit > 0);
    let limit = limit.map(|limit| limit.to_string()).unwrap_or_default();
    let request = Request::get("/images/search")
        .query("term", term)
        .query_unless_empty("limit", &limit)
        .query_unless_empty("filters", &formats::filters_of(&filters))
        .header("X-Registry-Auth", cli.config.borrow().auth_header(host));
    let list: Vec<Found> = cli.client.send(request)?.json()?;
    let columns = ["Name", "Description", "StarCount", "IsOfficial"];
    let format = choose(cli, parsed, "", table_of(&columns), "{{.Name}}");
    let trunc = !parsed.bool("no-trunc");
    // A mark in a column, a word in JSON.
    let official = match format == "json" || format.contains("{{json .}}") {
        true => ["false", "true"],
        false => ["", "[OK]"],
    };
    let rows: Vec<Rc<Row>> = list.iter().map(|found| row(found, trunc, official)).collect();
    rows::write(cli, &format, TITLES, &rows)
}

fn row(found: &Found, trunc: bool, official: [&str; 2]) -> Rc<Row> {
    let text = found.description.replace(['\n', '\r'], " ");
    Rc::new(Row {
        kind: "*formatter.searchContext",
        fields: vec![
            ("Name", Value::str(&found.name)),
            (
                "Description",
                Value::str(if trunc { ellipsis(&text, 45) } else { text }),
            ),
            ("StarCount", Value::str(found.star_count.to_string())),
            ("IsOfficial", Value::str(official[usize::from(found.is_official)])),
        ],
        labels: None,
    })
}
