//! `POST /commit`: makes an image from a container.

use super::create::reference;
use crate::route::{Answer, Request, Route};
use api::container::ContainerConfig;
use engine::Engine;
use engine::commit;
use engine::error::Result;
use serde_json::json;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "commit",
    run,
};

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let config: Option<ContainerConfig> = request.json_or_default()?;
    let query = &request.query;
    let wanted = commit::Request {
        container: query.text("container").to_string(),
        reference: match query.text("repo") {
            "" => None,
            repository => Some(reference(repository, query.text("tag"))?),
        },
        comment: query.text("comment").to_string(),
        author: query.text("author").to_string(),
        // Not said means yes.
        pause: query.get("pause").is_none() || query.flag("pause"),
        changes: query.all("changes").to_vec(),
        config,
    };
    let id = commit::commit(engine, &wanted)?;
    Answer::json_status(201, &json!({"Id": id.as_str()}))
}
