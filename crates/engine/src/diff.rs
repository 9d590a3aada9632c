//! What a container changed in its image's files.

use crate::Engine;
use crate::error::Result;
use json::Serialize;

/// One change, as the API has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    path: String,
    kind: u8,
}

/// The changes, a directory before what is in it; nothing at all is `null` on the wire.
pub fn changes(engine: &Engine, name: &str) -> Result<Option<Vec<Change>>> {
    let container = engine.containers.find(name)?;
    let found = engine.store.rw.changes(container.id.as_str())?;
    let list: Vec<Change> = found
        .into_iter()
        .map(|change| Change {
            path: change.path.display().to_string(),
            kind: match change.kind {
                store::ChangeKind::Modified => 0,
                store::ChangeKind::Added => 1,
                store::ChangeKind::Deleted => 2,
            },
        })
        .collect();
    Ok(Some(list).filter(|list| !list.is_empty()))
}
