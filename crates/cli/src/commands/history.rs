//! `history`: the steps that made an image.

use super::formats;
use super::formats::choose;
use super::requests::{path, platform_json};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::rows::{self, Row, table_of};
use crate::units::{ago, ellipsis, short_id};
use api::client::Request;
use api::image::History;
use api::progress::human_precision;
use api::time::Time;
use std::rc::Rc;
use template::Value;

pub const COMMAND: Command = Command::new(
    &["image history", "history"],
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    Args::Exactly(1),
    run,
)
.flags(&[&[
    formats::TABLE,
    Flag::bool("human", "Print sizes and dates in human readable format")
        .short('H')
        .default("true"),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only show image IDs").short('q'),
    Flag::text(
        "platform",
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
]])
.examples(&["history busybox", "history --no-trunc --human=false busybox"]);

const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let (trunc, human) = (!parsed.bool("no-trunc"), parsed.bool_or("human", true));
    let created = if human { "CreatedSince" } else { "CreatedAt" };
    let format = choose(
        cli,
        parsed,
        "",
        table_of(&["ID", created, "CreatedBy", "Size", "Comment"]),
        "{{.ID}}",
    );
    let request = Request::get(path("images", parsed.first(), "history"));
    let request = request.query_unless_empty("platform", &platform_json(parsed.text("platform"))?);
    let list: Vec<History> = cli.client.send(request)?.json()?;
    let rows: Vec<Rc<Row>> = list.iter().map(|step| row(step, trunc, human)).collect();
    rows::write(cli, &format, TITLES, &rows)
}

fn row(step: &History, trunc: bool, human: bool) -> Rc<Row> {
    let at = Time {
        seconds: step.created,
        nanos: 0,
    }
    .to_rfc3339();
    let by = step.created_by.replace('\t', " ");
    Rc::new(Row {
        kind: "*formatter.historyContext",
        fields: vec![
            ("ID", Value::str(if trunc { short_id(&step.id) } else { &step.id })),
            ("CreatedAt", Value::str(&at)),
            (
                "CreatedSince",
                Value::str(if human { ago(step.created) } else { at.clone() }),
            ),
            ("CreatedBy", Value::str(if trunc { ellipsis(&by, 45) } else { by })),
            (
                "Size",
                Value::str(if human {
                    human_precision(step.size, 3)
                } else {
                    step.size.to_string()
                }),
            ),
            ("Comment", Value::str(&step.comment)),
        ],
        labels: None,
    })
}
