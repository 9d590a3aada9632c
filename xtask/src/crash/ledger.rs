//! The ledger that the driver keeps while it works: here only which operation went on at which length of the log.

use crate::command::Result;
use serde_json::Value;
use std::path::Path;

/// One operation.
#[derive(Debug)]
pub struct Span {
    /// Its kind: `pull`, `update by delta`, …
    pub what: String,
    /// The log's length when it began.
    pub begin: u64,
    /// And when it had returned.
    pub end: u64,
}

/// Reads all operations, in order.
pub fn spans(path: &Path) -> Result<Vec<Span>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let mut spans: Vec<Span> = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).map_err(|e| format!("read {}: {e}", path.display()))?;
        let position = line["position"].as_u64().unwrap_or(0);
        match (line["done"].as_bool(), line["what"].as_str()) {
            (Some(false), Some(what)) => spans.push(Span {
                what: what.to_owned(),
                begin: position,
                end: u64::MAX,
            }),
            // One after the other: it ends what began last.
            (Some(true), Some(what)) => {
                if let Some(last) = spans.last_mut().filter(|last| last.what == what) {
                    last.end = position;
                }
            }
            _ => return Err(format!("read {}: {line} is no line of it", path.display())),
        }
    }
    Ok(spans)
}

/// What went on at a length of the log.
pub fn at(spans: &[Span], position: u64) -> &str {
    let going_on = spans.iter().find(|span| (span.begin..=span.end).contains(&position));
    going_on.map_or("nothing", |span| &span.what)
}
