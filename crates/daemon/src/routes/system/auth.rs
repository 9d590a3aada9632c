//! `POST /auth`: checks credentials with a registry.

use crate::route::{Answer, Request, Route};
use engine::Engine;
use engine::error::{Error, Kind, Result};
use registry::Auth;
use std::sync::Arc;

pub const ROUTE: Route = Route {
    method: "POST",
    path: "auth",
    run,
};

#[derive(json::Deserialize, Default)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    serveraddress: String,
    identitytoken: String,
}

fn run(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let login: Login = request.json()?;
    let auth = match (login.identitytoken.as_str(), login.username.as_str()) {
        ("", "") => Auth::Anonymous,
        ("", _) => Auth::Basic {
            user: login.username,
            password: login.password,
        },
        (token, _) => Auth::IdentityToken(token.to_owned()),
    };
    let token = engine.registry().login(&login.serveraddress, auth).map_err(|e| {
        let kind = match e.kind() {
            registry::ErrorKind::Denied => Kind::Unauthorized,
            _ => Kind::Internal,
        };
        Error::new(kind, e.to_string())
    })?;
    Answer::json(
        &serde_json::json!({"Status": "Login Succeeded", "IdentityToken": token.unwrap_or(login.identitytoken)}),
    )
}
