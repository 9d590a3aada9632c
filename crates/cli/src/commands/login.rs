//! `login`: checks credentials with a registry and keeps them.

use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::config::{Credentials, HUB};
use crate::flags::{Flag, Parsed};
use crate::terminal;
use api::client::Request;
use serde_json::{Value, json};
use std::io::Read;

/// No password is longer.
const MAX_SECRET: u64 = 64 * 1024;

pub const COMMAND: Command = Command::new(
    &["login"],
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    Args::AtMost(1),
    run,
)
.flags(&[&[
    Flag::text("password", "Password or Personal Access Token (PAT)").short('p'),
    Flag::bool(
        "password-stdin",
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    Flag::text("username", "Username").short('u'),
]])
.examples(&[
    "login registry.example",
    "login -u device --password-stdin registry.example",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let server = parsed
        .first()
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let (mut username, mut password) = (parsed.text("username").to_string(), parsed.text("password").to_string());
    if parsed.given("password") {
        cli.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if parsed.bool("password-stdin") {
            return Err(Failure::new("--password and --password-stdin are mutually exclusive"));
        }
    }
    if parsed.bool("password-stdin") {
        if username.is_empty() {
            return Err(Failure::new("Must provide --username with --password-stdin"));
        }
        std::io::stdin().take(MAX_SECRET).read_to_string(&mut password)?;
        password = password.trim_end_matches(['\r', '\n']).to_string();
    }
    let stored = cli
        .config
        .borrow()
        .credentials(if server.is_empty() { "docker.io" } else { server });
    let mut credentials = Credentials {
        username: username.clone(),
        password: password.clone(),
        ..Credentials::default()
    };
    if username.is_empty()
        && password.is_empty()
        && let Some(stored) = stored
    {
        cli.say("Authenticating with existing credentials...")?;
        credentials = stored;
    }
    if credentials.username.is_empty() || (credentials.password.is_empty() && credentials.identity_token.is_empty()) {
        if !terminal::is_input() {
            return Err(Failure::new(
                "Error: Cannot perform an interactive login from a non TTY device",
            ));
        }
        if credentials.username.is_empty() {
            cli.print("Username: ")?;
            username.clear();
            std::io::stdin().read_line(&mut username)?;
            credentials.username = username.trim().to_string();
        }
        cli.print("Password: ")?;
        credentials.password = terminal::read_secret()?;
        cli.say("")?;
        if credentials.username.is_empty() || credentials.password.is_empty() {
            return Err(Failure::new("username is empty"));
        }
    }
    let address = if server.is_empty() { HUB } else { server };
    let body = json!({
        "username": credentials.username, "password": credentials.password,
        "identitytoken": credentials.identity_token, "serveraddress": address,
    });
    let answer: Value = cli.client.send(Request::post("/auth").json(&body)?)?.json()?;
    if let Some(token) = answer["IdentityToken"].as_str().filter(|token| !token.is_empty()) {
        credentials.password.clear();
        credentials.identity_token = token.to_string();
    }
    let mut config = cli.config.borrow_mut();
    config.store(server, &credentials)?;
    let helped = config.has_helper(server);
    let unencrypted = format!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
        config.dir.join("config.json").display()
    );
    if !helped {
        cli.warn(unencrypted);
    }
    cli.say(
        answer["Status"]
            .as_str()
            .filter(|status| !status.is_empty())
            .unwrap_or("Login Succeeded"),
    )
}
