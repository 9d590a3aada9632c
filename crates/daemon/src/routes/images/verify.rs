//! `POST /images/verify`, ours: checks images against what was pulled. `name` (may come often; none for all), `deep`,
//! `repair`. A stream of progress lines; damage that is left is the error at its end.

use super::create::auth_of;
use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::Result;
use engine::progress::Progress;
use engine::verify;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "images/verify",
    run,
};

fn run(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let names = request.query.all("name").to_vec();
    let (deep, repair) = (request.query.flag("deep"), request.query.flag("repair"));
    let auth = auth_of(&request)?;
    let (engine, cancel) = (engine.clone(), request.cancel.clone());
    Ok(Answer::json_stream(move |out| {
        let late = super::Late::new(out);
        let progress = Progress::new(Box::new(late.clone()));
        let wanted = verify::Request {
            names: &names,
            deep,
            repair,
            auth,
        };
        verify::verify(&engine, &wanted, &progress, &cancel).inspect_err(|e| {
            // Before the first line the error is the answer, after it the last line.
            if late.begun() {
                progress.error(e);
            }
        })
    }))
}
